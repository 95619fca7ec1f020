"""Ho et al. (2019): Figures 2 to 10, Tables 1 to 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamics_published import LABELS, TABLE1, TABLE2, TABLE3, TABLE4
from papers.item import Item, nothing

TITLE = "Ho et al. 2019 (papers/003)"
MOCKS = "synthetic halo-model clusters, not MDPL2, which is not public as a whole"
FIGURES = ("ho_figures.json", "ho_figures.png")
DYNAMICS = ("dynamics.json",)
NETWORKS = ("cnn1d", "cnn2d")


def _relation(fit: dict[str, float]) -> str:
    return f"{fit['sigma15_km_s']:.0f} km/s, {fit['alpha']:.3f}, scatter {fit['scatter']:.3f}"


def _m_sigma(*views: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        return _of_each({v: _relation(figures["table1"][v]["without_hz"]) for v in views})

    return told


def _of_each(texts: dict[str, str]) -> str:
    """Texts by name; of one the text alone."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{LABELS.get(name, name)}: {text}" for name, text in texts.items())


def _masses(figures: Any) -> str:
    return f"{figures['num_train']:,} clusters to train, {figures['num_test']:,} to test"


def _losses(figures: Any) -> str:
    return _of_each({name: _loss(figures[name]) for name in NETWORKS})


def _loss(row: dict[str, list[float]]) -> str:
    held_out, training = row["validation_loss"], row["training_loss"]
    return f"held out {held_out[0]:.4f} to {held_out[-1]:.4f}, training {training[-1]:.4f}"


def _columns(row: dict[str, float], *columns: str) -> str:
    return ", ".join(f"{column} {row[column]:.3f}" for column in columns)


def _folds(*columns: str) -> Callable[[Any], str]:
    """Figures of the networks in the table of ten folds."""
    return lambda figures: _of_each(
        {name: _columns(figures["table2"][name], *columns) for name in NETWORKS}
    )


def _published(*columns: str) -> str:
    """The same of the paper."""
    return _of_each({name: _columns(TABLE2[name], *columns) for name in NETWORKS})


def _table2(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        row = figures["table2"][name]
        return ", ".join(
            f"{column} {row[column]:.3f}"
            + (f" ± {row[f'{column}_spread']:.3f}" if f"{column}_spread" in row else "")
            for column in ("median", "scatter")
        )

    return told


def _shipped(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        return _columns(figures["models"][name], "median", "scatter")

    return told


def _table3(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        fit = figures["table3"][name]["quadrature"]
        return ", ".join(f"{one} {fit[one]['mean']:.2f}" for one in TABLE3[name])

    return told


def _table4(*names: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        means, single = figures["table4"], figures["table4_single"]
        return _of_each(
            {
                name: f"{_drift(means[name])} (mean of ten draws), {_drift(single[name])} (one)"
                for name in names
            }
        )

    return told


def _drift(row: dict[str, float]) -> str:
    return f"drift {row['median']:.3f}, width {row['width']:.3f}"


ITEMS: list[Item] = [
    Item("Fig. 2, masses", "dynamics.py", (*DYNAMICS, "dynamics_masses.png"), "picture", _masses,
         MOCKS),
    Item("Fig. 3, input images", "ho_figures.py", FIGURES, "picture", nothing, MOCKS),
    Item("Fig. 4, architecture", "", (), "drawing", nothing,
         "a drawing; the layers are `jaxmap/networks/phase_space.py`"),
    Item("Fig. 5, loss against epoch", "ho_figures.py", FIGURES,
         "falls throughout; held out below training, which has dropout", _losses,
         f"{MOCKS}; fewer of them"),
    *(Item(f"Fig. {number}, {what}", "dynamics.py", (*DYNAMICS, f"dynamics_{picture}.png"),
           published, ours, MOCKS)
      for number, what, picture, published, ours in (
          (6, "M-sigma", "masses",
           _of_each({view: _relation(fit) for view, fit in TABLE1.items()}), _m_sigma(*TABLE1)),
          (7, "predicted against true", "residuals", _published("median", "scatter"),
           _folds("median", "scatter")),
          (8, "residuals", "residuals", _published("low", "median", "high"),
           _folds("low", "median", "high")),
          (9, "normalised residuals", "residuals", _published("skewness", "kurtosis"),
           _folds("skewness", "kurtosis")),
          (10, "subsampled deviation", "robustness",
           _of_each({name: _drift(TABLE4[name]) for name in NETWORKS}), _table4(*NETWORKS)))),
    *(Item(f"Table 1, M-sigma, {view}", "dynamics.py", DYNAMICS, _relation(fit), _m_sigma(view),
           MOCKS) for view, fit in TABLE1.items()),
    *(item for name, row in TABLE2.items() for item in (
          Item(f"Table 2, {LABELS[name]}", "dynamics.py", DYNAMICS,
               _columns(row, "median", "scatter"), _table2(name),
               f"{MOCKS}; ten folds, ± over seeds; all columns in `dynamics.md`"),
          Item(f"Table 2, {LABELS[name]}, as shipped", "-m jaxmap dynamics evaluate --quick "
               "--json experiments/results/dynamics_quick.json", ("dynamics_quick.json",),
               _columns(row, "median", "scatter"), _shipped(name),
               f"{MOCKS}; 2000 clusters of 1e14 to 1e15"))),
    *(Item(f"Table 3, {LABELS[name]}", "dynamics.py", DYNAMICS,
           ", ".join(f"{one} {value:.2f}" for one, value in row.items()), _table3(name),
           f"{MOCKS}; variance sigma0² + sigma1² 100/N, for Eq. 13 is not legible in our copy")
      for name, row in TABLE3.items()),
    *(Item(f"Table 4, {LABELS[name]}", "dynamics.py", DYNAMICS, _drift(row), _table4(name),
           f"{MOCKS}; the published width is like that of one draw")
      for name, row in TABLE4.items()),
]  # fmt: skip
