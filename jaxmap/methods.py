"""Estimators by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from jaxmap.denoiser_files import read_denoiser, warn_of_spectrum
from jaxmap.estimators import DeepMass, Estimator, KaiserSquires, Wiener
from jaxmap.operators import Phase, spin2_phase
from jaxmap.spectra import PowerSpectrum

Progress = Callable[[Iterable[int]], Iterable[int]]


def build_estimator(
    method: str,
    spectrum: PowerSpectrum,
    *,
    smoothing_arcmin: float,
    num_samples: int,
    margin: int | None,
    progress: Progress,
    weights: str | Path | None = None,
    phase: Phase = spin2_phase,
) -> Estimator:
    """The estimator called ``ks``, ``wiener`` or ``deepmass``.

    Settings that it does not have are left aside; a network brings its own spectrum, and says when
    the one given is far from it.
    """
    if method == "ks":
        return KaiserSquires(smoothing_arcmin, margin)
    if method == "wiener":
        return Wiener(
            spectrum, num_samples=num_samples, margin=margin, phase=phase, progress=progress
        )
    if method == "deepmass":
        denoiser, domain, _ = read_denoiser(weights)
        warn_of_spectrum(denoiser, spectrum)
        return DeepMass(denoiser, domain, margin)
    raise ValueError(f"method is {method!r}; expected ks, wiener or deepmass")
