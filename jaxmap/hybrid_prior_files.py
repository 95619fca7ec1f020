"""Trained hybrid priors in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from jaxmap.grid import Grid
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.networks.score_unet import ScoreUNet, initialise_score
from jaxmap.networks.weights import fitted, read_weights, write_weights
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


def read_hybrid_prior(path: str | Path, grid: Grid) -> tuple[HybridPrior, dict[str, Any]]:
    """Read a hybrid prior for maps on a grid.

    Returns:
        The prior, and the header of the file.

    Raises:
        ValueError: for a file that is not whole, not a hybrid prior, or was trained on pixels of
            another size.
    """
    arrays, header = read_weights(path)
    try:
        if header["kind"] != KIND:
            raise ValueError(f"it holds a {header['kind']}")
        settings = header["network"]
        network = ScoreUNet(tuple(map(int, settings["channels"])), int(settings["blocks"]))
        pixel_arcmin = float(header["pixel_arcmin"])
        like = jax.eval_shape(lambda key: initialise_score(network, key), jax.random.key(0))
        params = fitted(arrays["network"], like)
        spectrum = power_spectrum(arrays["spectrum"]["ell"], arrays["spectrum"]["c_ell"])
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a hybrid prior of jaxmap ({error}); give a file that `jaxmap train` "
            'wrote for kind = "score"'
        ) from error
    if abs(grid.pixel_arcmin / pixel_arcmin - 1) > 0.05:
        raise ValueError(
            f"pixels are {grid.pixel_arcmin:g} arcmin wide, the network in {path} was trained on "
            f"{pixel_arcmin:g}; use that scale, or train one for yours (jaxmap train)"
        )
    return HybridPrior(GaussianPrior(mode_variance(spectrum, grid)), params, network), header
