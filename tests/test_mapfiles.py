"""Mass maps on disk: nothing lost, nothing half-written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmap.catalog import ShearMap
from jaxmap.grid import Grid
from jaxmap.mapfiles import (
    read_mass_map,
    read_provenance,
    read_samples,
    read_shear_map,
    write_mass_map,
    write_samples,
    write_shear_map,
)
from jaxmap.massmap import MassMap


def random_map(dtype, grid, samples=True):
    rng = np.random.default_rng(0)
    plane = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    ny, nx = grid.shape
    return MassMap(
        convergence=plane(ny, nx),
        grid=grid,
        mask=jnp.asarray(rng.random((ny, nx)) > 0.3),
        std=jnp.abs(plane(ny, nx)),
        b_mode=plane(ny, nx),
        samples=plane(3, ny, nx) if samples else None,
        counts=jnp.asarray(rng.integers(0, 9, (ny, nx)), dtype),
    )


GRIDS = [Grid((7, 9), 0.29, (150.123456789012, 2.3)), Grid((4, 4), 1 / 3)]


@pytest.mark.parametrize("grid", GRIDS, ids=["on the sky", "off the sky"])
def test_fits_round_trip_is_lossless(tmp_path, dtype, grid):
    original = random_map(dtype, grid)
    write_mass_map(tmp_path / "map.fits", original, {"seed": 3})
    back = read_mass_map(tmp_path / "map.fits")
    assert back.grid == grid
    assert jax.tree.structure(back) == jax.tree.structure(original)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(original), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert read_provenance(tmp_path / "map.fits") == {"seed": 3}


@pytest.mark.parametrize("grid", GRIDS, ids=["on the sky", "off the sky"])
@pytest.mark.parametrize("counts", [None, 3.0])
def test_shear_maps_come_back_without_loss(tmp_path, dtype, grid, counts):
    rng = np.random.default_rng(1)
    parts = jnp.asarray(rng.normal(size=(4, *grid.shape)), dtype)
    counts = None if counts is None else jnp.full(grid.shape, counts, dtype)
    original = ShearMap(parts[0] + 1j * parts[1], jnp.abs(parts[2:]), grid, counts)
    write_shear_map(tmp_path / "shear.fits", original, {"seed": 3})
    back = read_shear_map(tmp_path / "shear.fits")
    assert back.grid == grid
    assert jax.tree.structure(back) == jax.tree.structure(original)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(original), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert read_provenance(tmp_path / "shear.fits") == {"seed": 3}
    # Maps of another kind are told apart.
    with pytest.raises(ValueError, match=r"not a whole jaxmap map .*KAPPA_E"):
        read_mass_map(tmp_path / "shear.fits")
    write_mass_map(tmp_path / "mass.fits", random_map(dtype, grid))
    with pytest.raises(ValueError, match=r"not a whole jaxmap map .*G1"):
        read_shear_map(tmp_path / "mass.fits")


def test_fits_holds_what_other_programs_expect(tmp_path):
    from astropy.io import fits
    from astropy.wcs import WCS

    original = random_map(float, GRIDS[0], samples=False)
    write_mass_map(tmp_path / "map.fits", original)
    with fits.open(tmp_path / "map.fits", checksum=True) as hdus:
        names = [hdu.name for hdu in hdus[1:]]
        assert names == ["KAPPA_E", "KAPPA_B", "SIGMA", "SNR", "MASK", "NGAL", "PROVENANCE"]
        np.testing.assert_array_equal(hdus["SNR"].data, original.signal_to_noise)
        assert hdus["MASK"].data.dtype == np.uint8
        # The file's own coordinates place a pixel where the grid does.
        ra, dec = WCS(hdus["KAPPA_E"].header).all_pix2world(8, 0, 0)
        x, y = original.grid.pixel_position(ra, dec)
        np.testing.assert_allclose([x[0], y[0]], [8, 0], atol=1e-8)
        assert hdus["KAPPA_E"].header["CDELT1"] < 0


def test_samples_round_trip_and_open_elsewhere(tmp_path, dtype):
    import h5py
    import xarray

    original = random_map(dtype, GRIDS[0])
    path = tmp_path / "samples.nc"
    write_samples(path, original, {"seed": 3})
    samples, grid = read_samples(path)
    assert grid == original.grid and samples.dtype == dtype
    np.testing.assert_array_equal(samples, original.samples)
    with xarray.open_dataset(path, group="posterior", engine="h5netcdf") as data:
        assert data["kappa"].dims == ("chain", "draw", "y", "x")
        np.testing.assert_array_equal(data["kappa"][0], original.samples)
    with h5py.File(path) as file:
        assert file["posterior/kappa"].chunks == (1, 1, 7, 9)
        np.testing.assert_array_equal(file["mean"], original.convergence)
        assert json.loads(file.attrs["provenance"]) == {"seed": 3}


def test_a_flipped_bit_is_noticed(tmp_path):
    """In any of the arrays of samples; and samples without a checksum that are not finite."""
    import h5py

    original = random_map(np.float32, GRIDS[0])
    path = tmp_path / "samples.nc"
    write_samples(path, original)
    with h5py.File(path) as file:
        assert all(file[name].fletcher32 for name in ("mean", "std", "posterior/kappa"))
        place = file["posterior/kappa"].id.get_chunk_info(1).byte_offset
    whole = path.read_bytes()
    for bit in (0, 30):  # of the least, and of an exponent
        content = bytearray(whole)
        content[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"samples\.nc is not a whole file"):
            read_samples(path)
    grid = {"shape": [2, 2], "pixel_arcmin": 1.0, "centre_deg": None}
    with h5py.File(tmp_path / "others.nc", "w") as file:
        file.attrs["grid"] = json.dumps(grid)
        file["posterior/kappa"] = np.array([1, 2, 3, np.inf]).reshape(1, 1, 2, 2)
    with pytest.raises(ValueError, match="not finite"):
        read_samples(tmp_path / "others.nc")


@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_by_a_path_upwards_in_any_byte_order(tmp_path, monkeypatch, order):
    """Seen from a folder beside it, and as another program may have stored it."""
    import h5py

    grid, samples = Grid((4, 5), 1.0), np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    with h5py.File(tmp_path / "samples.nc", "w") as file:
        file.attrs["grid"] = json.dumps(
            {"shape": grid.shape, "pixel_arcmin": 1.0, "centre_deg": None}
        )
        file["posterior/kappa"] = samples[None].astype(f"{order}f4")
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    found, its = read_samples("../samples.nc")
    assert its == grid and found.dtype.isnative
    np.testing.assert_array_equal(found, samples)


def test_no_samples_is_said(tmp_path):
    with pytest.raises(ValueError, match="no posterior samples"):
        write_samples(tmp_path / "samples.nc", random_map(float, GRIDS[0], samples=False))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 100, 3000, 9000])
def test_truncated_files_are_refused(tmp_path, keep):
    original = random_map(float, Grid((16, 16), 1.0))
    for name, write, read in (
        ("map.fits", write_mass_map, read_mass_map),
        ("samples.nc", write_samples, read_samples),
    ):
        path = tmp_path / name
        write(path, original)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=f"{name} is not a whole"):
            read(path)


def test_other_fits_files_are_refused(tmp_path):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "other.fits")
    with pytest.raises(ValueError, match="not a whole jaxmap map"):
        read_mass_map(tmp_path / "other.fits")
    with pytest.raises(FileNotFoundError):
        read_mass_map(tmp_path / "none.fits")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    original = random_map(float, GRIDS[0])
    write_mass_map(tmp_path / "map.fits", original)
    before = (tmp_path / "map.fits").read_bytes()
    with pytest.raises(TypeError):
        write_mass_map(tmp_path / "map.fits", original, {"not json": object()})
    assert (tmp_path / "map.fits").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["map.fits"]
