"""Clusters of galaxies: NFW lenses and their fits, and detections in maps and posterior samples."""

from jaxmap.clusters.aperture import aperture_contrast, aperture_mass, scale_of
from jaxmap.clusters.concentration import duffy08, dutton14
from jaxmap.clusters.detection import Detections, detect
from jaxmap.clusters.fit import FitSettings, HaloFit, HaloPrior, fit_halo, sample_halo
from jaxmap.clusters.halo_data import HaloData, halo_data_of_catalog, halo_data_of_map
from jaxmap.clusters.lens import (
    NFWHalo,
    halo_convergence,
    halo_reduced_shear,
    halo_shear,
    nfw_halo,
)
from jaxmap.clusters.matching import match_positions

__all__ = [
    "Detections",
    "FitSettings",
    "HaloData",
    "HaloFit",
    "HaloPrior",
    "NFWHalo",
    "aperture_contrast",
    "aperture_mass",
    "detect",
    "duffy08",
    "dutton14",
    "fit_halo",
    "halo_convergence",
    "halo_data_of_catalog",
    "halo_data_of_map",
    "halo_reduced_shear",
    "halo_shear",
    "match_positions",
    "nfw_halo",
    "sample_halo",
    "scale_of",
]
