"""The table of the papers' tables and figures in experiments/README.md, from the results' JSON.

``python experiments/index.py`` writes it anew; ``--check`` fails if that would change anything.
Figures of ours are read from ``results/``, never typed; those published are the papers'.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from papers import ho, hong, remy, whitney
from papers.item import Item

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- papers: made by index.py -->\n", "<!-- end of papers -->\n"

<<<<<<< HEAD
REMY = "Remy et al. 2023 (papers/002)"
HO = "Ho et al. 2019 (papers/003)"
HONG = "Hong et al. 2021 (papers/000)"
WHITNEY = "Whitney et al. 2024, slides (papers/004)"


class Item(NamedTuple):
    """A table or figure of a paper.

    Args:
        name: its name there and what it shows.
        script: that makes it here, in ``experiments/``, with flags; empty if there is none.
        outputs: files in ``results/``, the JSON first.
        published: the paper's figures, in words.
        ours: words from the JSON.
        why: what differs and why, or why there is nothing.
    """

    name: str
    script: str
    outputs: tuple[str, ...]
    published: str
    ours: Callable[[Any], str]
    why: str


def _score(row: dict[str, float]) -> str:
    return f"{row['rmse_A'] * 100:.2f}e-2, {row['r_A']:.2f}"


def _plus(value: dict[str, float], digits: int = 3) -> str:
    error = value.get("standard_error", value.get("error", 0.0))
    return f"{value['value']:.{digits}f} ± {error:.{digits}f}"


def _estimator(name: str) -> Callable[[Any], str]:
    return lambda figures: _score(figures["table1"][name])


def _fig6(figures: Any) -> str:
    power = figures["table1"]["mean_of_samples"]["power"]
    ratios = [mean / prior for mean, prior in zip(power["mean"], power["prior"], strict=True)]
    used = [ratio for ell, ratio in zip(power["ell"], ratios, strict=True) if ell > 1000]
    return f"power of samples over the prior's, ell > 1000: {min(used):.2f} to {max(used):.2f}"


def _fig11(figures: Any) -> str:
    power = figures["cosmos"]["diagnostics"]["power"]
    rows = zip(power["ell"], power["mean"], power["prior"], strict=True)
    used = [mean / prior for ell, mean, prior in rows if ell > 1000]
    return f"COSMOS samples over the prior, ell > 1000: {min(used):.2f} to {max(used):.2f}"


def _fig9(figures: Any) -> str:
    rows = figures["eps"]["by_mass"]
    told = [f"{row['5_sigma'][0]:.2f} (S/N {row['snr'][0]:.1f})" for row in rows[1:]]
    return "share of samples above 5σ: " + ", ".join(told)


def _fig8(figures: Any) -> str:
    rows = {row["mass"]: row for row in figures["eps"]["by_mass"]}
    told = [f"{rows[mass]['3_sigma'][0]:.2f}" for mass in (0.0, 9e13, 3e14, 6e14)]
    return "share above 3σ at 0, 0.9, 3 and 6e14 Msun: " + ", ".join(told)


def _swiss_roll(figures: Any) -> str:
    rows = figures["swiss_roll"]["wide_noise"]
    return "steepness at σ = 0.1: " + ", ".join(
        f"{rows[name]['sigma_0.1']['steepness']:.1f} ({name.replace('_', ' ')})"
        for name in ("no_limit", "limit_3", "limit_2")
    )


def _two_moons(figures: Any) -> str:
    row = figures["two_moons"]
    learned, exact = row["square_error_learned"], row["square_error_exact"]
    return f"square error {_plus(learned)}, with the exact score {_plus(exact)}"


def _annealing(figures: Any) -> str:
    row = figures["two_moons"]
    return (
        f"{row['finished']} of {row['num_chains']} chains arrive; energy distance z "
        f"{row['energy_distance_z']:.1f}, without annealing "
        f"{row['energy_distance_z_without_annealing']:.0f}"
    )


def _gaussian(figures: Any) -> str:
    row = figures["samplers"]["eps, 9 evaluations"]
    return (
        f"std over exact {row['std_observed']['value']:.4f} (observed), "
        f"{row['std_masked']['value']:.4f} (masked); bias in std "
        f"{max(row['bias'].values()):.0e}"
    )


def _m_sigma(view: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        fit = figures["table1"][view]["without_hz"]
        return f"{fit['sigma15_km_s']:.0f} km/s, {fit['alpha']:.3f}, scatter {fit['scatter']:.3f}"

    return told


def _table2(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        row = figures["models"][name]
        return f"median {row['median']:.3f}, scatter {row['scatter']:.3f}"

    return told


def _ten_folds(figures: Any) -> str:
    rows = figures["table2"].items()
    return ", ".join(f"{row['scatter']:.3f} ({name})" for name, row in rows if "_raw" not in name)


def _table4(figures: Any) -> str:
    mean, one = (figures[name]["cnn2d"] for name in ("table4", "table4_single"))
    return (
        f"CNN2D: drift {mean['median']:.3f}, scatter {mean['width']:.3f} (mean of ten draws), "
        f"{one['median']:.3f}, {one['width']:.3f} (one draw)"
    )


def _table3(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        fit = figures["table3"][name]["quadrature"]
        return ", ".join(f"{one} {fit[one]['mean']:.2f}" for one in fit)

    return told


def _hong(kind: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        rows = {n: row for n, row in figures[kind].items() if n == "ks" or n.startswith("cnn")}
        return "; ".join(
            f"{name}: D {row['D']['mean']:.2f}, mass ratio {row['mass_ratio']['median']:.3f}"
            for name, row in rows.items()
        )

    return told


def _hong_null(figures: Any) -> str:
    rows = figures["null_test"]
    number = rows["cnn"]["catalogues"]
    told = (f"{n} {row['skewness']:.2f} ± {row['skewness_error']:.2f}" for n, row in rows.items())
    return f"skewness, {number} catalogues: {', '.join(told)}"


def _nothing(_: Any) -> str:
    return "see the picture"


def _gan(figures: Any) -> str:
    told = (
        f"{row['spread_over_error']['value']:.2f} ({name})"
        for name, row in figures["variants"].items()
    )
    return "spread of samples over their error: " + ", ".join(told)


NOISE = "one map and noise draw; "
MOCKS = "synthetic halo-model clusters, not MDPL2, which is not public as a whole"
SKIES = "clusters of our halo-model light cone, not of N-body simulations"
EPS = "diffusion under the exact posterior score instead of annealed HMC"

PAPERS: dict[str, list[Item]] = {
    REMY: [
        Item("Fig. 1, two moons denoised", "score_toys.py",
             ("score_toys.json", "score_toys.png"), "picture", _two_moons, "same experiment"),
        Item("Fig. 2, annealing on two moons", "annealing.py",
             ("annealing.json", "annealing.png"), "picture", _annealing,
             "same; also judged by an energy distance"),
        Item("Fig. 3, Gaussian and learned denoiser", "remy_figures.py",
             ("remy_figures.json", "remy_fig3.png"), "picture",
             lambda f: f"rms error {f['figure_3']['rms_Gaussian']:.4f} (Gaussian), "
             f"{f['figure_3']['rms_learned']:.4f} (learned), rms of the map "
             f"{f['figure_3']['rms_of_truth']:.4f}",
             "ours is one network for both parts, trained on the halo light cone, not on kTNG"),
        Item("Fig. 4, n(z) of COSMOS", "remy_figures.py",
             ("remy_figures.json", "remy_fig4.png"), "picture",
             lambda f: f"mean {f['figure_4']['mean']:.2f}, median {f['figure_4']['median']:.2f}",
             "digitised; the redshifts of the catalogue are not among the public files"),
        Item("Fig. 5, Wiener filter and samples of a Gaussian prior", "gaussian_samplers.py",
             ("gaussian_samplers.json", "gaussian_samplers.png"), "agree", _gaussian,
             f"{EPS}; against the exact law, with controls"),
        Item("Fig. 6, power of the samples", "posterior.py",
             ("posterior.json", "posterior_power.png"), "agree with the theory", _fig6,
             "the kTNG map itself has less power than the theory at high ell"),
        Item("Fig. 7, mean, std and samples", "posterior.py",
             ("posterior.json", "posterior_table1.png"), "error over std 1.16 (digitised)",
             lambda f: "error over std "
             f"{1 / f['table1']['mean_of_samples']['std_over_error']:.2f}",
             f"{EPS}; 64 samples where the paper has 400"),
        Item("Fig. 8, heights of filtered clusters", "cluster_detection.py",
             ("cluster_detection.json", "cluster_detection.png"), "histograms", _fig8,
             "field of 128² pixels; background of fields without the cluster (Eq. 30)"),
        Item("Fig. 9, detections against S/N", "cluster_detection.py",
             ("cluster_detection.json", "cluster_detection.png"), "rises from 0 to 1", _fig9,
             "10 fields; S/N as the paper defines it depends on the pixel"),
        Item("Fig. 10, COSMOS with X-ray clusters", "posterior.py",
             ("posterior.json", "posterior_cosmos.png"), "picture",
             lambda f: f"S/N at {f['cosmos']['clusters']['num_clusters']} clusters above random "
             f"places: {f['cosmos']['clusters']['e_mode_excess_sigma']:.1f}σ (E), "
             f"{f['cosmos']['clusters']['b_mode_excess_sigma']:.1f}σ (B)",
             "tangent plane, north up; the released Kaiser-Squires panel has an extra noise draw"),
        Item("Fig. 11, power of COSMOS samples", "posterior.py",
             ("posterior.json", "posterior_power.png"), "agree with simulations", _fig11,
             "samples are too smooth far from all data, in the margin around the field"),
        Item("Fig. C.1, spectral normalisation", "score_toys.py",
             ("score_toys.json", "score_toys.png"), "picture", _swiss_roll, "same experiment"),
        Item("Fig. E.1, signal against noise", "remy_figures.py",
             ("remy_figures.json", "remy_figE1.png"), "0.1 at ell = 1e4",
             lambda f: "0.1 at ell = "
             f"{f['figure_E1']['as the paper counts']['ell_of_0.1']:.0f}, "
             f"{f['figure_E1']['per unmasked area']['ell_of_0.1']:.0f} with the density per "
             "unmasked area", "the paper divides the galaxies by the bounding box"),
        Item("Fig. F.1, stamps of samples", "cluster_detection.py",
             ("cluster_detection.json", "cluster_detection_stamps.png"), "picture", _nothing,
             "as Fig. 8"),
        Item("Fig. G.1, all methods", "estimators.py",
             ("estimators.json", "estimators_g1.png"), "picture", _nothing, "as Table 1"),
        Item("Table 1, Kaiser-Squires", "table1.py", ("table1.json",), "2.40e-2, 0.57",
             lambda f: _score(f["methods"]["ks"]), "same"),
        Item("Table 1, Wiener filter", "table1.py", ("table1.json",), "2.31e-2, 0.61",
             lambda f: _score(f["methods"]["wiener"]),
             "ours is the exact solution for this noise and mask"),
        Item("Table 1, GLIMPSE", "estimators.py", ("estimators.json",), "2.84e-2, 0.42 (3σ)",
             _estimator("glimpse"), "5σ, the best on other fields; " + NOISE + "metric A moves "
             "with the mean of the map"),
        Item("Table 1, MCALens", "estimators.py", ("estimators.json",), "2.19e-2, 0.67",
             _estimator("mcalens"), "solved to the optimum; on this map nothing passes 4σ"),
        Item("Table 1, DeepMass", "denoiser.py --table1", ("denoiser.json",), "2.18e-2, 0.68",
             _estimator("deepmass"), "trained on our simulations for any survey, not on kTNG"),
        Item("Table 1, mean of posterior samples", "posterior.py", ("posterior.json",),
             "2.16e-2, 0.68", lambda f: _score(f["table1"]["mean_of_samples"]),
             "64 samples where the paper has 400; " + NOISE + EPS),
    ],
    HO: [
        Item("Fig. 2, masses", "dynamics.py", ("dynamics.json", "dynamics_masses.png"), "picture",
             _nothing, MOCKS),
        Item("Fig. 3, input images", "", (), "picture", _nothing,
             "no script: the images are `jaxmap.dynamics.images`, shown in the notebook on "
             "dynamical masses as points"),
        Item("Fig. 4, architecture", "", (), "drawing", _nothing,
             "a drawing; the layers are `jaxmap/networks/phase_space.py`"),
        Item("Fig. 5, loss against epoch", "", (), "picture", _nothing,
             "not drawn; a training is `jaxmap dynamics train`"),
        *(Item(f"Fig. {number}, {what}", "dynamics.py",
               ("dynamics.json", f"dynamics_{picture}.png"), "picture", _nothing, MOCKS)
          for number, what, picture in (
              (6, "M-sigma", "masses"), (7, "predicted against true", "residuals"),
              (8, "residuals", "residuals"), (9, "normalised residuals", "residuals"),
              (10, "subsampled deviation", "robustness"))),
        *(Item(f"Table 1, M-sigma, {view}", "dynamics.py", ("dynamics.json",), text,
               _m_sigma(view), MOCKS) for view, text in (
                   ("pure", "1078 km/s, 0.345, scatter 0.056"),
                   ("contaminated", "971 km/s, 0.254, scatter 0.059"))),
        *(Item(f"Table 2, {label}", "-m jaxmap dynamics evaluate --quick --json "
               "experiments/results/dynamics_quick.json", ("dynamics_quick.json",), text,
               _table2(name), MOCKS + "; shipped estimators, 2000 clusters of 1e14 to 1e15")
          for name, label, text in (
              ("cnn1d", "CNN1D", "median -0.003, scatter 0.174"),
              ("cnn2d", "CNN2D", "median -0.003, scatter 0.132"),
              ("m_sigma_pure", "M-sigma, pure", "median 0.006, scatter 0.193"),
              ("m_sigma_contaminated", "M-sigma, contaminated", "median -0.016, scatter 0.316"),
              ("sdm1d", "SDM1D", "median -0.039, scatter 0.226"),
              ("sdm2d", "SDM2D", "median -0.018, scatter 0.159"))),
        Item("Table 2, ten folds, scatter", "dynamics.py", ("dynamics.json",), "as above",
             _ten_folds, f"{MOCKS}; mean of five seeds; all columns in `dynamics.md`"),
        *(Item(f"Table 3, {name.upper()}", "dynamics.py", ("dynamics.json",), text,
               _table3(name), MOCKS) for name, text in (
                   ("cnn1d", "mu0 0.01, sigma0 0.15, sigma1 0.05, alpha0 1.00"),
                   ("cnn2d", "mu0 0.03, sigma0 0.11, sigma1 0.05, alpha0 1.00"))),
        Item("Table 4, robustness", "dynamics.py", ("dynamics.json", "dynamics_robustness.png"),
             "CNN2D: drift -0.026, scatter 0.126", _table4,
             f"{MOCKS}; the published scatter is like that of one draw; all methods in "
             "`dynamics.md`"),
    ],
    HONG: [
        Item("Fig. 2, one reconstruction", "hong.py", ("hong.json", "hong_maps.png"), "picture",
             _nothing, SKIES),
        *(Item(f"Fig. {number}, {what}", "hong.py", ("hong.json", "hong_pixels.png"), "picture",
               _nothing, SKIES) for number, what in (
                   (3, "distribution of convergence"), (4, "joint with the truth"))),
        Item("Fig. 5, joint, normalised", "", (), "picture", _nothing, "not drawn"),
        *(Item(f"Fig. {number}, {what}", "hong.py", ("hong.json", "hong.png"), "picture",
               _hong("clear"), SKIES) for number, what in (
                   (6, "masses"), (7, "peak positions"), (8, "peak positions, KS"))),
        Item("Fig. 9, bright stars, one field", "hong.py", ("hong.json", "hong_maps.png"),
             "picture", _nothing, SKIES),
        Item("Fig. 10, bright stars, all", "hong.py", ("hong.json", "hong.png"), "picture",
             _hong("stars"), SKIES),
        Item("Fig. 11, El Gordo", "hong_checks.py", ("hong_checks.json", "hong_el_gordo.png"),
             "picture", _nothing, "two NFW haloes of about its masses: the HST catalogue of Kim "
             "et al. (2021) is not among the public files"),
        Item("Fig. 12, null test", "hong_checks.py", ("hong_checks.json", "hong_checks.png"),
             "KS symmetric, CNN skewed to positive masses", _hong_null, SKIES),
        Item("Fig. 13, architectures", "", (), "picture", _nothing,
             "not done: a training for each architecture, hours on a GPU"),
        Item("Table 2, Table 3, KS and CNN", "hong.py", ("hong.json",),
             "D 6.26 (KS), 4.36 (CNN); mass ratio 0.484, 0.867", _hong("clear"),
             f"{SKIES}; one architecture"),
        Item("Table 2, Table 4, CNN with bright stars", "hong.py", ("hong.json",),
             "D 3.66; mass ratio 0.554", _hong("stars"), f"{SKIES}; one architecture"),
    ],
    WHITNEY: [
        Item("Reconstruction, std", "gan_ablation.py", ("gan_ablation.json", "gan_ablation.png"),
             "picture", _gan, "small Gaussian fields of known posterior; the training for COSMOS "
             "is `training/gan_cosmos.toml`, hours on a GPU, its weights not shipped"),
        Item("Effect of the number of samples", "", (), "picture", _nothing,
             "for our sampler: the error of the mean falls as the spread over √n "
             "(`one_shot_from_mean_in_std` in `posterior.json`)"),
    ],
}  # fmt: skip
=======
PAPERS = {paper.TITLE: paper.ITEMS for paper in (remy, ho, hong, whitney)}
>>>>>>> 80b8d463a5f05c00e526c7a88ed4bb1318474708


def table(items: list[Item], results: Path = RESULTS) -> list[str]:
    """Rows of Markdown; where a result is missing, the reason and how to make it."""
    lines = [
        "| item | command | output | published | ours | why different |",
        "|---|---|---|---|---|---|",
    ]
    for item in items:
        command = f"`python experiments/{item.script}`" if item.script else "none"
        if item.script.startswith("-m"):
            command = f"`python {item.script}`"
        there = [name for name in item.outputs if (results / name).exists()]
        ours = "none"
        if item.outputs and item.outputs[0] in there:
            ours = item.ours(json.loads((results / item.outputs[0]).read_text()))
        elif item.script:
            ours = "not run yet: its results are not committed"
        output = ", ".join(f"[{Path(name).name}](results/{name})" for name in there) or "none"
        cells = (item.name, command, output, item.published, ours, item.why)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def section(results: Path = RESULTS) -> str:
    """All papers, as between the marks of the README."""
    parts = []
    for paper, items in PAPERS.items():
        parts += [f"### {paper}", "", *table(items, results), ""]
    return "\n".join(parts)


def renewed(text: str) -> str:
    """The README with the section made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{section()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say whether it is up to date")
    options = parser.parse_args()
    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    new = renewed(text)
    if options.check:
        return int(text != new)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
