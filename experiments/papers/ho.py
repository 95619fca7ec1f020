"""Ho et al. (2019): Figures 2 to 10, Tables 1 to 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from papers.item import Item, nothing

TITLE = "Ho et al. 2019 (papers/003)"
MOCKS = "synthetic halo-model clusters, not MDPL2, which is not public as a whole"
FIGURES = ("ho_figures.json", "ho_figures.png")
DYNAMICS = ("dynamics.json",)


def _m_sigma(view: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        fit = figures["table1"][view]["without_hz"]
        return f"{fit['sigma15_km_s']:.0f} km/s, {fit['alpha']:.3f}, scatter {fit['scatter']:.3f}"

    return told


def _m_sigma_figure(figures: Any) -> str:
    return f"pure: {_m_sigma('pure')(figures)}; contaminated: {_m_sigma('contaminated')(figures)}"


def _masses(figures: Any) -> str:
    return f"{figures['num_train']:,} clusters to train, {figures['num_test']:,} to test"


def _losses(figures: Any) -> str:
    return "; ".join(
        f"{name}: held out {figures[name]['validation_loss'][0]:.4f} to "
        f"{figures[name]['validation_loss'][-1]:.4f}, training "
        f"{figures[name]['training_loss'][-1]:.4f}"
        for name in ("cnn1d", "cnn2d")
    )


def _folds(*columns: str) -> Callable[[Any], str]:
    """Figures of the networks in the table of ten folds."""

    def told(figures: Any) -> str:
        rows = {name: figures["table2"][name] for name in ("cnn1d", "cnn2d")}
        return "; ".join(
            f"{name}: " + ", ".join(f"{column} {row[column]:.3f}" for column in columns)
            for name, row in rows.items()
        )

    return told


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
        row = figures["models"][name]
        return f"median {row['median']:.3f}, scatter {row['scatter']:.3f}"

    return told


def _table3(name: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        fit = figures["table3"][name]["quadrature"]
        return ", ".join(f"{one} {fit[one]['mean']:.2f}" for one in fit)

    return told


def _table4(*names: str) -> Callable[[Any], str]:
    def told(figures: Any) -> str:
        rows = {name: figures["table4"][name] for name in names}
        return "; ".join(
            (f"{name}: " if len(names) > 1 else "")
            + f"drift {row['median']:.3f}, width {row['width']:.3f} (mean of ten draws), "
            f"{figures['table4_single'][name]['median']:.3f}, "
            f"{figures['table4_single'][name]['width']:.3f} (one draw)"
            for name, row in rows.items()
        )

    return told


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
           "picture", ours, MOCKS)
      for number, what, picture, ours in (
          (6, "M-sigma", "masses", _m_sigma_figure),
          (7, "predicted against true", "residuals", _folds("median", "scatter")),
          (8, "residuals", "residuals", _folds("low", "median", "high")),
          (9, "normalised residuals", "residuals", _folds("skewness", "kurtosis")),
          (10, "subsampled deviation", "robustness", _table4("cnn1d", "cnn2d")))),
    *(Item(f"Table 1, M-sigma, {view}", "dynamics.py", DYNAMICS, text, _m_sigma(view), MOCKS)
      for view, text in (
          ("pure", "1078 km/s, 0.345, scatter 0.056"),
          ("contaminated", "971 km/s, 0.254, scatter 0.059"))),
    *(item for name, label, text in (
          ("cnn1d", "CNN1D", "median -0.003, scatter 0.174"),
          ("cnn2d", "CNN2D", "median -0.003, scatter 0.132"),
          ("m_sigma_pure", "M-sigma, pure", "median 0.006, scatter 0.193"),
          ("m_sigma_contaminated", "M-sigma, contaminated", "median -0.016, scatter 0.316"),
          ("sdm1d", "SDM1D", "median -0.039, scatter 0.226"),
          ("sdm2d", "SDM2D", "median -0.018, scatter 0.159"))
      for item in (
          Item(f"Table 2, {label}", "dynamics.py", DYNAMICS, text, _table2(name),
               f"{MOCKS}; ten folds, ± over seeds; all columns in `dynamics.md`"),
          Item(f"Table 2, {label}, as shipped", "-m jaxmap dynamics evaluate --quick --json "
               "experiments/results/dynamics_quick.json", ("dynamics_quick.json",), text,
               _shipped(name), f"{MOCKS}; 2000 clusters of 1e14 to 1e15"))),
    *(Item(f"Table 3, {name.upper()}", "dynamics.py", DYNAMICS, text, _table3(name), MOCKS)
      for name, text in (
          ("cnn1d", "mu0 0.01, sigma0 0.15, sigma1 0.05, alpha0 1.00"),
          ("cnn2d", "mu0 0.03, sigma0 0.11, sigma1 0.05, alpha0 1.00"))),
    *(Item(f"Table 4, {label}", "dynamics.py", DYNAMICS, text, _table4(name),
           f"{MOCKS}; the published width is like that of one draw")
      for name, label, text in (
          ("cnn1d", "CNN1D", "drift -0.049, width 0.168"),
          ("cnn2d", "CNN2D", "drift -0.026, width 0.126"),
          ("m_sigma_pure", "M-sigma, pure", "drift 0.005, width 0.179"),
          ("m_sigma_contaminated", "M-sigma, contaminated", "drift 0.006, width 0.216"),
          ("sdm1d", "SDM1D", "drift 0.017, width 0.244"),
          ("sdm2d", "SDM2D", "drift -0.013, width 0.268"))),
]  # fmt: skip
