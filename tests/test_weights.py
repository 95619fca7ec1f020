"""Files of trained networks and checkpoints: bit for bit, or refused; nothing in them can run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.denoiser import NUM_CONDITIONS, NUM_FEATURES, Denoiser
from jaxmap.denoiser_files import Domain, read_denoiser, write_denoiser
from jaxmap.networks.checkpoint import read_checkpoint, write_checkpoint
from jaxmap.networks.optimiser import Schedule, start
from jaxmap.networks.unet import ResidualUNet, initialise
from jaxmap.networks.weights import HEADER, read_weights, write_weights
from jaxmap.spectral_gain import SpectralGain

RNG = np.random.default_rng(0)
PARAMS = {
    "layer": {"kernel": RNG.normal(size=(3, 3, 2)).astype("f4"), "bias": np.float32([1e-30, -0.0])},
    "scale": np.float32(0.1),
}
DOMAIN = Domain(0.29, (0.03, 0.4))


class Intruder:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def rewritten(path: Path, **changed: Any) -> Path:
    """The archive with other arrays in it (None: left out), as by a careless or bad hand."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changed
    target = path.with_name("rewritten.npz")
    with open(target, "wb") as stream:
        np.savez(stream, **{name: value for name, value in arrays.items() if value is not None})
    return target


def header_bytes(header: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(header).encode(), np.uint8)


@pytest.mark.parametrize("name", ["weights.npz", "weights", "deep/down/weights.npz"])
def test_weights_come_back_bit_for_bit(tmp_path, name):
    path = tmp_path / name
    write_weights(path, PARAMS, {"kind": "toy", "list": [1, None]})
    params, header = read_weights(path)
    assert [path] == [each for each in tmp_path.rglob("*") if each.is_file()]
    assert (header["kind"], header["list"]) == ("toy", [1, None])
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(PARAMS), strict=True):
        assert one.dtype == np.float32 and one.tobytes() == other.tobytes()


def test_changed_weights_are_found_out(tmp_path):
    path = tmp_path / "weights.npz"
    write_weights(path, PARAMS, {})
    kernel = PARAMS["layer"]["kernel"]
    tampered = kernel.copy()
    tampered.view(np.uint32)[1, 1, 1] ^= 1  # the last bit of one number
    for changed in (
        {"layer/kernel": tampered},
        {"layer/kernel": kernel.astype("f8")},
        {"layer/kernel": kernel.reshape(2, 9)},
        {"layer/bias": None},
        {"extra": kernel},
    ):
        with pytest.raises(ValueError, match=r"do not match its checksum.*fetch it again"):
            read_weights(rewritten(path, **changed))
    assert read_weights(rewritten(path, **{"layer/kernel": kernel.copy()}))


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / "weights.npz"
    write_weights(path, PARAMS, {})
    whole = path.read_bytes()
    broken = tmp_path / "broken.npz"
    contents = {
        "cut short": whole[: len(whole) // 2],
        "without its end": whole[:-10],
        "empty": b"",
        "a text": b"weights = 3\n",
        "a pickle": pickle.dumps(Intruder(tmp_path / "trace")),
    }
    flipped = bytearray(whole)
    flipped[whole.index(PARAMS["layer"]["kernel"].tobytes()) + 5] ^= 0xFF
    for content in (*contents.values(), bytes(flipped)):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken.npz is not a whole file of jaxmap weights"):
            read_weights(broken)
    np.save(broken.with_suffix(".npy"), PARAMS["scale"])
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("notes.txt", "no arrays")
    objects = np.array([Intruder(tmp_path / "trace")], dtype=object)
    for bad in (
        broken,
        broken.with_suffix(".npy"),
        tmp_path,
        rewritten(path, **{HEADER: None}),
        rewritten(path, **{HEADER: header_bytes(["no", "table"])}),
        rewritten(path, **{HEADER: np.frombuffer(b"\xff{", np.uint8)}),
        rewritten(path, **{"layer/bias": objects}),
    ):
        with pytest.raises(ValueError, match="is not a whole file of jaxmap weights"):
            read_weights(bad)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(ValueError, match=r"there is no file .*nowhere"):
        read_weights(tmp_path / "nowhere.npz")


@pytest.fixture(scope="module")
def denoiser(spectrum) -> Denoiser:
    network = ResidualUNet((4, 8), embedding=5)
    shapes = jax.eval_shape(
        lambda key: initialise(network, key, NUM_FEATURES, NUM_CONDITIONS), jax.random.key(0)
    )
    params = jax.tree.map(lambda leaf: jnp.asarray(np.float32(RNG.normal(size=leaf.shape))), shapes)
    return Denoiser(params, spectrum, network)


def test_denoisers_come_back(tmp_path, denoiser):
    path = tmp_path / "denoiser.npz"
    gain = SpectralGain(*map(jnp.asarray, ([-4.0, -3.0], [6.0], [[1.0], [0.5]], [[0.0], [0.25]])))
    denoiser = replace(denoiser, iterations=30, reach=5.5, correction_pixels=11.0, gain=gain)
    write_denoiser(path, denoiser, DOMAIN, {"steps": 7})
    again, domain, header = read_denoiser(path)
    assert (again.network, domain, header["training"]) == (denoiser.network, DOMAIN, {"steps": 7})
    assert jax.tree.structure(again) == jax.tree.structure(denoiser)  # all settings too
    for one, other in zip(
        jax.tree.leaves((again.params, again.gain)),
        jax.tree.leaves((denoiser.params, denoiser.gain)),
        strict=True,
    ):
        assert one.dtype == jnp.zeros(()).dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.spectrum.c_ell, np.float32(denoiser.spectrum.c_ell))


GAIN = {
    "log_scale": np.array([-4.0, -3.0]),
    "log_ell": np.array([6.0]),
    "gain": np.ones((2, 1)),
    "leakage": np.zeros((2, 1)),
}


def test_files_that_are_no_denoisers(tmp_path, denoiser):
    path = tmp_path / "denoiser.npz"
    arrays = {
        "network": denoiser.params,
        "spectrum": {"ell": denoiser.spectrum.ell, "c_ell": denoiser.spectrum.c_ell},
    }
    header = {
        "kind": "denoiser",
        "network": {"channels": [4, 8], "blocks": 1, "embedding": 5, "half": False},
        "domain": {"pixel_arcmin": 0.29, "noise_std": [0.03, 0.4]},
    }
    write_weights(path, arrays, header)
    old = read_denoiser(path)[0]
    told = (old.iterations, old.reach, old.correction_pixels, old.gain)
    assert told == (12, None, None, None)  # of files that do not tell

    def without(table: dict[str, Any], name: str) -> dict[str, Any]:
        return {key: value for key, value in table.items() if key != name}

    block = denoiser.params["ModulatedBlock_0"]
    cases: dict[str, tuple[Any, Any]] = {
        "holds a score": (arrays, header | {"kind": "score"}),
        "kind": (arrays, without(header, "kind")),
        "domain": (arrays, without(header, "domain")),
        "network": (without(arrays, "network"), header),
        "c_ell": (arrays | {"spectrum": without(arrays["spectrum"], "c_ell")}, header),
        "shape": (arrays, header | {"network": header["network"] | {"channels": [4, 16]}}),
        "embedding": (arrays, header | {"network": without(header["network"], "embedding")}),
        "ModulatedBlock_0": (
            arrays | {"network": without(denoiser.params, "ModulatedBlock_0")},
            header,
        ),
        "PeriodicConv_0": (
            arrays
            | {"network": denoiser.params | {"ModulatedBlock_0": without(block, "PeriodicConv_0")}},
            header,
        ),
        "0 iterations": (arrays, header | {"iterations": 0}),
        "30.0 iterations": (arrays, header | {"iterations": 30.0}),
        "a number in its header is 0.0": (arrays, header | {"reach": 0}),
        "a number in its header is -1.0": (arrays, header | {"correction_pixels": -1}),
        "10000000 iterations": (arrays, header | {"iterations": 10**7}),
        "to float": (arrays, header | {"domain": {"pixel_arcmin": 0.29, "noise_std": "ab"}}),
        "'leakage'": (arrays | {"gain": without(GAIN, "leakage")}, header),
        "no finite table": (arrays | {"gain": GAIN | {"gain": np.ones((3, 1))}}, header),
        "is -1": (arrays | {"spectrum": arrays["spectrum"] | {"c_ell": -np.ones(200)}}, header),
    }
    for part, (arrays_of, header_of) in cases.items():
        write_weights(path, arrays_of, header_of)
        with pytest.raises(ValueError, match=f"(?s)is not a denoiser of jaxmap .*{part}"):
            read_denoiser(path)


@pytest.fixture
def state() -> Any:
    params = {"a": jnp.asarray(RNG.normal(size=(2, 3))), "b": jnp.float32([1e-40, -0.0, np.pi])}
    return start(params, Schedule(10))._replace(step=jnp.asarray(7))


def test_checkpoints_come_back_bit_for_bit(tmp_path, state):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, state, {"settings": {"seed": 1}})
    write_checkpoint(path, state, {"settings": {"seed": 2}})
    again, record = read_checkpoint(path, start(state.params, Schedule(10)))
    assert record == {"settings": {"seed": 2}} and list(tmp_path.iterdir()) == [path]
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_checkpoints_that_do_not_fit(tmp_path, state):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, state, {})

    def changed(params: Any) -> Any:
        return start(params, Schedule(10))

    with pytest.raises(ValueError, match=r"\['a'\] has shape \(2, 3\), the network here \(3, 2\)"):
        read_checkpoint(path, changed({**state.params, "a": jnp.ones((3, 2))}))
    with pytest.raises(ValueError, match=r"is no checkpoint of this training .*remove it"):
        read_checkpoint(path, changed({**state.params, "c": jnp.ones(2)}))
    with pytest.raises(ValueError, match=r"was written in float32, this session computes in int"):
        read_checkpoint(path, changed({**state.params, "b": jnp.ones(3, int)}))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", pickle.dumps(Intruder(tmp_path / "trace"))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is no checkpoint of this training .*remove it"):
            read_checkpoint(path, state)
    assert not (tmp_path / "trace").exists()


def test_no_half_written_file_stays(tmp_path, state, monkeypatch):
    """Where the disk is full, what was there before stays, and nothing else."""
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, state, {"step": 1})

    def fail(stream: Any, **arrays: Any) -> None:
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, state, {"step": 2})
    assert list(tmp_path.iterdir()) == [path]
    assert read_checkpoint(path, state)[1] == {"step": 1}
