"""Bayesian weak-lensing mass maps in JAX: from galaxy shapes to posterior samples of the mass."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmap.binning import bin_shear
    from jaxmap.catalog import ShearCatalog, ShearMap, shear_catalog, shear_map
    from jaxmap.cosmology import convergence_power
    from jaxmap.denoiser_files import read_denoiser
    from jaxmap.estimators import (
        ConditionalGAN,
        DeepMass,
        Estimator,
        HongCNN,
        KaiserSquires,
        KSPlus,
        MaximumPosterior,
        MCALens,
        Resampled,
        SampledPosterior,
        Sparse,
        SurveyDeepMass,
        Wiener,
    )
    from jaxmap.footprint import grid_of_catalog
    from jaxmap.grid import Grid
    from jaxmap.likelihood import ShearLikelihood
    from jaxmap.mapfiles import read_mass_map, write_mass_map
    from jaxmap.massmap import MassMap
    from jaxmap.matter_power import PLANCK18, Cosmology
    from jaxmap.plot import plot_mass_map, plot_mass_maps
    from jaxmap.prior import GaussianPrior
    from jaxmap.reading.maps.source import open_maps
    from jaxmap.reading.readers import read_shear
    from jaxmap.redshifts import (
        RedshiftDistribution,
        read_redshift_distribution,
        redshift_distribution,
    )
    from jaxmap.spectra import PowerSpectrum, power_spectrum, read_power_spectrum

__version__ = "0.1.0"

# Resolved on first use, so that `import jaxmap` and `jaxmap --help` do not wait for jax.
_HOME = {
    "ConditionalGAN": "estimators",
    "Cosmology": "matter_power",
    "DeepMass": "estimators",
    "Estimator": "estimators",
    "GaussianPrior": "prior",
    "Grid": "grid",
    "HongCNN": "estimators",
    "KSPlus": "estimators",
    "KaiserSquires": "estimators",
    "MCALens": "estimators",
    "MassMap": "massmap",
    "MaximumPosterior": "estimators",
    "PLANCK18": "matter_power",
    "PowerSpectrum": "spectra",
    "RedshiftDistribution": "redshifts",
    "Resampled": "estimators",
    "SampledPosterior": "estimators",
    "ShearCatalog": "catalog",
    "ShearLikelihood": "likelihood",
    "ShearMap": "catalog",
    "SurveyDeepMass": "estimators",
    "Sparse": "estimators",
    "Wiener": "estimators",
    "bin_shear": "binning",
    "convergence_power": "cosmology",
    "grid_of_catalog": "footprint",
    "open_maps": "reading.maps.source",
    "plot_mass_map": "plot",
    "plot_mass_maps": "plot",
    "power_spectrum": "spectra",
    "read_denoiser": "denoiser_files",
    "read_mass_map": "mapfiles",
    "read_power_spectrum": "spectra",
    "read_redshift_distribution": "redshifts",
    "read_shear": "reading.readers",
    "redshift_distribution": "redshifts",
    "shear_catalog": "catalog",
    "shear_map": "catalog",
    "write_mass_map": "mapfiles",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxmap' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxmap.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
