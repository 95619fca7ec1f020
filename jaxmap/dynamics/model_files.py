"""Trained estimators in files, and those that come with jaxmap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmap.dynamics.cnn import PhaseSpaceEnsemble, described, preset_from
from jaxmap.dynamics.dispersion import biweight, gapper, standard_deviation
from jaxmap.dynamics.divergence import Bags
from jaxmap.dynamics.domain import Domain
from jaxmap.dynamics.error_model import ErrorModel
from jaxmap.dynamics.m_sigma import MSigma
from jaxmap.dynamics.sdm import SDM, FeatureScale, Regression
from jaxmap.networks.phase_space import initialise
from jaxmap.networks.weights import fitted, read_weights, write_weights

Model = MSigma | SDM | PhaseSpaceEnsemble
SHIPPED = ("m_sigma_pure", "m_sigma_contaminated", "sdm1d", "sdm2d", "cnn1d", "cnn2d")
DISPERSIONS = {one.__name__: one for one in (standard_deviation, gapper, biweight)}


def write_model(path: str | Path, model: Model, about: dict[str, Any] | None = None) -> None:
    """Write a trained estimator as float32, in the weights format of all networks.

    Args:
        path: of the file, ``.npz``.
        model: to write.
        about: anything JSON can hold, kept in the header: seeds, sizes, versions.
    """
    if isinstance(model, MSigma):
        arrays, settings = _m_sigma_parts(model)
    elif isinstance(model, SDM):
        arrays, settings = _sdm_parts(model)
    else:
        arrays, settings = _cnn_parts(model)
    write_weights(path, arrays, {**settings, "about": about or {}})


def read_model(path: str | Path) -> Model:
    """Read an estimator of `write_model`.

    Raises:
        ValueError: for a file that is missing, damaged, or of another kind.
    """
    arrays, header = read_weights(path)
    try:
        return _READERS[header["dynamics"]](arrays, header)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no cluster estimator ({type(error).__name__}: {error}); expected a file "
            "of `jaxmap dynamics train`"
        ) from error


def shipped_model(name: str) -> Model:
    """An estimator that comes with jaxmap, trained on its synthetic clusters: one of `SHIPPED`."""
    if name not in SHIPPED:
        raise ValueError(f"there is no shipped estimator {name!r}; expected one of {SHIPPED}")
    source = resources.files("jaxmap") / "data" / "dynamics" / f"{name}.npz"
    with resources.as_file(source) as path:
        return read_model(path)


def _m_sigma_parts(model: MSigma) -> tuple[dict[str, Any], dict[str, Any]]:
    name = model.dispersion.__name__
    if DISPERSIONS.get(name) is not model.dispersion:
        raise ValueError(
            f"a dispersion {name!r} cannot be kept in a file; expected one of {list(DISPERSIONS)}"
        )
    numbers = ("sigma15_km_s", "alpha", "scatter", "intrinsic", "sigma15_std", "alpha_std")
    others = ("num_sigma", "small_sample", "with_hz", "omega_m")
    settings = {one: getattr(model, one) for one in (*numbers, *others)}
    arrays = {} if model.errors is None else {"errors": model.errors._asdict()}
    domain = None if model.domain is None else asdict(model.domain)
    header = {"settings": {**settings, "dispersion": name}, "domain": domain}
    return arrays, {"dynamics": "m-sigma", **header}


def _m_sigma(arrays: dict[str, Any], header: dict[str, Any]) -> MSigma:
    settings = dict(header["settings"])
    settings["dispersion"] = DISPERSIONS[settings["dispersion"]]
    domain = header.get("domain")
    return MSigma(
        **settings,
        errors=_errors(arrays) if arrays else None,
        domain=None if domain is None else Domain(**domain),
    )


def _sdm_parts(model: SDM) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays = {
        "landmarks": model.landmarks.points,
        "weight": model.regression.weight,
        "errors": model.errors._asdict(),
    }
    header = {
        "dynamics": "sdm",
        "offsets": model.landmarks.offsets.tolist(),
        "scale": {name: values.tolist() for name, values in model.scale._asdict().items()},
        "width": model.regression.width,
        "offset": model.regression.offset,
        "domain": asdict(model.domain),
        "k": model.k,
        "with_radius": model.with_radius,
    }
    return arrays, header


def _sdm(arrays: dict[str, Any], header: dict[str, Any]) -> SDM:
    return SDM(
        landmarks=Bags(arrays["landmarks"].astype(float), np.array(header["offsets"])),
        scale=FeatureScale(*(np.array(header["scale"][name]) for name in FeatureScale._fields)),
        regression=Regression(header["width"], arrays["weight"].astype(float), header["offset"]),
        errors=_errors(arrays),
        domain=Domain(**header["domain"]),
        k=header["k"],
        with_radius=header["with_radius"],
    )


def _cnn_parts(model: PhaseSpaceEnsemble) -> tuple[dict[str, Any], dict[str, Any]]:
    networks = {f"network{i}": params for i, params in enumerate(model.params)}
    header = {
        "dynamics": "cnn",
        "num_networks": len(model.params),
        "preset": described(model.preset),
        "domain": asdict(model.domain),
        "with_radius": model.with_radius,
    }
    return {**networks, "errors": model.errors._asdict()}, header


def _cnn(arrays: dict[str, Any], header: dict[str, Any]) -> PhaseSpaceEnsemble:
    preset, with_radius = preset_from(header["preset"]), header["with_radius"]
    network = preset.network if with_radius else preset.profile_network
    shape = (48, 48) if with_radius else (48, 1)
    like = jax.eval_shape(lambda key: initialise(network, key, shape), jax.random.key(0))
    networks = (arrays[f"network{i}"] for i in range(header["num_networks"]))
    # Images are float32 in any session.
    params = (jax.tree.map(lambda x: x.astype("float32"), fitted(one, like)) for one in networks)
    return PhaseSpaceEnsemble(
        params=tuple(params),
        errors=_errors(arrays),
        preset=preset,
        domain=Domain(**header["domain"]),
        with_radius=with_radius,
    )


def _errors(arrays: dict[str, Any]) -> ErrorModel:
    return ErrorModel(*(arrays["errors"][name].astype(float) for name in ErrorModel._fields))


_READERS: dict[str, Callable[[dict, dict], Model]] = {"m-sigma": _m_sigma, "sdm": _sdm, "cnn": _cnn}
