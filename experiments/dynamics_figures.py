"""Pictures of `dynamics.py`: Figures 2 and 6 to 10 of Ho et al. (2019), on synthetic clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import new_figure
from dynamics_methods import Catalogues
from dynamics_published import LABELS, TABLE1, TABLE4

from jaxmap.dynamics.dispersion import dispersions
from jaxmap.dynamics.mock_recipe import halo_table

MASS = r"$\log_{10}\,M_{200c}\,[M_\odot/h]$"
COLOURS = {
    "m_sigma_pure": "tab:purple",
    "m_sigma_contaminated": "tab:orange",
    "sdm1d": "goldenrod",
    "sdm2d": "deeppink",
    "cnn1d": "tab:green",
    "cnn2d": "tab:blue",
}
PAIRS = {
    "M-sigma": ("m_sigma_pure", "m_sigma_contaminated", "cnn1d", "cnn2d"),
    "SDM": ("sdm1d", "sdm2d", "cnn1d", "cnn2d"),
}
"""The paper compares its networks with each of the two on panels of their own."""
EDGES = np.arange(14, 15.01, 0.1)


def draw_all(folder: Path, shown: Catalogues, kept: dict[str, np.ndarray], figures: dict) -> None:
    """Write ``dynamics_masses.png`` (Fig. 2, 6), ``_residuals.png`` (7-9) and ``_robustness.png``.

    Args:
        folder: to write to.
        shown: the clusters of one seed.
        kept: their residuals by method.
        figures: of all seeds.
    """
    figure = new_figure(14, 4.4)
    axes = figure.subplots(1, 3)
    _mass_functions(axes[0], shown)
    for axis, view in zip(axes[1:], TABLE1, strict=True):
        _relation(axis, shown, view, figures["table1"][view])
    figure.tight_layout()
    figure.savefig(folder / "dynamics_masses.png", dpi=110)

    figure = new_figure(14, 17)
    figure.set_layout_engine("constrained")
    rows = figure.subfigures(3, 1, height_ratios=(1.2, 1.6, 1))
    axes = rows[0].subplots(2, 2, sharex=True, sharey="row", height_ratios=(2, 1))
    for column, name in enumerate(("cnn1d", "cnn2d")):
        _predicted(axes[:, column], shown.test.contaminated.log10_mass, kept[name], name)
    rows[0].suptitle("Fig. 7: masses by the networks (median, 16-84 %, 3-97 %)")
    _residuals(rows[1], shown, kept)
    _normalised(rows[2], kept)
    figure.savefig(folder / "dynamics_residuals.png", dpi=100)

    figure = new_figure(12, 4.6)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (what, names) in zip(axes, PAIRS.items(), strict=True):
        _drift(axis, figures["table4"], figures["table4_single"], names)
        axis.set(title=f"Fig. 10: networks and {what}", xlabel="share of the galaxies observed, r")
    axes[0].set_ylabel(r"$\epsilon^{(r)}$ [dex]")
    figure.tight_layout()
    figure.savefig(folder / "dynamics_robustness.png", dpi=110)


def _mass_functions(axis: Any, shown: Catalogues) -> None:
    edges = np.arange(13.5, 15.31, 0.1)
    for label, one in (("training", shown.train), ("test", shown.test)):
        axis.hist(one.contaminated.log10_mass, edges, histtype="step", log=True, label=label)
    table = halo_table()
    centre = 0.5 * (edges[1:] + edges[:-1])
    theory = np.exp(np.interp(centre, table.log10_mass, np.log(table.per_dex)))
    tested = (centre > 14) & (centre < 15)
    scale = len(shown.test.contaminated) / theory[tested].sum()
    axis.plot(centre, scale * theory, "k:", label="Tinker et al. (2008)")
    axis.set(
        title="Fig. 2: masses",
        xlabel=MASS,
        ylabel="projections per 0.1 dex",
        ylim=(10, 2 * scale * theory.max()),
    )
    axis.legend()


def _relation(axis: Any, shown: Catalogues, view: str, fits: dict[str, Any]) -> None:
    members = getattr(shown.train, view)
    centre, percentiles = _percentiles(
        members.log10_mass, dispersions(members), np.arange(13.5, 15.31, 0.1)
    )
    _bands(axis, centre, percentiles, "tab:blue", "clusters")
    ours, published = fits["without_hz"], TABLE1[view]
    for label, fit, colour in (("fit", ours, "k"), ("published fit", published, "tab:red")):
        level = np.log10(fit["sigma15_km_s"]) + fit["alpha"] * (centre - 15)
        axis.plot(centre, 10**level, ls="--", color=colour, label=label)
        if fit is ours:
            for side in (-1, 1):
                axis.plot(centre, 10 ** (level + side * fit["scatter"]), color="k", lw=0.5)
    axis.axvline(14.5, color="k", ls=":", lw=1)
    axis.set(
        title=f"Fig. 6: M-sigma, {view}",
        xlabel=MASS,
        ylabel=r"$\sigma_v$ [km/s]",
        yscale="log",
        ylim=(150, 2000),
    )
    axis.set_yticks([200, 500, 1000, 2000], ["200", "500", "1000", "2000"])
    axis.minorticks_off()
    axis.legend(loc="lower right")


def _predicted(axes: Any, mass: np.ndarray, residual: np.ndarray, name: str) -> None:
    _bands(axes[0], *_percentiles(mass, mass + residual, EDGES), COLOURS[name], LABELS[name])
    axes[0].plot([14, 15], [14, 15], "k:", lw=1)
    axes[0].set(ylabel="estimated " + MASS, xlim=(14, 15), ylim=(13.4, 15.4))
    axes[0].legend(loc="upper left")
    _bands(axes[1], *_percentiles(mass, residual, EDGES), COLOURS[name], LABELS[name])
    axes[1].axhline(0, color="k", ls=":", lw=1)
    axes[1].set(xlabel="true " + MASS, ylabel=r"$\epsilon$ [dex]", ylim=(-0.6, 0.6))


def _residuals(figure: Any, shown: Catalogues, kept: dict[str, np.ndarray]) -> None:
    axes = figure.subplots(2, 2, sharey=True, width_ratios=(2, 1))
    for row, (what, names) in zip(axes, PAIRS.items(), strict=True):
        for place, name in enumerate(names):
            view = shown.test.pure if name == "m_sigma_pure" else shown.test.contaminated
            centre, found = _percentiles(view.log10_mass, kept[name], EDGES)
            middle, error = found[:, 2], np.abs(found[:, [1, 3]] - found[:, [2]]).T
            row[0].errorbar(
                centre + 0.012 * (place - 1.5), middle, error, fmt="o-", ms=3, capsize=2,
                color=COLOURS[name], label=LABELS[name],
            )  # fmt: skip
            row[1].hist(
                kept[name], np.arange(-1.2, 1.21, 0.05), histtype="step", density=True,
                orientation="horizontal", color=COLOURS[name],
            )  # fmt: skip
        row[0].axhline(0, color="k", ls=":", lw=1)
        row[0].set(ylabel=r"$\epsilon$ [dex]", ylim=(-1.1, 1.1), title=f"networks and {what}")
        row[0].legend(ncols=2, loc="lower left")
    axes[1, 0].set_xlabel("true " + MASS)
    axes[1, 1].set_xlabel("density, all masses")
    figure.suptitle("Fig. 8: residuals (median, 16-84 %)")


def _normalised(figure: Any, kept: dict[str, np.ndarray]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    x = np.linspace(-4, 4, 201)
    for axis, (what, names) in zip(axes, PAIRS.items(), strict=True):
        for name in names:
            scatter = kept[name].std()
            axis.hist(
                (kept[name] - kept[name].mean()) / scatter, np.linspace(-4, 4, 41),
                histtype="step", density=True, color=COLOURS[name],
                label=f"{LABELS[name]}, {scatter:.3f} dex",
            )  # fmt: skip
        axis.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), "k:", lw=1, label="Gaussian")
        axis.set(xlabel=r"$(\epsilon - \langle\epsilon\rangle)/\sigma_\epsilon$", title=what)
        axis.legend(fontsize=8, loc="upper right")
    axes[0].set_ylabel("density")
    figure.suptitle("Fig. 9: normalised residuals")


def _drift(
    axis: Any, table4: dict[str, Any], single: dict[str, Any], names: tuple[str, ...]
) -> None:
    rates = np.array(table4["rates"])
    for name in names:
        low, median, high = np.array(table4[name]["curve"]).T
        published = TABLE4[name]["width"]
        axis.fill_between(rates, low, high, color=COLOURS[name], alpha=0.2, lw=0)
        axis.plot(
            rates, median, "o-", ms=3, color=COLOURS[name],
            label=f"{LABELS[name]}: {table4[name]['width']:.3f}, one draw "
            f"{single[name]['width']:.3f}, published {published:.3f}",
        )  # fmt: skip
    axis.axhline(0, color="k", ls=":", lw=1)
    axis.axvspan(0.6, 0.8, color="k", alpha=0.07, lw=0)
    axis.set(xlim=(0, 1), ylim=(-1, 0.6))
    title = "16-84 range at 0.6 to 0.8 [dex], mean of ten draws"
    axis.legend(fontsize=8, loc="lower right", title=title)


def _percentiles(
    mass: np.ndarray, values: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of bins of mass, and 3, 16, 50, 84 and 97 % of the values in them."""
    where = np.digitize(mass, edges) - 1
    bins = [i for i in range(len(edges) - 1) if np.sum(where == i) >= 5]
    found = [np.percentile(values[where == i], [3, 16, 50, 84, 97]) for i in bins]
    return 0.5 * (edges[1:] + edges[:-1])[bins], np.array(found)


def _bands(axis: Any, x: np.ndarray, percentiles: np.ndarray, colour: str, label: str) -> None:
    for low, high, alpha in ((0, 4, 0.2), (1, 3, 0.35)):
        axis.fill_between(
            x, percentiles[:, low], percentiles[:, high], color=colour, alpha=alpha, lw=0
        )
    axis.plot(x, percentiles[:, 2], color=colour, label=label)
