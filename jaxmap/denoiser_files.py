"""Trained denoisers in files, the one that is shipped, and what data they were trained for."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.networks.weights import above_zero, fitted_to, network_file, write_weights
from jaxmap.spectra import PowerSpectrum, power_spectrum
from jaxmap.spectral_gain import TABLES, gain_from

log = logging.getLogger(__name__)

KIND = "denoiser"
_RESIDUALS = 0.1
"""Relative excess of the residuals' chi-squared that is told of, however many pixels there are."""
SHIPPED = "denoiser_cosmos.npz"
_MOST_ITERATIONS = 10_000
_WIDTHS = {"channels": tuple, "blocks": int, "embedding": int, "half": bool}


@dataclass(frozen=True)
class Domain:
    """What a denoiser was trained on.

    Args:
        pixel_arcmin: side of a pixel.
        noise_std: least and largest noise of a pixel's shear component, in surveys.
    """

    pixel_arcmin: float
    noise_std: tuple[float, float]


def write_denoiser(
    path: str | Path, denoiser: Denoiser, domain: Domain, training: dict[str, Any]
) -> None:
    """Write a denoiser to ``.npz``: float32 arrays and a JSON header with its record.

    Args:
        path: ends in ``.npz``.
        denoiser: the trained denoiser.
        domain: what it was trained on.
        training: how it was trained, as plain values.
    """
    network = {name: getattr(denoiser.network, name) for name in _WIDTHS}
    header = {
        "kind": KIND,
        "network": network,
        "iterations": denoiser.iterations,
        "reach": denoiser.reach,
        "correction_pixels": denoiser.correction_pixels,
        "domain": asdict(domain),
        "training": training,
    }
    arrays = {
        "network": denoiser.params,
        "spectrum": {"ell": denoiser.spectrum.ell, "c_ell": denoiser.spectrum.c_ell},
    }
    if denoiser.gain is not None:
        arrays["gain"] = {name: getattr(denoiser.gain, name) for name in TABLES}
    write_weights(path, arrays, header)


def read_denoiser(path: str | Path | None = None) -> tuple[Denoiser, Domain, dict[str, Any]]:
    """Read a denoiser: the shipped one, or that of a file.

    Args:
        path: ``.npz`` file of `write_denoiser`; None for the one that is shipped.

    Returns:
        The denoiser, what it was trained on, and the whole header of the file.

    Raises:
        ValueError: for a file that is not whole, or not a denoiser.
    """
    if path is None:
        with resources.as_file(resources.files("jaxmap") / "data" / SHIPPED) as shipped:
            return read_denoiser(shipped)
    with network_file(path, KIND, "denoiser") as (arrays, header):
        settings = {name: kind(header["network"][name]) for name, kind in _WIDTHS.items()}
        network = ResidualUNet(**settings)
        low, high = map(float, header["domain"]["noise_std"])
        domain = Domain(above_zero(header["domain"]["pixel_arcmin"]), (low, high))
        params = fitted_to(
            lambda key: initialise(network, key, NUM_FEATURES, NUM_CONDITIONS), arrays["network"]
        )
        spectrum = power_spectrum(arrays["spectrum"]["ell"], arrays["spectrum"]["c_ell"])
        denoiser = Denoiser(
            params,
            spectrum,
            network,
            iterations_of(header),
            reach=_if_told(header, "reach"),
            correction_pixels=_if_told(header, "correction_pixels"),
            gain=gain_from(arrays["gain"]) if "gain" in arrays else None,
        )
    return denoiser, domain, header


def iterations_of(header: dict[str, Any]) -> int:
    """Iterations of the Wiener solver, which files of earlier versions do not tell.

    Raises:
        ValueError: for fewer than 1, or so many that no map would ever end.
    """
    iterations = header.get("iterations", Denoiser.iterations)
    if not isinstance(iterations, int) or not 1 <= iterations <= _MOST_ITERATIONS:
        raise ValueError(f"{iterations!r} iterations; expected 1 to {_MOST_ITERATIONS}")
    return iterations


def _if_told(header: dict[str, Any], name: str) -> float | None:
    """A field of `Denoiser` that networks of earlier versions have not."""
    value = header.get(name)
    return None if value is None else above_zero(value)


def warn_outside(domain: Domain, data: ShearMap) -> None:
    """Say where data lie outside of what a denoiser was trained on."""
    pixel = data.grid.pixel_arcmin
    if abs(pixel / domain.pixel_arcmin - 1) > 0.05:
        log.warning(
            "pixels are %g arcmin wide, the network was trained on %g: bin the galaxies on that "
            "scale (--pixel-arcmin %g), or train one for yours (jaxmap train)",
            pixel,
            domain.pixel_arcmin,
            domain.pixel_arcmin,
        )
    weight = np.asarray(data.weight)
    if not weight.any():
        return
    noise = np.median(1 / np.sqrt(weight[weight > 0]))
    low, high = domain.noise_std
    if not low <= noise <= high:
        log.warning(
            "the median noise of a pixel is %.3g, outside the %.3g to %.3g that the network was "
            "trained on; compare with --method wiener before you rely on it",
            noise,
            low,
            high,
        )


def warn_of_residuals(chi2: float, num_components: int, samples: bool) -> None:
    """Say if the residuals of a learned map are not the noise that the weights tell of.

    Args:
        chi2: of the residuals, per observed component (`jaxmap.diagnostics.chi2_per_pixel`).
        num_components: observed ones.
        samples: it is that of posterior samples, 1 where all is right; the residuals of a mean are
            smaller by what it fits, so that only larger ones tell anything.
    """
    margin = max(_RESIDUALS, 5 * (2 / max(num_components, 1)) ** 0.5)
    if chi2 > 1 + margin:
        log.warning(
            "the residuals have a chi-squared of %.3g per observed component, expected %s: the "
            "noise is larger than the weights say (--shape-noise), or the sky is not as the "
            "network's training maps; compare with --method wiener before you rely on it",
            chi2,
            "1" if samples else "at most 1",
        )
    elif samples and chi2 < 1 - margin:
        log.warning(
            "the residuals have a chi-squared of %.3g per observed component, expected 1: the "
            "noise is smaller than the weights say; check them (--shape-noise)",
            chi2,
        )


def warn_of_spectrum(trained: PowerSpectrum, spectrum: PowerSpectrum, limit: float = 0.2) -> None:
    """Say if a network's training maps had another power than the data are thought to have.

    On scales where the baryons of the maps take little of it away (a tenth at redshift 1, a fifth
    at 0.3).
    """
    ell = jnp.geomspace(300.0, 600.0, 16)
    ratio = np.asarray(spectrum(ell) / trained(ell))
    if np.abs(np.log(np.maximum(ratio, 1e-12))).max() > np.log(1 + limit):
        log.warning(
            "the power spectrum for this n(z) and cosmology is %.2f to %.2f times the one that the "
            "network was trained on (ell 300 to 600); train one for yours (jaxmap train)",
            ratio.min(),
            ratio.max(),
        )
