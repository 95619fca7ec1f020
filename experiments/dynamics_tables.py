"""Tables 1 to 4 of Ho et al. (2019) on synthetic clusters, beside the published values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from dynamics_published import BANDS, COLUMNS, LABELS, TABLE2

HEADS = ("median", "+84 %", "-16 %", "scatter", "skewness", "kurtosis", "count bias")


def with_spread(name: str, rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean over seeds and standard deviation, beside the published values."""
    found: dict[str, Any] = {}
    for column in COLUMNS:
        values = np.array([row[column] for row in rows])
        found[column] = float(values.mean())
        if len(values) > 1:
            found[f"{column}_spread"] = float(values.std(ddof=1))
    return {**found, "published": TABLE2[name.removesuffix("_raw")]}


def targets(scatter: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Which of the targets hold, in how many seeds.

    Args:
        scatter: of every method, one value for each seed.
    """
    num = len(next(iter(scatter.values())))
    by_seed = [{name: values[i] for name, values in scatter.items()} for i in range(num)]
    orders = {
        "contaminated M-sigma is worst": lambda s: max(s, key=s.get) == "m_sigma_contaminated",
        "CNN2D is best": lambda s: min(s, key=s.get) == "cnn2d",
        "SDM1D > SDM2D": lambda s: s["sdm1d"] > s["sdm2d"],
        "CNN1D > CNN2D": lambda s: s["cnn1d"] > s["cnn2d"],
        "CNN2D < half of contaminated M-sigma": lambda s: (
            s["cnn2d"] < 0.5 * s["m_sigma_contaminated"]
        ),
        **{
            f"{LABELS[name]} within {low} to {high} dex": (
                lambda s, n=name, a=low, b=high: a <= s[n] <= b
            )
            for name, (low, high) in BANDS.items()
        },
    }
    found = {name: sum(map(bool, map(holds, by_seed))) for name, holds in orders.items()}
    return {"seeds": num, "held_in": found}


def as_markdown(figures: dict[str, Any]) -> str:
    """The tables as Markdown, ours ± the standard deviation over seeds, published in brackets."""
    seeds = figures["seeds"]
    count = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds, ± their standard deviation"
    parts = [
        "# Tables 1 to 4 of Ho et al. (2019), on synthetic clusters\n",
        "Made by `python experiments/dynamics.py`. Halo-model mocks, **not MDPL2**: the published "
        "values, in brackets, are for orientation and not reproduced. "
        f"{figures['num_train']:,} projections to train on, {figures['num_test']:,} to test, three "
        f"lines of sight a halo, ten folds of halos; {count}.\n",
        _table1(figures["table1"]),
        _contaminated(figures["contaminated"]),
        _table2(figures["table2"]),
        _targets(figures["targets"]),
        _table3(figures["table3"]),
        _table4(figures["table4"], figures["table4_single"]),
        _reference(figures["reference"]),
    ]
    return "\n".join(parts)


def _grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    lines = [f"## {title}\n", *([note + "\n"] if note else [])]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _table1(table: dict[str, Any]) -> str:
    rows = []
    for view, fits in table.items():
        for label, which in (("with h(z)", "with_hz"), ("without", "without_hz")):
            fit, then = fits[which], fits["published"]
            rows.append(
                (
                    f"{view}, {label}",
                    f"{fit['sigma15_km_s']:.0f} ± {fit['sigma15_std']:.0f} "
                    f"({then['sigma15_km_s']})",
                    f"{fit['alpha']:.3f} ± {fit['alpha_std']:.3f} ({then['alpha']})",
                    f"{fit['scatter']:.3f} ({then['scatter']})",
                )
            )
    return _grid(
        "Table 1: M-sigma above 10^14.5 Msun/h",
        ("catalogue", "σ15 [km/s]", "α", "scatter of log σ [dex]"),
        rows,
        "First seed, bootstrap errors. The public code fits without h(z), the text has it.",
    )


def _contaminated(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{row['sigma15_km_s']:.0f}",
            f"{row['alpha']:.3f}",
            f"{row['scatter']:.3f}",
            f"{row['median']:.3f}",
            f"{row['mass_scatter']:.3f}",
        )
        for name, row in found.items()
    ]
    return _grid(
        "Why the contaminated relation is flat",
        ("fitted to", "σ15 [km/s]", "α", "scatter of log σ", "median residual", "its scatter"),
        rows,
        "First seed, without h(z); residuals of the contaminated test clusters with each relation.",
    )


def _table2(table: dict[str, Any]) -> str:
    rows = []
    for name, row in table.items():
        cells = [LABELS.get(name) or f"{LABELS[name.removesuffix('_raw')]}, inputs not scaled"]
        for column in COLUMNS:
            scale, digits = (100, 1) if column == "count_bias" else (1, 3)
            spread = row.get(f"{column}_spread")
            text = f"{scale * row[column]:.{digits}f}"
            text += "" if spread is None else f" ± {scale * spread:.{digits}f}"
            cells.append(f"{text} ({scale * row['published'][column]:.{digits}f})")
        rows.append(cells)
    return _grid(
        "Table 2: residuals, 10^14 to 10^15 Msun/h",
        ("method", *HEADS),
        rows,
        "In dex; count bias in per cent, of which the paper gives the size only.",
    )


def _targets(found: dict[str, Any]) -> str:
    rows = [(name, f"{count} of {found['seeds']}") for name, count in found["held_in"].items()]
    return _grid("Targets that were set before", ("target", "seeds that hold it"), rows)


def _table3(table: dict[str, Any]) -> str:
    names = ("mu0", "sigma0", "sigma1", "alpha0")
    rows = [
        (
            f"{LABELS[method]}, {form}",
            *(f"{fits[form][n]['mean']:.3f} ± {fits[form][n]['std']:.3f}"
              f" ({fits['published'][n]:.2f})" for n in names),
        )
        for method, fits in table.items() for form in ("quadrature", "sum")
    ]  # fmt: skip
    return _grid(
        "Table 3: dependence on mass and richness",
        ("method, form of eq. 13", "μ0", "σ0", "σ1", "α0"),
        rows,
        "First seed, ± standard deviation of the posterior. Equation 13 is not legible in the text "
        "that we have: σ0² + σ1² (100/N) and σ0 + σ1 (100/N) are both given.",
    )


def _table4(table: dict[str, Any], single: dict[str, Any]) -> str:
    rows = [
        (
            LABELS[name],
            *(
                f"{one[name][what]:.3f}" + ("" if one is table else f" ({row['published'][what]})")
                for what in ("median", "width")
                for one in (table, single)
            ),
        )
        for name, row in table.items() if name in LABELS
    ]  # fmt: skip
    return _grid(
        "Table 4: drift when 60 to 80 % of the galaxies are observed",
        ("method", "median, ten draws", "one draw", "16-84 range, ten draws", "one draw"),
        rows,
        "Shipped estimators, in dex. By the text the mass is the mean of ten subsamples. The "
        "published ranges are like those of one: 70 % of 40 galaxies change a Gaussian dispersion "
        "by sqrt[(1/0.7 - 1)/80] = 0.073, which is 0.09 dex in mass and a range of 0.19.",
    )


def _reference(found: dict[str, float]) -> str:
    rows = [
        (
            LABELS[name],
            *(f"{found[f'{name}_{way}']:.3f}" for way in ("landmarks", "all", "nu_svr")),
            f"{found[f'{name}_landmarks'] - found[f'{name}_all']:+.3f}",
        )
        for name in ("sdm1d", "sdm2d")
    ]
    return _grid(
        "SDM: landmarks against the published regression",
        (
            "method",
            "landmarks, a fifth of the clusters",
            "all pairs",
            "nu-SVR, transductive",
            "landmarks less all pairs (target: within 0.01)",
        ),
        rows,
        "Scatter in dex over the same test clusters, spread evenly over log10 mass; 1000 to train, "
        "1000 to test, one seed (standard error 2 %, mostly common to all three).",
    )
