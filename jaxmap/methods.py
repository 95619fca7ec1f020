"""Estimators by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jaxmap.estimators import Estimator, KaiserSquires, Wiener
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
) -> Estimator:
    """The estimator called ``ks`` or ``wiener``; settings that it does not have are left aside."""
    if method == "ks":
        return KaiserSquires(smoothing_arcmin, margin)
    if method == "wiener":
        return Wiener(spectrum, num_samples=num_samples, margin=margin, progress=progress)
    raise ValueError(f"method is {method!r}; expected ks or wiener")
