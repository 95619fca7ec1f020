"""Tables of P(k, z): the parameters, jax-cosmo and its corrections, the cache."""

import subprocess
import sys
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap import matter_power as module
from jaxmap.cosmology import limber_power
from jaxmap.matter_power import PLANCK18, Cosmology, MatterPower, matter_power, matter_power_table
from jaxmap.redshifts import cosmos_redshifts

OTHER = replace(PLANCK18, sigma8=0.75)


@cache
def computed_table(cosmology: Cosmology) -> MatterPower:
    return jax.jit(matter_power_table)(*astuple(cosmology))


def test_faults_of_jax_cosmo_are_still_there() -> None:
    assert module.importlib.metadata.version("jax-cosmo") == "0.1.0"
    jax_cosmo = module.import_jax_cosmo()

    def sigma8_squared() -> jax.Array:
        cosmo = jax_cosmo.Cosmology(0.26, 0.05, 0.68, 0.97, 0.8, 0.0, -1.0, 0.0)
        return jax_cosmo.power.sigmasqr(cosmo, 8.0, jax_cosmo.transfer.Eisenstein_Hu)

    original = jax.jit(sigma8_squared)()
    functions = jax_cosmo.power.sigmasqr, jax_cosmo.power.interp, jax_cosmo.background.interp
    with module._corrected_jax_cosmo():
        corrected = jax.jit(lambda: sigma8_squared())()
    assert 0.996 < original / corrected < 0.997
    assert functions == (
        jax_cosmo.power.sigmasqr,
        jax_cosmo.power.interp,
        jax_cosmo.background.interp,
    )
    x, falling = jnp.array([2.7]), jnp.array([4.0, 3.0, 2.0, 1.0, 0.0])
    wrong = jax_cosmo.scipy.interpolate.interp(x, falling, falling**2)
    assert abs(wrong[0] - jnp.interp(x, falling[::-1], falling[::-1] ** 2)[0]) > 0.1


def test_an_unknown_version_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.2.0")
    before = module.import_jax_cosmo().power.sigmasqr
    with module._corrected_jax_cosmo() as jax_cosmo:
        assert jax_cosmo.power.sigmasqr is before
    assert "not version 0.1.0" in caplog.text


@pytest.mark.slow
def test_shipped_table_is_what_the_code_computes() -> None:
    shipped, computed = matter_power(PLANCK18), computed_table(PLANCK18)
    np.testing.assert_allclose(shipped.k, computed.k, rtol=1e-12)
    np.testing.assert_allclose(shipped.z, computed.z, rtol=1e-12)
    np.testing.assert_allclose(shipped.power, computed.power, rtol=1e-6)


def test_scaling_with_sigma8() -> None:
    # On linear scales C_ell goes with sigma8^2, beyond them faster.
    redshifts, ell = cosmos_redshifts(), np.array([5.0, 3000.0])
    ratio = limber_power(computed_table(OTHER), redshifts, ell) / limber_power(
        matter_power(PLANCK18), redshifts, ell
    )
    power = np.log(ratio) / np.log(OTHER.sigma8 / PLANCK18.sigma8)
    assert abs(power[0] - 2) < 0.1
    assert 2.5 < power[1] < 3.5


@pytest.fixture
def quick_table(monkeypatch: pytest.MonkeyPatch) -> MatterPower:
    """Spare the cache's tests the repeated computation of one table."""
    table = computed_table(OTHER)
    monkeypatch.setattr(module, "matter_power_table", lambda *parameters: table)
    return table


def test_other_cosmologies_are_kept_on_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quick_table: MatterPower,
) -> None:
    directory = tmp_path / "new" / "directory"
    monkeypatch.setenv("JAXMAP_CACHE", str(directory))
    np.testing.assert_array_equal(matter_power(OTHER).power, quick_table.power)
    (path,) = directory.iterdir()
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    kept = matter_power(OTHER)
    assert path.stat().st_mtime_ns == written
    assert not caplog.text
    np.testing.assert_allclose(kept.power, quick_table.power, rtol=1e-7)
    np.testing.assert_array_equal(kept.k, quick_table.k)
    for damaged in (b"", b"not a table", whole[:200], whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(matter_power(OTHER).power, quick_table.power)
        assert "ignoring" in caplog.text
        assert path.read_bytes() == whole
        caplog.clear()
    assert list(directory.iterdir()) == [path]


def test_a_table_of_another_cosmology_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, quick_table: MatterPower
) -> None:
    module.write_table(tmp_path / "table.npz", quick_table, OTHER)
    assert module.read_table(tmp_path / "table.npz", OTHER) is not None
    assert module.read_table(tmp_path / "table.npz", PLANCK18) is None
    assert "not the table" in caplog.text
    bad = replace(quick_table, power=quick_table.power.at[3, 4].set(jnp.nan))
    module.write_table(tmp_path / "table.npz", bad, OTHER)
    assert module.read_table(tmp_path / "table.npz", OTHER) is None


def test_a_failed_write_leaves_the_old_table_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_table: MatterPower
) -> None:
    path = tmp_path / "table.npz"
    module.write_table(path, quick_table, OTHER)
    whole = path.read_bytes()

    def interrupted(file: BinaryIO, **arrays: np.ndarray) -> None:
        file.write(b"half a table")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.write_table(path, quick_table, PLANCK18)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == whole


def test_unwritable_cache_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quick_table: MatterPower,
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("JAXMAP_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(matter_power(OTHER).power, quick_table.power)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot keep" in caplog.text


def testcache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAXMAP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert module.cache_directory() == Path("/xdg/jaxmap")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.cache_directory() == Path.home() / ".cache" / "jaxmap"


def test_import_leaves_no_stand_in_behind() -> None:
    code = (
        "import sys, jaxmap.matter_power as c; sys.modules['setuptools'] = None; "
        "c.import_jax_cosmo(); print('jax_cosmo' in sys.modules, 'pkg_resources' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "False"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"omega_m": 1.2}, "omega_m is 1.2"),
        ({"omega_b": 0.4}, "omega_b is 0.4; expected a number between 0 and 0.30966"),
        ({"h": 67.7}, "h = H0 / 100"),
        ({"n_s": float("nan")}, "n_s is nan"),
        ({"sigma8": 0}, "sigma8 is 0"),
    ],
)
def test_impossible_cosmologies(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLANCK18, **change)


def test_cosmology_is_hashable_and_static() -> None:
    assert hash(Cosmology(*astuple(PLANCK18))) == hash(PLANCK18)
    assert not jax.tree.leaves(PLANCK18)
