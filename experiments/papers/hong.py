"""Hong et al. (2021): Figures 1 to 13, Tables 1 to 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from papers.item import Item, nothing

TITLE = "Hong et al. 2021 (papers/000)"
SKIES = (
    "clusters of our halo-model light cone, not of N-body simulations; filters of 19 pixels, not 49"
)
FIGURES = ("hong_figures.json", "hong_figures.png")
OF_VARIANTS = (
    "hong.py --methods cnn --name hong_variants --weights "
    "'runs/hong/*/*/hong.npz,jaxmap/data/hong_clusters.npz'"
)
TRAINED = (
    "`python experiments/hong_runs.py experiments/training/hong_variants.toml` and the other "
    "trainings that this file names (a minute each on an H100)"
)
VARIANTS = (
    "clusters of our halo-model light cone, not of N-body simulations; trained on 24 000 fields "
    "each where the paper's saw 200 000, at another learning rate; 4 channels and no skip with "
    "filters of 19; run time with all maps kept"
)


def of_paper(rows: dict[str, Any]) -> dict[str, Any]:
    """Kaiser-Squires and the networks, with the width of their filters and their loss."""
    return {name: row for name, row in rows.items() if name == "ks" or name.startswith("cnn")}


def called(name: str) -> str:
    """A method as in the paper, with the width of a network's filters and its loss."""
    kind, *more = name.split()
    return " ".join([kind.upper() if kind in ("ks", "cnn") else kind, *more])


def _table(kind: str, *more: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        rows = of_paper(figures[kind])
        return "; ".join(
            f"{called(name)}: D {row['D']['mean']:.2f}, "
            f"mass ratio {row['mass_ratio']['median']:.3f}"
            + (f", offset {row['offset_arcmin']['median']:.2f} arcmin" if more else "")
            for name, row in rows.items()
        )

    return told


def _variants(figures: Any) -> str:
    def told(row: Any) -> str:
        if "runs" not in row:
            return f"{row['D']['mean']:.2f}, {row['mass_ratio']['median']:.3f}"
        runs = row["runs"]["mean_and_std"]
        return "{:.2f} ± {:.2f}, {:.3f} ± {:.3f}".format(*runs["D"], *runs["mass_ratio"])

    stars = figures["stars"]
    rows = (
        f"{called(name)}{' (ten runs)' * ('runs' in row)}: {told(row)} ({told(stars[name])})"
        for name, row in figures["clear"].items()
    )
    return f"{figures['fields']} fields, D, mass ratio (behind stars): {'; '.join(rows)}"


def _pixels(*columns: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        rows = {name: figures[name] for name in ("truth", "ks", "cnn")}
        return "; ".join(
            f"{called(name)}: "
            + ", ".join(
                f"{column} {row[column][0]:.4f} ± {row[column][1]:.4f}" for column in columns
            )
            for name, row in rows.items()
            if name != "truth" or "skewness" in columns
        )

    return told


def _d(figures: Any) -> str:
    rows = {name: figures[name]["D"] for name in ("ks", "cnn")}
    return "; ".join(
        f"{called(name)}: D {mean:.2f} ± {std:.2f}" for name, (mean, std) in rows.items()
    )


def _offsets(figures: Any) -> str:
    rows = {name: figures[name]["offset_pixels"] for name in ("ks", "cnn")}
    return "; ".join(
        f"{called(name)}: median {row['massive']:.1f} pixels above mass 35, "
        f"{row['others']:.1f} below; {row['catastrophic']:.0%} lost (above 10)"
        for name, row in rows.items()
    )


def _correlation(figures: Any) -> str:
    rows = {name: row["correlation"] for name, row in of_paper(figures["clear"]).items()}
    return "correlation with the truth, all fields: " + ", ".join(
        f"{mean:.3f} ± {error:.3f} ({called(name)})" for name, (mean, error) in rows.items()
    )


def _merger(figures: Any) -> str:
    rows = figures["el_gordo_like"]
    return "highest convergence, and that between the haloes: " + ", ".join(
        f"{rows[name]['highest']:.2f}, {rows[name]['between_the_haloes']:.2f} ({called(name)})"
        for name in ("truth", "ks", "cnn")
    )


def _null_test(figures: Any) -> str:
    rows = figures["null_test"]
    return "; ".join(
        f"{called(name)}: mean mass {row['mean_and_error_by_offset']['0.0'][0]:.2f} ± "
        f"{row['mean_and_error_by_offset']['0.0'][1]:.2f}, skewness {row['skewness']:.2f} ± "
        f"{row['skewness_error']:.2f}, 99 % at {row['percentiles_1_50_99'][2]:.1f}"
        for name, row in rows.items()
    )


ITEMS: list[Item] = [
    Item("Fig. 1, Table 1, architecture", "benchmarks/hong_network.py",
         ("../benchmarks/results/hong_network.json",), "drawing",
         lambda f: f"{f['parameters']['49']:,} parameters with filters of 49",
         "a drawing; the layers are `jaxmap/networks/hong.py`"),
    Item("Fig. 2, one reconstruction", "hong.py", ("hong.json", "hong_maps.png"), "picture",
         _correlation, SKIES),
    Item("Fig. 3, distribution of convergence", "hong_figures.py", FIGURES,
         "the network has the tail of the truth, KS has none",
         _pixels("std", "skewness"), SKIES),
    Item("Fig. 4, joint with the truth", "hong_figures.py", FIGURES,
         "correlated, high values underestimated", _pixels("correlation", "high"),
         f"{SKIES}; high: mean of the map where the truth exceeds 0.15, over the truth's"),
    Item("Fig. 5, joint, normalised", "hong_figures.py", FIGURES,
         "D 6.26 ± 4.57 (KS), 4.36 ± 3.77 (CNN)", _d, SKIES),
    Item("Fig. 6, masses", "hong.py", ("hong.json", "hong.png"),
         "mass ratio 0.484 (KS), 0.867 (CNN)", _table("clear"), SKIES),
    *(Item(f"Fig. {number}, {what}", "hong_figures.py", FIGURES, text, _offsets,
           SKIES) for number, what, text in (
               (7, "offsets of peaks against mass", "1 to 3 pixels for massive clusters; KS "
                "catastrophic (above 50) for many others"),
               (8, "offsets of CNN against KS", "KS far off for many where the CNN is not"))),
    Item("Fig. 9, bright stars, one field", "hong.py", ("hong.json", "hong_maps.png"),
         "picture", nothing, SKIES),
    Item("Fig. 10, bright stars, all", "hong.py", ("hong.json", "hong.png"),
         "mass ratio 0.554 (CNN)", _table("stars"),
         f"{SKIES}; masses and offsets, not the pixels within the masks"),
    Item("Fig. 11, El Gordo", "hong_checks.py", ("hong_checks.json", "hong_el_gordo.png"),
         "above 0.4 expected, in the range of the CNN's map; KS too low, with a bridge",
         _merger, "two NFW haloes of its masses: the HST catalogue of Kim et al. (2021) is not "
         "among the public files; the picture has one network where the paper has the mean of "
         "ten"),
    Item("Fig. 12, null test", "hong_checks.py", ("hong_checks.json", "hong_checks.png"),
         "KS symmetric about 0, CNN skewed, its tail at 10", _null_test,
         "other error of measurement of the galaxies' shapes; filters of 19 pixels, not 49"),
    Item("Fig. 13, architectures", OF_VARIANTS,
         ("hong_variants.json", "hong_variants_maps.png", "hong_variants.png"),
         "much alike, but for no skip, which is blurred", nothing, VARIANTS, TRAINED),
    Item("Table 2, Table 3, KS and CNN", "hong.py", ("hong.json",),
         "D 6.26 (KS), 4.36 (CNN); mass ratio 0.484, 0.867; offset 4.27, 0.60 arcmin",
         _table("clear", "offset"), f"{SKIES}; the shipped network"),
    Item("Table 2, Table 4, CNN with bright stars", "hong.py", ("hong.json",),
         "D 3.66; mass ratio 0.554; offset 1.53 arcmin", _table("stars", "offset"),
         f"{SKIES}; the shipped network"),
    Item("Table 3, Table 4, other architectures", OF_VARIANTS,
         ("hong_variants.json",),
         "D 4.09 to 4.62, mass ratio 0.720 to 0.789 (without skips 5.04, -1.329); behind stars "
         "4.22 to 4.93, 0.386 to 0.448", _variants, VARIANTS, TRAINED),
]  # fmt: skip
