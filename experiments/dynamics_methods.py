"""What `dynamics.py` does with every seed: catalogues, and masses by ten folds of halos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from dynamics_published import TABLE1, TABLE3, TABLE4

from jaxmap.dynamics.cnn import Preset, cluster_images, masses_from_images
from jaxmap.dynamics.cnn import train_network as train_one
from jaxmap.dynamics.dependence import fit_dependence, scatter_in_quadrature, scatter_in_sum
from jaxmap.dynamics.dispersion import dispersions
from jaxmap.dynamics.domain import domain_of
from jaxmap.dynamics.m_sigma import fit_m_sigma
from jaxmap.dynamics.members import (
    ClusterMembers,
    concatenate,
    keep_galaxies,
    require_masses,
    select,
)
from jaxmap.dynamics.mock_recipe import flat_masses, halo_masses
from jaxmap.dynamics.mocks import MockClusters, mock_clusters
from jaxmap.dynamics.model_files import SHIPPED, shipped_model
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


def contaminated_fits(catalogues: Catalogues) -> dict[str, Any]:
    """Why the contaminated relation is flat: fits to less and less of what spoils it."""
    train, test = catalogues.train, catalogues.test.contaminated
    cut = float(train.contaminated.velocity_cut_km_s or np.inf)
    views = {
        "all galaxies in the cylinder": (train.contaminated, 14.5),
        "the same, fitted above 10^14": (train.contaminated, 14.0),
        "members in the cylinder": (
            keep_galaxies(train.contaminated, train.contaminated.member),
            14.5,
        ),
        "members within the velocity cut": (
            keep_galaxies(train.pure, np.abs(train.pure.velocity_km_s) <= cut),
            14.5,
        ),
        "members": (train.pure, 14.5),
    }
    sigma = dispersions(test)
    found: dict[str, Any] = {}
    for name, (members, lowest) in views.items():
        fit = fit_m_sigma(
            catalogues.key, members, min_log10_mass=lowest, with_hz=False, num_bootstrap=10
        )
        row = {one: getattr(fit, one) for one in ("sigma15_km_s", "alpha", "scatter")}
        found[name] = row | _applied(sigma, row, test)
    found["published, contaminated"] = TABLE1["contaminated"] | _applied(
        sigma, TABLE1["contaminated"], test
    )
    return found


def _applied(
    sigma: np.ndarray, relation: Mapping[str, float], test: ClusterMembers
) -> dict[str, float]:
    """Median and scatter of the masses that a relation gives the contaminated test clusters."""
    mass = 15 + np.log10(sigma / relation["sigma15_km_s"]) / relation["alpha"]
    residual = mass - require_masses(test)
    return {"median": float(np.median(residual)), "mass_scatter": float(residual.std())}


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
            "published": TABLE4[name],
        }
    return found


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


def dependence(shown: Catalogues, kept: dict[str, np.ndarray], quick: bool) -> dict[str, Any]:
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
