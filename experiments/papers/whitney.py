"""Whitney et al. (2024), slides: reconstructions, their std, number of samples."""

from __future__ import annotations

from typing import Any

from papers.item import Item

TITLE = "Whitney et al. 2024, slides (papers/004)"
SAMPLER = "our sampler and learned prior, not their GAN"


def _gan(figures: Any) -> str:
    told = (
        f"{row['spread_over_error']['value']:.2f} ({name})"
        for name, row in figures["variants"].items()
    )
    return "spread of samples over their error: " + ", ".join(told)


def _variability(figures: Any) -> str:
    told = ", ".join(
        f"{row['std_scatter']:.2f} ({row['number']})"
        for row in figures["by_number"][:-1]
        if row["std_scatter"] is not None
    )
    return f"relative error of the standard deviation of few samples: {told}"


def _numbers(figures: Any) -> str:
    rows = {row["number"]: row for row in figures["by_number"]}
    told = ", ".join(
        f"{rows[n]['rmse']:.4f} ({n}; ideal {rows[n]['ideal']:.4f})"
        for n in (1, 4, 16)
        if n in rows
    )
    return f"rms error of the mean: {told}, {rows[max(rows)]['rmse']:.4f} ({max(rows)})"


ITEMS: list[Item] = [
    Item("Simulations: reconstruction, std", "posterior.py",
         ("posterior.json", "posterior_table1.png"), "picture",
         lambda f: f"error over std {1 / f['table1']['mean_of_samples']['std_over_error']:.2f}",
         SAMPLER),
    Item("COSMOS: reconstruction, std", "posterior.py",
         ("posterior.json", "posterior_cosmos.png"), "picture with X-ray clusters",
         lambda f: f"S/N at {f['cosmos']['clusters']['num_clusters']} clusters above random "
         f"places: {f['cosmos']['clusters']['e_mode_excess_sigma']:.1f}σ", SAMPLER),
    Item("Seconds a sample", "posterior.py", ("posterior.json",), "below 1, on a GPU",
         lambda f: f"{f['cost']['seconds_per_sample']:.1f} at 360², on CPU",
         SAMPLER),
    Item("Seconds a sample, on a GPU",
         "posterior.py --weights runs/wider/denoiser.npz --out DIR", ("posterior_gpu.json",),
         "below 1",
         lambda f: f"{f['cost']['seconds_per_sample']:.2g} at 360², in batches of 8",
         f"{SAMPLER}; an H100 beside other work, with the larger network of `wider_network.py`",
         "`jaxmap train experiments/training/cosmos_wider.toml --out runs/wider`"),
    Item("Regulariser", "gan_ablation.py", ("gan_ablation.json", "gan_ablation.png"),
         "keeps the generator from collapsing", _gan, "small Gaussian fields of known "
         "posterior; on COSMOS it was trained for 500 steps only (`training/gan_benchmark.toml`)"),
    *(Item(what, "number_of_samples.py",
           ("number_of_samples.json", "number_of_samples.png"), "picture", ours,
           f"{SAMPLER}; fields of 64² pixels")
      for what, ours in (("Variability of samples", _variability),
                         ("Effect of the number of samples", _numbers))),
]  # fmt: skip
