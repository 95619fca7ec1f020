"""Tables and figures of Ho et al. (2019) on synthetic clusters, beside the published values.

Ten folds of halos, several seeds: M-sigma, support distribution machines and convolutional
networks. The clusters are halo-model mocks, not MDPL2, so that agreement is not reproduction.

``--quick`` takes minutes; the whole some 25 minutes a seed on one core. What is done is kept in
``OUT/dynamics_stages``: a run that was stopped goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import arguments, new_figure, save
from scipy.spatial import cKDTree
from scipy.stats import gaussian_kde

from jaxmap.dynamics.cnn import DEFAULT, PAPER, Preset, cluster_images, masses_from_images
from jaxmap.dynamics.cnn import train_network as train_one
from jaxmap.dynamics.dependence import fit_dependence, scatter_in_quadrature, scatter_in_sum
from jaxmap.dynamics.dispersion import dispersions
from jaxmap.dynamics.divergence import Bags, divergences
from jaxmap.dynamics.domain import domain_of
from jaxmap.dynamics.images import images_of
from jaxmap.dynamics.m_sigma import fit_m_sigma
from jaxmap.dynamics.members import ClusterMembers, concatenate, select
from jaxmap.dynamics.mock_recipe import flat_masses, halo_masses
from jaxmap.dynamics.mocks import MockClusters, mock_clusters
from jaxmap.dynamics.model_files import SHIPPED, shipped_model
from jaxmap.dynamics.residuals import binned_residuals, residual_statistics
from jaxmap.dynamics.robustness import subsampled_deviation
from jaxmap.dynamics.samples import mass_folds
from jaxmap.dynamics.sdm import (
    Divergences,
    bags_of,
    feature_scale,
    features,
    fit_regression,
    fit_sdm,
    landmark_divergences,
    predict,
    spread_over_mass,
)
from jaxmap.dynamics.sdm_reference import transductive_masses

TABLE1 = {
    "pure": {"sigma15_km_s": 1078, "alpha": 0.345, "scatter": 0.056},
    "contaminated": {"sigma15_km_s": 971, "alpha": 0.254, "scatter": 0.059},
}
COLUMNS = ("median", "high", "low", "scatter", "skewness", "kurtosis", "count_bias")
TABLE2 = {
    "cnn1d": (-0.003, 0.173, -0.163, 0.174, 0.419, 0.826, 0.050),
    "cnn2d": (-0.003, 0.119, -0.125, 0.132, 0.221, 1.600, 0.017),
    "m_sigma_pure": (0.006, 0.179, -0.195, 0.193, -0.262, 0.417, 0.020),
    "m_sigma_contaminated": (-0.016, 0.300, -0.290, 0.316, 0.225, 0.647, 0.23),
    "sdm1d": (-0.039, 0.229, -0.187, 0.226, 0.646, 1.183, 0.178),
    "sdm2d": (-0.018, 0.149, -0.148, 0.159, 0.309, 1.459, 0.038),
}
TABLE3 = {
    "cnn1d": {"mu0": 0.01, "sigma0": 0.15, "sigma1": 0.05, "alpha0": 1.00},
    "cnn2d": {"mu0": 0.03, "sigma0": 0.11, "sigma1": 0.05, "alpha0": 1.00},
}
TABLE4 = {
    "cnn1d": (-0.049, 0.168),
    "cnn2d": (-0.026, 0.126),
    "m_sigma_pure": (0.005, 0.179),
    "m_sigma_contaminated": (0.006, 0.216),
    "sdm1d": (0.017, 0.244),
    "sdm2d": (-0.013, 0.268),
}
NUM_FOLDS = 10


class Catalogues:
    """Training and test clusters of one seed, three lines of sight each, with folds of halos."""

    def __init__(self, seed: int, num_train: int, num_test: int) -> None:
        keys = jax.random.split(jax.random.key(seed), 5)
        train = mock_clusters(keys[1], flat_masses(keys[0], num_train // 3), 3)
        test = mock_clusters(keys[3], halo_masses(keys[2], num_test // 3), 3)
        self.key, self.train, self.test = keys[4], train, test
        self.folds = {
            name: tuple(mass_folds(getattr(one, name), NUM_FOLDS) for one in (train, test))
            for name in MockClusters._fields
        }


def m_sigma(catalogues: Catalogues, view: str) -> dict[str, Any]:
    """Estimates of every test cluster by a fit to the other folds, and the fit to all (Table 1)."""
    train, test = (getattr(one, view) for one in (catalogues.train, catalogues.test))
    folds, test_folds = catalogues.folds[view]
    mass = np.empty(len(test))
    for fold in range(NUM_FOLDS):
        relation = fit_m_sigma(catalogues.key, select(train, folds != fold), num_bootstrap=10)
        mine = test_folds == fold
        mass[mine] = relation(catalogues.key, select(test, mine)).log10_mass
    fits = {}
    for name, with_hz in (("with_hz", True), ("without_hz", False)):
        fitted = fit_m_sigma(catalogues.key, train, with_hz=with_hz)
        names = ("sigma15_km_s", "sigma15_std", "alpha", "alpha_std", "scatter")
        fits[name] = {one: getattr(fitted, one) for one in names}
    return {"mass": mass, "table1": fits}


def sdm(catalogues: Catalogues, with_radius: bool, num_landmarks: int) -> dict[str, Any]:
    """Divergences once for all folds; landmarks of a held-out fold are left out with it."""
    train, test = catalogues.train.contaminated, catalogues.test.contaminated
    folds, test_folds = catalogues.folds["contaminated"]
    key_rows, key_folds = jax.random.split(catalogues.key)
    began = time.perf_counter()
    scale = feature_scale(train, with_radius)
    rows = spread_over_mass(key_rows, train.log10_mass, num_landmarks)
    bags = features(concatenate([train, test]), scale, with_radius)
    between = landmark_divergences(bags, bags_of(bags, rows))
    seconds = {"divergences": time.perf_counter() - began}
    began = time.perf_counter()
    mass = np.empty(len(test))
    num = len(train)
    for fold in range(NUM_FOLDS):
        use = np.flatnonzero(folds != fold)
        columns = np.flatnonzero(folds[rows] != fold)
        part = Divergences(*(x[np.ix_(use, columns)] for x in between))
        place = np.searchsorted(use, rows[columns])
        regression, _ = fit_regression(
            part, place, train.log10_mass[use], train.halo[use], key_folds
        )
        mine = np.flatnonzero(test_folds == fold)
        other = Divergences(*(x[np.ix_(num + mine, columns)] for x in between))
        mass[mine] = predict(regression, other)
    return {"mass": mass, "seconds": {**seconds, "fits": time.perf_counter() - began}}


def cnn(catalogues: Catalogues, with_radius: bool, preset: Preset) -> dict[str, Any]:
    """One network a fold, as published."""
    train, test = catalogues.train.contaminated, catalogues.test.contaminated
    folds, test_folds = catalogues.folds["contaminated"]
    domain, began = domain_of(train), time.perf_counter()
    images, others = (cluster_images(one, preset, domain, with_radius) for one in (train, test))
    seconds = {"images": time.perf_counter() - began}
    began, mass = time.perf_counter(), np.empty(len(test))
    # As many in every fold (at most one in a hundred fewer), so that training is compiled once.
    fewest = len(train) - np.bincount(folds).max()
    for fold in range(NUM_FOLDS):
        use, mine = np.flatnonzero(folds != fold)[:fewest], test_folds == fold
        key = jax.random.fold_in(catalogues.key, fold)
        params = train_one(key, images[use], train.log10_mass[use], preset, domain)
        mass[mine] = masses_from_images((params,), preset, domain, others[mine])[0]
    return {"mass": mass, "seconds": {**seconds, "folds": time.perf_counter() - began}}


def robustness(test: MockClusters, key: jax.Array, rates: list[float], draws: int) -> dict:
    """Table 4 and Figure 10, with the shipped estimators."""
    found: dict[str, Any] = {"rates": rates}
    for name in SHIPPED:
        members = test.pure if name == "m_sigma_pure" else test.contaminated
        drift = subsampled_deviation(key, shipped_model(name), members, rates, draws)
        curve = [np.nanpercentile(row, [16, 50, 84]).tolist() for row in drift]
        inside = [row for rate, row in zip(rates, drift, strict=True) if 0.6 <= rate <= 0.8]
        low, median, high = np.nanpercentile(np.concatenate(inside), [16, 50, 84])
        found[name] = {
            "curve": curve,
            "median": median,
            "width": high - low,
            "published": dict(zip(("median", "width"), TABLE4[name], strict=True)),
        }
    return found


def speed(members: ClusterMembers) -> dict[str, float]:
    """Microseconds, ours and by scipy in a loop, after a first call that compiles."""
    few = select(members, np.arange(60))
    found = {}
    for name, with_radius in (("1d", False), ("2d", True)):
        bags = features(few, feature_scale(few, with_radius), with_radius)
        found[f"divergence_{name}"] = _microseconds(lambda b=bags: divergences(b, b), 3600)
        found[f"divergence_{name}_scipy"] = _microseconds(lambda b=bags: _by_trees(b), 3600)
        found[f"image_{name}"] = _microseconds(
            lambda w=with_radius: images_of(members, w, 1.6, 2200.0), len(members)
        )
        found[f"image_{name}_scipy"] = _microseconds(lambda w=with_radius: _by_scipy(few, w), 60)
    for name in SHIPPED:
        model = partial(shipped_model(name), jax.random.key(0))
        found[f"estimate_{name}"] = _microseconds(lambda m=model: m(members), len(members))
    return found


def _microseconds(work: Callable[[], Any], num: int) -> float:
    work()
    began = time.perf_counter()
    work()
    return 1e6 * (time.perf_counter() - began) / num


def _by_trees(bags: Bags) -> None:
    samples = [bags_of(bags, [i]).points for i in range(len(bags.sizes))]
    trees = [cKDTree(one) for one in samples]
    for one, own in zip(samples, trees, strict=True):
        rho = own.query(one, 4)[0][:, -1]
        for tree in trees:
            np.mean(np.log(tree.query(one, [3])[0][:, 0] + 1e-9) - np.log(rho + 1e-9))


def _by_scipy(members: ClusterMembers, with_radius: bool) -> None:
    v, r = (np.arange(48) + 0.5) * 4400 / 48 - 2200, (np.arange(48) + 0.5) * 1.6 / 48
    grid = np.stack(np.meshgrid(v, r, indexing="ij")).reshape(2, -1)
    for i in range(len(members)):
        one = select(members, [i])
        data = np.stack([one.velocity_km_s, one.radius_mpc_h])
        if with_radius:
            gaussian_kde(data, 0.25)(grid)
        else:
            gaussian_kde(data[0], 0.25)(v)


def reference(seed: int, num: int) -> dict[str, float]:
    """Scatter by landmarks, by all pairs, and by the published nu-SVR, on the same clusters."""
    keys = jax.random.split(jax.random.key(seed + 1000), 4)
    train = mock_clusters(keys[0], flat_masses(keys[1], num)).contaminated
    test = mock_clusters(keys[2], flat_masses(keys[3], num)).contaminated
    found = {}
    for name, with_radius in (("sdm1d", False), ("sdm2d", True)):
        for label, landmarks in (("landmarks", num // 5), ("all", num)):
            began = time.perf_counter()
            model = fit_sdm(keys[0], train, with_radius=with_radius, num_landmarks=landmarks)
            error = model(keys[0], test).log10_mass - test.log10_mass
            found[f"{name}_{label}"] = float(error.std())
            found[f"{name}_{label}_seconds"] = time.perf_counter() - began
        began = time.perf_counter()
        mass = transductive_masses(keys[0], train, test, with_radius=with_radius)
        found[f"{name}_nu_svr"] = float((mass - test.log10_mass).std())
        found[f"{name}_nu_svr_seconds"] = time.perf_counter() - began
    return found


class Stages:
    """Results kept in a folder, one file for each stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            began = time.perf_counter()
            result = work()
            text = json.dumps(result, default=lambda x: np.asarray(x).tolist())
            path.with_suffix(".part").write_text(text)
            path.with_suffix(".part").rename(path)
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        return json.loads(path.read_text())


def main() -> None:
    """All stages, then the tables and the figure."""
    options = arguments(
        __doc__,
        seeds={"type": int, "default": 5, "help": "default %(default)s"},
        train={"type": int, "default": 11_600, "help": "projections (default %(default)s)"},
        test={"type": int, "default": 12_000, "help": "projections (default %(default)s)"},
    )
    quick = options.quick
    if quick:
        options.seeds, options.train, options.test = 1, 900, 600
    label = "quick" if quick else f"{options.train}_{options.test}"
    stages = Stages(options.out / "dynamics_stages" / label)
    landmarks = {"sdm1d": 100, "sdm2d": 60} if quick else {"sdm1d": 300, "sdm2d": 200}
    presets = {"": DEFAULT, "_raw": PAPER}
    seeds = range(options.seed, options.seed + options.seeds)
    table2: dict[str, list] = {}
    first: dict[str, Any] = {}
    kept: dict[str, np.ndarray] = {}
    for seed in seeds:
        catalogues = Catalogues(seed, options.train, options.test)
        works: dict[str, Callable[[], dict]] = {
            "m_sigma_pure": lambda c=catalogues: m_sigma(c, "pure"),
            "m_sigma_contaminated": lambda c=catalogues: m_sigma(c, "contaminated"),
        }
        for dimension in (1, 2):
            wide = dimension == 2
            for tail, preset in presets.items():
                if tail and seed > options.seed:
                    continue  # inputs as published are compared with ours on one seed
                if quick:
                    preset = preset._replace(num_epochs=6)
                works[f"cnn{dimension}d{tail}"] = lambda c=catalogues, w=wide, p=preset: cnn(
                    c, w, p
                )
            name = f"sdm{dimension}d"
            works[name] = lambda c=catalogues, w=wide, n=landmarks[name]: sdm(c, w, n)
        for name, work in works.items():
            result = stages(f"{name}_{seed}", work)
            view = catalogues.test.pure if name == "m_sigma_pure" else catalogues.test.contaminated
            residual = np.array(result.pop("mass")) - view.log10_mass
            table2.setdefault(name, []).append(residual_statistics(residual)._asdict())
            if seed == options.seed:
                first[name], kept[name] = result, residual
                shown = catalogues
    figures: dict[str, Any] = {
        "clusters": "synthetic halo-model mocks, not MDPL2",
        "num_train": len(shown.train.contaminated),
        "num_test": len(shown.test.contaminated),
        "seeds": list(seeds),
        "table1": {
            view: {**first[f"m_sigma_{view}"]["table1"], "published": TABLE1[view]}
            for view in TABLE1
        },
        "table2": {name: _with_spread(name, rows) for name, rows in table2.items()},
        "seconds": {name: one["seconds"] for name, one in first.items() if "seconds" in one},
    }
    num_few = 60 if quick else 600
    few = {view: select(getattr(shown.test, view), np.arange(num_few)) for view in
           MockClusters._fields}  # fmt: skip
    rates = [0.3, 0.7, 1.0] if quick else [0.05, 0.1, 0.2, 0.4, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9]
    draws = 2 if quick else 10
    figures["table4"] = stages(
        f"table4_{options.seed}", lambda: robustness(MockClusters(**few), shown.key, rates, draws)
    )
    figures["table3"] = stages(f"table3_{options.seed}", lambda: _dependence(shown, kept, quick))
    many = select(shown.test.contaminated, np.arange(60 if quick else 2000))
    figures["microseconds"] = stages("speed", lambda: speed(many))
    figures["reference"] = stages(
        f"reference_{options.seed}", lambda: reference(options.seed, 120 if quick else 1000)
    )
    draw(options.out / "dynamics.png", shown, kept, figures)
    save(options, "dynamics", figures)


def _with_spread(name: str, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean over seeds and standard deviation, beside the published values."""
    published = TABLE2.get(name.removesuffix("_raw"))
    found: dict[str, Any] = {}
    for column in COLUMNS:
        values = np.array([row[column] for row in rows])
        found[column] = float(values.mean())
        if len(values) > 1:
            found[f"{column}_spread"] = float(values.std(ddof=1))
    return {**found, "published": dict(zip(COLUMNS, published or (), strict=True))}


def _dependence(shown: Catalogues, kept: dict[str, np.ndarray], quick: bool) -> dict[str, Any]:
    """Table 3, with both readings of equation 13."""
    test = shown.test.contaminated
    use = np.flatnonzero(test.num_true >= 1)[: 300 if quick else 4000]
    found: dict[str, Any] = {}
    for name in ("cnn1d", "cnn2d"):
        found[name] = {"published": TABLE3[name]}
        for label, form in (("quadrature", scatter_in_quadrature), ("sum", scatter_in_sum)):
            samples = fit_dependence(
                shown.key, kept[name][use], test.log10_mass[use], test.num_true[use],
                scatter=form, num_samples=100 if quick else 500, num_warmup=100 if quick else 300,
            )  # fmt: skip
            found[name][label] = {
                one: {"mean": float(x.mean()), "std": float(x.std())} for one, x in samples.items()
            }
    return found


def draw(path: Path, shown: Catalogues, kept: dict[str, np.ndarray], figures: dict) -> None:
    """Figures 2 and 6 to 10 in one."""
    figure = new_figure(13, 12)
    axes = figure.subplots(3, 3).ravel()
    edges = np.arange(13.5, 15.31, 0.1)
    for label, one in (("training", shown.train), ("test", shown.test)):
        axes[0].hist(one.contaminated.log10_mass, edges, histtype="step", log=True, label=label)
    axes[0].set(title="Fig. 2: masses", xlabel="log10 M200c")
    axes[0].legend()
    for axis, view in zip(axes[1:3], ("pure", "contaminated"), strict=True):
        members = getattr(shown.train, view)
        sigma = np.log10(dispersions(members))
        found = binned_residuals(members.log10_mass, sigma, edges)
        _band(axis, found.centre, found.percentiles, "mocks")
        for label, fit in (
            ("mocks' fit", figures["table1"][view]["without_hz"]),
            ("published fit", TABLE1[view]),
        ):
            line = np.log10(fit["sigma15_km_s"]) + fit["alpha"] * (found.centre - 15)
            axis.plot(found.centre, line, ls="--", label=label)
        axis.set(title=f"Fig. 6: M-sigma, {view}", xlabel="log10 M200c", ylabel="log10 sigma")
        axis.legend()
    test_edges = np.arange(14, 15.01, 0.1)
    for axis, name in zip(axes[3:5], ("cnn1d", "cnn2d"), strict=True):
        masses = shown.test.contaminated.log10_mass
        found = binned_residuals(masses, masses + kept[name], test_edges)
        _band(axis, found.centre, found.percentiles, name)
        axis.plot([14, 15], [14, 15], "k:")
        axis.set(title=f"Fig. 7: {name}", xlabel="true log10 M", ylabel="predicted log10 M")
    for name in TABLE2:
        view = shown.test.pure if name == "m_sigma_pure" else shown.test.contaminated
        found = binned_residuals(view.log10_mass, kept[name], test_edges)
        axes[5].plot(found.centre, found.percentiles[:, 1], label=name)
        axes[6].plot(found.centre, np.ptp(found.percentiles, axis=1) / 2, label=name)
        x = (kept[name] - kept[name].mean()) / kept[name].std()
        axes[7].hist(x, np.linspace(-4, 4, 41), histtype="step", density=True, label=name)
        curve = np.array(figures["table4"][name]["curve"])
        axes[8].plot(figures["table4"]["rates"], curve[:, 1], label=name)
    axes[5].set(title="Fig. 8: median residual", xlabel="true log10 M", ylabel="dex")
    axes[6].set(title="Fig. 8: half of 16-84 range", xlabel="true log10 M", ylabel="dex")
    axes[7].set(title="Fig. 9: normalised residuals")
    axes[8].set(title="Fig. 10: drift with sampling rate", xlabel="r", ylabel="dex")
    axes[5].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _band(axis: Any, x: np.ndarray, percentiles: np.ndarray, label: str) -> None:
    axis.fill_between(x, percentiles[:, 0], percentiles[:, 2], alpha=0.3)
    axis.plot(x, percentiles[:, 1], label=label)


if __name__ == "__main__":
    main()
