"""Networks for one survey in files: the published DeepMass, and the generator of a GAN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmap.denoiser_files import iterations_of
from jaxmap.generator import Generator, initialise_generator
from jaxmap.networks.plain_unet import PlainUNet, initialise_plain
from jaxmap.networks.weights import above_zero, fitted_to, network_file, write_weights
from jaxmap.spectra import PowerSpectrum, power_spectrum
from jaxmap.survey_denoiser import FIRST_MAPS, SurveyDenoiser
from jaxmap.trained_survey import TrainedSurvey

DEEPMASS, GAN = "deepmass for one survey", "conditional gan"
"""Kinds of files."""


def write_survey_denoiser(
    path: str | Path, model: SurveyDenoiser, survey: TrainedSurvey, training: dict[str, Any]
) -> None:
    """Write the published DeepMass to ``.npz``: float32 arrays and a JSON header.

    Args:
        path: of the file.
        model: the trained network.
        survey: that it was trained for; all of its mask and noise is kept.
        training: how it was trained, as plain values.
    """
    _write(
        path,
        model,
        survey,
        training,
        {"kind": DEEPMASS, "first": model.first, "iterations": model.iterations},
    )


def write_generator(
    path: str | Path, generator: Generator, survey: TrainedSurvey, training: dict[str, Any]
) -> None:
    """Write a generator to ``.npz``; arguments as of `write_survey_denoiser`."""
    header = {"kind": GAN, "latent": generator.latent, "scale": float(generator.scale)}
    _write(path, generator, survey, training, header)


def read_survey_denoiser(
    path: str | Path,
) -> tuple[SurveyDenoiser, TrainedSurvey, dict[str, Any]]:
    """Read a file of `write_survey_denoiser`.

    Returns:
        The network, the survey it was trained for, and the header of the file.

    Raises:
        ValueError: for a file that is not whole, or of another kind.
    """

    def build(header: dict[str, Any], arrays: Any, spectrum: PowerSpectrum) -> SurveyDenoiser:
        if header["first"] not in FIRST_MAPS:
            raise ValueError(f"its first map is {header['first']!r}")
        network = _network(header)
        params = fitted_to(lambda key: initialise_plain(network, key, 1), arrays)
        return SurveyDenoiser(params, spectrum, network, header["first"], iterations_of(header))

    return _read(path, DEEPMASS, "deepmass-survey", build)


def read_generator(path: str | Path) -> tuple[Generator, TrainedSurvey, dict[str, Any]]:
    """Read a file of `write_generator`; returns and raises as `read_survey_denoiser`."""

    def build(header: dict[str, Any], arrays: Any, spectrum: PowerSpectrum) -> Generator:
        network, latent = _network(header), int(header["latent"])
        params = fitted_to(lambda key: initialise_generator(network, key, latent), arrays)
        scale = jnp.asarray(above_zero(header["scale"]))
        return Generator(params, spectrum, scale, network, latent)

    return _read(path, GAN, "gan", build)


def _write(
    path: str | Path,
    model: SurveyDenoiser | Generator,
    survey: TrainedSurvey,
    training: dict[str, Any],
    header: dict[str, Any],
) -> None:
    network = {"channels": model.network.channels, "blocks": model.network.blocks}
    trained_for = {"pixel_arcmin": survey.pixel_arcmin, "margin": survey.margin}
    spectrum = {"ell": model.spectrum.ell, "c_ell": model.spectrum.c_ell}
    arrays = {
        "network": model.params,
        "spectrum": spectrum,
        "survey": {"weight": survey.weight},
    }
    everything = {**header, "network": network, "survey": trained_for, "training": training}
    write_weights(path, arrays, everything)


def _network(header: dict[str, Any]) -> PlainUNet:
    settings = header["network"]
    return PlainUNet(tuple(map(int, settings["channels"])), int(settings["blocks"]))


def _read(
    path: str | Path,
    kind: str,
    trained_as: str,
    build: Callable[[dict[str, Any], Any, PowerSpectrum], Any],
) -> tuple[Any, TrainedSurvey, dict[str, Any]]:
    with network_file(path, kind, trained_as) as (arrays, header):
        spectrum = power_spectrum(arrays["spectrum"]["ell"], arrays["spectrum"]["c_ell"])
        model = build(header, arrays["network"], spectrum)
        weight, trained_for = np.asarray(arrays["survey"]["weight"]), header["survey"]
        if weight.ndim != 3 or len(weight) != 2:
            raise ValueError(f"the weights of its survey have shape {weight.shape}")
        survey = TrainedSurvey(
            weight, above_zero(trained_for["pixel_arcmin"]), int(trained_for["margin"])
        )
    return model, survey, header
