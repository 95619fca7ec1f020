"""Trained hybrid priors in files."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from jaxmap.denoiser_files import Domain
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.networks.score_unet import ScoreUNet, initialise_score
from jaxmap.networks.weights import above_zero, fitted_to, network_file, write_weights
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance, power_spectrum

KIND = "hybrid prior"


def write_hybrid_prior(
    path: str | Path,
    params: Any,
    network: ScoreUNet,
    spectrum: PowerSpectrum,
    pixel_arcmin: float,
    training: dict[str, Any],
) -> None:
    """Write a hybrid prior to ``.npz``: float32 arrays and a JSON header with its record.

    Args:
        path: of the file.
        params: of the residual network.
        network: its architecture.
        spectrum: of the Gaussian part.
        pixel_arcmin: side of a pixel of the training maps.
        training: how it was trained, as plain values.
    """
    header = {
        "kind": KIND,
        "network": {"channels": network.channels, "blocks": network.blocks},
        "pixel_arcmin": pixel_arcmin,
        "training": training,
    }
    table = {"ell": spectrum.ell, "c_ell": spectrum.c_ell}
    write_weights(path, {"network": params, "spectrum": table}, header)


def read_hybrid_domain(path: str | Path) -> tuple[PowerSpectrum, Domain]:
    """Power and pixels of the maps that a hybrid prior was trained on; its score is for any noise.

    Raises:
        ValueError: for a file that is not whole, or not a hybrid prior.
    """
    with network_file(path, KIND, "score") as (arrays, header):
        spectrum, pixel_arcmin = _trained_on(arrays, header)
    return spectrum, Domain(pixel_arcmin, (0.0, math.inf))


def _trained_on(arrays: Any, header: dict[str, Any]) -> tuple[PowerSpectrum, float]:
    spectrum = power_spectrum(arrays["spectrum"]["ell"], arrays["spectrum"]["c_ell"])
    return spectrum, above_zero(header["pixel_arcmin"])


def read_hybrid_prior(path: str | Path, grid: Grid) -> tuple[HybridPrior, dict[str, Any]]:
    """Read a hybrid prior for maps on a grid.

    Returns:
        The prior, and the header of the file.

    Raises:
        ValueError: for a file that is not whole, not a hybrid prior, or was trained on pixels of
            another size.
    """
    with network_file(path, KIND, "score") as (arrays, header):
        settings = header["network"]
        network = ScoreUNet(tuple(map(int, settings["channels"])), int(settings["blocks"]))
        params = fitted_to(partial(initialise_score, network), arrays["network"])
        spectrum, pixel_arcmin = _trained_on(arrays, header)
    if abs(grid.pixel_arcmin / pixel_arcmin - 1) > 0.05:
        raise ValueError(
            f"pixels are {grid.pixel_arcmin:g} arcmin wide, the network in {path} was trained on "
            f"{pixel_arcmin:g}; use that scale, or train one for yours (jaxmap train)"
        )
    return HybridPrior(GaussianPrior(mode_variance(spectrum, grid)), params, network), header
