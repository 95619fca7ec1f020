"""Pages and pictures of the documentation that are made: reference, model cards, figures.

Every number in them is read from ``experiments/results`` or from the weights.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import survey_pages
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

import jaxmap
from jaxmap.clusters import halo_shear, nfw_halo
from jaxmap.cosmology import inverse_critical_density
from jaxmap.networks.weights import read_weights
from jaxmap.reading.surveys import ROLES

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
BENCHMARKS = RESULTS.parent / "benchmarks" / "results"

REFERENCE = {
    "Maps": (
        "grid", "catalog", "footprint", "binning", "massmap", "mapfiles", "plot", "operators",
        "spectra", "starlet", "likelihood", "diagnostics", "metrics",
    ),
    "Reading": (
        "reading.readers", "reading.surveys", "reading.calibration", "reading.maps.source",
        "redshifts", "datasets", "benchmark",
    ),
    "Cosmology": ("cosmology", "matter_power"),
    "Estimators": (
        "estimators.kaiser_squires", "estimators.ks_plus", "estimators.wiener",
        "estimators.sparse", "estimators.mcalens", "estimators.deepmass",
        "estimators.survey_deepmass", "estimators.sampled", "estimators.maximum",
        "estimators.conditional_gan", "estimators.hong", "estimators.resampled",
        "estimators.finite_field", "galaxies",
    ),
    "Posterior and samplers": (
        "prior", "gaussian_posterior", "wiener_solvers", "denoiser", "denoiser_files",
        "hybrid_prior", "posterior", "annealed_posterior", "samplers", "sample_store",
        "sampling.diffusion", "sampling.hmc", "sampling.annealing", "sampling.schedule",
    ),
    "Judging": (
        "calibration.run", "calibration.mocks", "calibration.report", "calibration.figure",
        "conformal", "conformal.bounds", "conformal.calibrate", "null_tests.b_modes",
        "null_tests.blocks", "null_tests.noise", "null_tests.power", "null_tests.run",
        "null_tests.skies",
    ),
    "Clusters": (
        "clusters.lens", "clusters.nfw", "clusters.fit", "clusters.halo_data",
        "clusters.concentration", "clusters.aperture", "clusters.detection", "clusters.tables",
        "clusters.matching", "clusters.scores", "cluster_network",
    ),
    "Dynamical masses": (
        "dynamics.members", "dynamics.member_files", "dynamics.halo_cnn_files", "dynamics.box",
        "dynamics.observables", "dynamics.samples", "dynamics.estimate", "dynamics.dispersion",
        "dynamics.m_sigma", "dynamics.divergence", "dynamics.sdm", "dynamics.sdm_reference",
        "dynamics.images", "dynamics.cnn", "dynamics.model_files", "dynamics.mocks",
        "dynamics.mock_recipe", "dynamics.residuals", "dynamics.dependence", "dynamics.robustness",
    ),
    "Surveys": (
        "survey.catalogue", "survey.plan", "survey.patches", "survey.forecast", "survey.cluster",
        "survey.merge", "survey.blend", "survey.partial_maps", "survey.export",
    ),
    "Simulation and training": (
        "simulation.fields", "simulation.build", "simulation.lightcone", "simulation.survey",
        "simulation.mock_survey", "simulation.presets", "simulation.masks", "simulation.recipe",
        "simulation.streaming", "simulation.build_particle_mesh", "simulation.particle_mesh",
        "simulation.cluster_fields", "production.maps", "production.surveys", "production.wide",
        "training.settings", "training.loop",
    ),
}  # fmt: skip
"""Modules that users call, by topic."""


def write_pages(folder: Path) -> None:
    """Everything that is made, into a folder."""
    folder.mkdir(exist_ok=True)
    draw_signs(folder / "signs.png")
    names = []
    for topic, modules in REFERENCE.items():
        name = topic.lower().replace(" ", "_")
        names.append(name)
        lines = [topic, "=" * len(topic), ""]
        for module in modules:
            full = f"jaxmap.{module}"
            lines += [f"``{full}``", "-" * (len(full) + 4), "", f".. automodule:: {full}", ""]
        _write(folder / f"{name}.rst", lines)
    _write(folder / "reference.inc.md", [
        "```{toctree}", ":maxdepth: 2", "", *(f"/_made/{name}" for name in names), "```", "",
    ])  # fmt: skip
    _write(folder / "public_names.inc.md", public_names())
    _write(folder / "model_cards.inc.md", model_cards())
    _write(folder / "survey_costs.inc.md", survey_pages.costs())
    _write(folder / "survey_seams.inc.md", survey_pages.seams())


def _write(path: Path, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:  # keep what Sphinx has read
        path.write_text(text, encoding="utf-8")


def public_names() -> list[str]:
    """A table of what ``import jaxmap`` offers."""
    lines = ["| name | what it is |", "|---|---|"]
    for name in jaxmap.__all__:
        value = getattr(jaxmap, name)
        home = getattr(value, "__module__", "") or ""
        if not home.startswith("jaxmap"):
            lines.append(f"| `jaxmap.{name}` | `{value!r:.60}` |")
            continue
        first = (value.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
        if type(value).__module__.startswith("jaxmap"):  # a value, not a class or function
            first = f"a `{type(value).__name__}`"
            lines.append(f"| `jaxmap.{name}` | {first} |")
            continue
        lines.append(f"| {{py:obj}}`jaxmap.{name} <{home}.{value.__name__}>` | {first} |")
    return lines


def model_cards() -> list[str]:
    """What the headers of the shipped weights, and the results for them, say."""
    data = resources.files("jaxmap") / "data"
    _, header = read_weights(str(data / "denoiser_cosmos.npz"))
    training, figures = header["training"], results("denoiser")
    stages = []
    stage: dict[str, Any] | None = training
    while stage is not None:
        stages.append(stage)
        stage = stage.get("before")
    steps, seconds = (sum(one[key] for one in stages) for key in ("steps", "seconds"))
    cosmos = figures["surveys"]["cosmos"]
    low, high = header["domain"]["noise_std"]
    lines = [
        "## `denoiser_cosmos.npz`, the learned prior",
        "",
        "| | |",
        "|---|---|",
        f"| checksum of the arrays | `{header['sha256'][:16]}…` |",
        f"| parameters | {figures['cost']['parameters']:,} |",
        f"| arithmetic at 360² | {figures['cost']['gflop_360']:.1f} GFLOP |",
        f"| pixels | {header['domain']['pixel_arcmin']} arcmin |",
        f"| noise of a pixel and component | {low:.3f} to {high:.3f} |",
        f"| trainings, each from the one before | {len(stages)} |",
        f"| steps, minutes | {steps:,}, {seconds / 60:.0f} |",
        f"| device | {training['device']} |",
        "| versions | "
        + ", ".join(f"{name} {one}" for name, one in training["versions"].items())
        + " |",
        f"| error over the exact Wiener filter's, {cosmos['num']} COSMOS-like fields | "
        f"{cosmos['rmse_ratio']:.3f} ± {cosmos['rmse_ratio_error']:.3f} |",
        f"| its error estimate over the actual error | {cosmos['std_over_error']:.2f} |",
        "",
    ]
    models = results("dynamics_quick")["models"]
    lines += [
        "## `dynamics/*.npz`, cluster masses from velocities",
        "",
        "| estimator | checksum | scatter [dex] | median [dex] | actual over claimed error |",
        "|---|---|---|---|---|",
    ]
    for name, row in models.items():
        _, header = read_weights(str(data / "dynamics" / f"{name}.npz"))
        lines.append(
            f"| `{name}` | `{header['sha256'][:12]}…` | {row['scatter']:.3f} | "
            f"{row['median']:.3f} | {row['error_over_std']:.2f} |"
        )
    return [*lines, "", *cluster_network_card(str(data / "hong_clusters.npz"))]


def cluster_network_card(weights: str) -> list[str]:
    """Of the network for clusters, with Kaiser-Squires on the same fields beside."""
    _, header = read_weights(weights)
    network, training, found = header["network"], header["training"], results("hong")
    parameters = json.loads((BENCHMARKS / "hong_network.json").read_text())["parameters"]
    lines = [
        "## `hong_clusters.npz`, the network of Hong et al.",
        "",
        "| | |",
        "|---|---|",
        f"| checksum of the arrays | `{header['sha256'][:16]}…` |",
        f"| width of its filters, parameters | {network['width']}, "
        f"{parameters[str(network['width'])]:,} |",
        f"| pixels of the galaxies, of the map | {header['pixel_arcmin'] * 60:.2f}, "
        f"{header['pixel_arcmin'] * 180:.1f} arcsec |",
        f"| clusters, steps, minutes | {training['clusters']:,}, {training['steps']:,}, "
        f"{training['seconds'] / 60:.0f} |",
        f"| device | {training['device']} |",
        "",
        f"On {found['fields']} held-out fields about clusters, without and with masks of bright "
        "stars:",
        "",
        "| | D | median mass ratio | median offset [arcmin] |",
        "|---|---|---|---|",
    ]
    for kind, masks in (("clear", "no masks"), ("stars", "bright stars")):
        for name, label in (("cnn 19 focal", "network"), ("ks", "Kaiser-Squires")):
            row = found[kind][name]
            lines.append(
                f"| {label}, {masks} | {row['D']['mean']:.2f} | "
                f"{row['mass_ratio']['median']:.3f} ± {row['mass_ratio_error']:.3f} | "
                f"{row['offset_arcmin']['median']:.2f} |"
            )
    return lines


def results(name: str) -> Any:
    """Figures of an experiment."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def figures() -> dict[str, str]:
    """Numbers that pages quote, by name."""
    startup = json.loads((BENCHMARKS / "startup.json").read_text(encoding="utf-8"))
    rows = {row["what"]: row["seconds"]["median"] for row in startup["rows"]}
    edges = results("edges")["by_margin"].values()
    margin = str(results("edges")["default_margin"])
    worst = max(one[margin]["edge_over_interior_rms"]["value"] for one in edges)
    return {
        "seconds_import": f"{rows['import jaxmap']:.2f}",
        "seconds_help": f"{rows['jaxmap --help']:.2f}",
        "edge_percent": f"{100 * (worst - 1):.0f}",
        "column_roles": ", ".join(f"`{role}`" for role in ROLES),
        **survey_pages.figures(),
    }


def draw_signs(path: Path) -> None:
    """What the signs of the two components mean on the sky, and the shear around a mass."""
    figure = Figure(figsize=(12, 3.4))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1))
    for axis, (title, shear) in zip(
        axes,
        (("$\\gamma_1 > 0$", 0.35), ("$\\gamma_2 > 0$", 0.35j), ("$\\gamma_1 < 0$", -0.35)),
        strict=False,
    ):
        _ellipse(axis, 0.0, 0.0, shear, 0.55)
        axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), title=title)
        _compass(axis)
    halo = nfw_halo(8e14, 4.0, 0.3)
    inverse_critical = inverse_critical_density(0.3, 1.0)
    for y in np.arange(-5, 5.1, 2):
        for x in np.arange(-5, 5.1, 2):
            shear = complex(halo_shear(halo, np.array([x]), np.array([y]), inverse_critical)[0])
            _ellipse(axes[3], x, y, 5 * shear, 0.55)
    axes[3].plot(0, 0, "k+", markersize=12)
    axes[3].set(xlim=(-6.5, 6.5), ylim=(-6.5, 6.5), title="around a mass (5 times enlarged)")
    for axis in axes:
        axis.set(aspect="equal", xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _ellipse(axis: Any, x: float, y: float, shear: complex, radius: float) -> None:
    """A circle as seen through a shear: axis ratio (1 - g) / (1 + g)."""
    size, angle = abs(shear), np.degrees(np.angle(shear)) / 2
    long, short = 2 * radius * (1 + size), 2 * radius * (1 - size)
    axis.add_patch(Ellipse((x, y), long, short, angle=angle, fc="none", ec="C0", lw=1.8))


def _compass(axis: Any) -> None:
    arrow = {"arrowstyle": "->", "color": "grey"}
    for (x, y), name in (((0.7, 0), "x, west"), ((0, 0.7), "y, north")):
        axis.annotate("", (-1.1 + x, -1.1 + y), (-1.1, -1.1), arrowprops=arrow)
        axis.text(-1.08 + x, -1.08 + 1.1 * y, name, fontsize=8, color="grey")
