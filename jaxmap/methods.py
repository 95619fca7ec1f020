"""Estimators by the names of the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmap.cluster_network import read_cluster_network
from jaxmap.denoiser_files import read_denoiser, warn_of_spectrum
from jaxmap.estimators import (
    ConditionalGAN,
    DeepMass,
    Estimator,
    HongCNN,
    KaiserSquires,
    KSPlus,
    MaximumPosterior,
    MCALens,
    SampledPosterior,
    Sparse,
    SurveyDeepMass,
    Wiener,
)
from jaxmap.flags import METHODS, NETWORKS, NUM_SAMPLES
from jaxmap.grid import Grid
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.hybrid_prior_files import KIND as HYBRID
from jaxmap.hybrid_prior_files import read_hybrid_domain, read_hybrid_prior
from jaxmap.networks.weights import read_weights
from jaxmap.operators import Phase, spin2_phase
from jaxmap.samplers import (
    CONVOLVED,
    PRECONDITIONED_LEARNED,
    Annealed,
    Diffusion,
    Gibbs,
    Sampler,
)
from jaxmap.sampling.schedule import PAPER
from jaxmap.spectra import PowerSpectrum
from jaxmap.survey_network_files import DEEPMASS, read_generator, read_survey_denoiser

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def build_estimator(
    method: str,
    spectrum: PowerSpectrum,
    *,
    smoothing_arcmin: float = 1.0,
    threshold: float | None = None,
    reduced_shear: int = 0,
    num_samples: int | None = None,
    margin: int | None = None,
    progress: Progress = lambda chunks: chunks,
    weights: str | Path | None = None,
    phase: Phase = spin2_phase,
    sampler: str = "eps",
    num_steps: int | None = None,
) -> Estimator:
    """The estimator of that name.

    Settings that it does not have are left aside, but for weights. A network brings its own
    spectrum, and says when the one given is far from it. What ``deepmass`` is depends on the file:
    `DeepMass`, or with a network trained for one survey `SurveyDeepMass`.

    Args:
        method: name of the estimator.
        spectrum: power spectrum of the convergence.
        smoothing_arcmin: of ``ks`` and ``ksplus``.
        threshold: of ``glimpse`` and ``mcalens``, in standard deviations; None for their own.
        reduced_shear: of ``ksplus`` and ``glimpse``: how often to correct the reduced shear.
        num_samples: of the posterior; None for the method's own number.
        margin: masked pixels around the field; None for the default.
        progress: wraps loops over chunks of samples.
        weights: file of a trained network; the shipped one if None (there is none of ``gan``);
            several of ``hong``, with commas between them.
        phase: of the shear operator of the Wiener filter.
        sampler: of ``dlposterior``; see `build_sampler`; ``map`` for the most probable map.
        num_steps: of the sampler; None for its own number.

    Raises:
        ValueError: for an unknown name, ``gan`` without weights, weights of what has no network,
            or a file of another kind.
    """
    count = NUM_SAMPLES.get(method, 0) if num_samples is None else num_samples
    if weights is not None and method in METHODS and method not in NETWORKS:
        raise ValueError(f"weights is {weights}, but {method} has no network; leave --weights out")
    if method == "ks":
        return KaiserSquires(smoothing_arcmin, margin)
    if method == "ksplus":
        return KSPlus(smoothing_arcmin, num_corrections=reduced_shear, margin=margin)
    if method == "glimpse":
        level = 5.0 if threshold is None else threshold
        return Sparse(level, num_corrections=reduced_shear, margin=margin, phase=phase)
    if method == "mcalens":
        level = 4.0 if threshold is None else threshold
        return MCALens(spectrum, level, margin=margin, phase=phase)
    if method == "wiener":
        return Wiener(spectrum, num_samples=count, margin=margin, phase=phase, progress=progress)
    if method == "gan":
        generator, survey, _ = read_generator(_required(weights))
        warn_of_spectrum(generator.spectrum, spectrum)
        return ConditionalGAN(generator, survey, count, margin=margin, progress=progress)
    if method == "hong":
        files: list[str | None] = [None] if weights is None else [*str(weights).split(",")]
        return HongCNN(tuple(read_cluster_network(file)[0] for file in files))
    if method not in ("deepmass", "dlposterior"):
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    kind = None if weights is None else read_weights(weights)[1].get("kind")
    if method == "deepmass" and weights is not None and kind == DEEPMASS:
        model, survey, _ = read_survey_denoiser(weights)
        warn_of_spectrum(model.spectrum, spectrum)
        return SurveyDeepMass(model, survey, margin)
    if method == "dlposterior" and weights is not None and kind == HYBRID:
        prior: Any = partial(_hybrid_prior, weights)
        trained, domain = read_hybrid_domain(weights)
    else:
        prior, domain, _ = read_denoiser(weights)
        trained = prior.spectrum
    warn_of_spectrum(trained, spectrum)
    if method == "deepmass":
        return DeepMass(prior, domain, margin)
    if sampler == "map":
        return MaximumPosterior(prior, domain, margin)
    return SampledPosterior(
        prior,
        build_sampler(sampler, num_steps, progress, hybrid=kind == HYBRID),
        count,
        domain=domain,
        margin=margin,
        progress=progress,
    )


def kept_samples(method: str, num_samples: int | None) -> tuple[int, int]:
    """Samples that a method holds in memory, and all that it draws.

    ``dlposterior`` and ``gan`` keep theirs on disk.
    """
    count = NUM_SAMPLES.get(method, 0) if num_samples is None else num_samples
    drawn = count if method in NUM_SAMPLES else 0
    return (drawn if method == "wiener" else 0), drawn


def build_sampler(
    name: str, num_steps: int | None, progress: Progress, *, hybrid: bool = False
) -> Sampler:
    """The sampler called ``eps``, ``gibbs``, ``hmc`` or ``hmc-fast``.

    Args:
        name: ``eps``, diffusion under the exact posterior score; ``gibbs``, messenger Gibbs;
            ``hmc``, annealed HMC with the paper's schedule; ``hmc-fast``, preconditioned chains of
            the posterior's own convolutions.
        num_steps: evaluations of a sample of ``eps``, sweeps of ``gibbs``; None for the default.
        progress: wraps the annealing of a chunk of chains.
        hybrid: for the published hybrid prior, which ``hmc-fast`` follows by the paper's proxy.
    """
    if name == "eps":
        return Diffusion() if num_steps is None else Diffusion(num_steps)
    if name == "gibbs":
        return Gibbs() if num_steps is None else Gibbs(num_steps)
    if name not in ("hmc", "hmc-fast"):
        raise ValueError(f"sampler is {name!r}; expected eps, gibbs, hmc, hmc-fast or map")
    if num_steps is not None:
        raise ValueError(
            f"num_steps is {num_steps}; expected none with {name}, whose levels decide"
        )
    if name == "hmc":
        return Annealed(PAPER, progress=progress)
    settings = PRECONDITIONED_LEARNED if hybrid else CONVOLVED
    return Annealed(settings, precondition=True, proxy=hybrid, progress=progress)


def method_identity(
    method: str,
    estimator: Estimator,
    *,
    smoothing_arcmin: float = 1.0,
    threshold: float | None = None,
    reduced_shear: int = 0,
    num_samples: int | None = None,
    sampler: str = "eps",
    num_steps: int | None = None,
    weights: str | Path | None = None,
) -> dict[str, Any]:
    """What decides how a method errs, as JSON can hold it; arguments as of `build_estimator`.

    The spectrum of the prior and the margin are left out.
    """
    count = NUM_SAMPLES.get(method, 0) if num_samples is None else num_samples
    if method in ("ks", "ksplus"):
        identity: dict[str, Any] = {"method": method, "smoothing_arcmin": float(smoothing_arcmin)}
        return identity if method == "ks" else identity | {"reduced_shear": reduced_shear}
    if method in ("glimpse", "mcalens"):
        return {"method": method, "threshold": threshold, "reduced_shear": reduced_shear}
    if method == "wiener":
        return {"method": method, "num_samples": count}
    network = network_digest(estimator)
    if not network and weights is not None:  # a prior that is built on every grid anew
        network = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    identity = {"method": method, "network": network[:12]}
    if method == "dlposterior":
        identity["sampler"] = sampler
        if sampler != "map":
            identity |= {"num_samples": count, "num_steps": num_steps}
    return identity


def network_digest(estimator: Estimator) -> str:
    """Hash of the arrays of an estimator's network in single precision; empty without any."""
    network, found = hashlib.sha256(), False
    for name in ("prior", "denoiser", "generator", "model", "models"):
        for leaf in jax.tree.leaves(getattr(estimator, name, None)):
            if isinstance(leaf, jax.Array | np.ndarray):
                network.update(np.asarray(leaf, np.float32).tobytes())
                found = True
    return network.hexdigest() if found else ""


def _required(weights: str | Path | None) -> str | Path:
    if weights is None:
        raise ValueError(
            "no GAN is shipped; train one for your survey by `jaxmap train "
            "experiments/training/gan_cosmos.toml --out gan`, and give --weights gan/gan.npz"
        )
    return weights


def _hybrid_prior(weights: str | Path, grid: Grid) -> HybridPrior:
    return read_hybrid_prior(weights, grid)[0]
