"""Convergence maps that cannot be used: one sentence that names the file and the remedy."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from mapwriters import (
    write_fits,
    write_hdf5,
    write_ktng_binary,
    write_npy,
    write_npz,
    write_simulated,
)

from jaxmap import open_maps

MAP = np.random.default_rng(3).normal(scale=0.02, size=(40, 40))


def refused(path: Path | str, match: str, **options: Any) -> None:
    """Either opening or reading fails, in a sentence, without much memory."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=match) as caught:
        list(open_maps(path, **{"pixel_arcmin": 1.0, **options}))
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def write_gzip(path: Path, values: np.ndarray) -> None:
    write_fits(path.with_suffix(""), values)
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()


WRITERS = {
    "a.fits": write_fits,
    "a.fits.gz": write_gzip,
    "a.npy": write_npy,
    "a.npz": lambda path, values: write_npz(path, convergence=values),
    "a.h5": lambda path, values: write_hdf5(path, convergence=values),
    "kappa23.dat": write_ktng_binary,
}


@pytest.mark.parametrize("name", WRITERS)
def test_truncated_anywhere(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, MAP)
    whole = path.read_bytes()
    assert len(open_maps(path, pixel_arcmin=1.0)) == 1
    for size in {0, 1, 3, 100, len(whole) // 2, len(whole) - 3000, len(whole) - 1}:
        path.write_bytes(whole[: max(size, 0)])
        refused(path, name)


@pytest.mark.parametrize("name", WRITERS)
def test_garbage(tmp_path, name):
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    refused(tmp_path / name, name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("name", ["a.fits", "a.npz", "kappa23.dat"])
def test_pixels_that_are_no_numbers(tmp_path, name, bad):
    values = MAP.copy()
    values[3, 4] = bad
    WRITERS[name](tmp_path / name, values)
    refused(tmp_path, rf"{name}: 1 of 1600 pixels are not finite")


@pytest.mark.parametrize("name", ["a.fits", "a.npy", "a.npz", "a.h5"])
@pytest.mark.parametrize("shape", [(9,), (2, 3, 4, 5), (1, 9), (0, 9, 9)])
def test_what_is_no_map(tmp_path, name, shape):
    WRITERS[name](tmp_path / name, np.zeros(shape))
    refused(tmp_path, rf"{name} (holds|has no)")


@pytest.mark.parametrize("name", ["a.fits", "a.npy", "a.npz", "a.h5"])
def test_numbers_that_are_no_fractions(tmp_path, name):
    WRITERS[name](tmp_path / name, np.ones((9, 9), np.int32))
    refused(tmp_path, rf"{name} holds .*floating-point numbers")


def test_nothing_there(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none.fits", f"{tmp_path}/*.fits"):
        with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*(none|\.fits)"):
            open_maps(path)
    refused(tmp_path, r"is named like maps of .*\(found nothing\)")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden.npy").write_text("half-written")
    refused(tmp_path, r"\(found notes.txt\); give format=")
    refused(tmp_path, "not known; expected auto or jaxmap, ktng-binary", format="pickle")
    os.mkfifo(tmp_path / "a.npy")
    refused(tmp_path, "a pipe or a device")


def test_mixtures(tmp_path):
    write_npy(tmp_path / "a.npy", MAP)
    write_npy(tmp_path / "b.npy", MAP[:, :20])
    refused(tmp_path, r"b.npy holds maps of shape \(40, 20\), but .*a.npy of \(40, 40\)")
    write_npz(tmp_path / "c.npz", convergence=MAP)
    refused(tmp_path, r"several formats: npy \(2, as a.npy\), npz \(1, as c.npz\)")
    assert len(open_maps(tmp_path, "npz", 1.0)) == 1
    assert len(open_maps(f"{tmp_path}/a*", pixel_arcmin=1.0)) == 1


def test_mixed_pixel_scales(tmp_path):
    for name, scale in (("a.h5", 0.5), ("b.h5", 0.500001), ("c.h5", 0.6), ("d.h5", None)):
        write_hdf5(tmp_path / name, pixel_arcmin=scale, kappa=MAP)
    assert open_maps(f"{tmp_path}/[ab].h5").pixel_arcmin == 0.5
    refused(f"{tmp_path}/[ac].h5", r"c.h5 has pixels of 0.6 arcmin, .*a.h5", pixel_arcmin=None)
    refused(f"{tmp_path}/[ad].h5", r"d.h5 has pixels of None .*pixel_arcmin=", pixel_arcmin=None)
    assert open_maps(f"{tmp_path}/*.h5", pixel_arcmin=0.5).pixel_arcmin == 0.5


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_impossible_pixel_scales(tmp_path, scale):
    write_hdf5(tmp_path / "a.h5", pixel_arcmin=scale, kappa=MAP)
    refused(tmp_path, "a.h5 claims pixels of", pixel_arcmin=None)
    refused(tmp_path, "expected a positive number", pixel_arcmin=scale)


def test_choice_of_an_array(tmp_path):
    write_hdf5(tmp_path / "a.h5", one=MAP, two=MAP[:9])
    write_npz(tmp_path / "a.npz", one=MAP, two=MAP)
    plane = fits.ImageHDU(MAP, name="BIN")
    fits.HDUList([fits.PrimaryHDU(), plane, plane.copy()]).writeto(tmp_path / "a.fits")
    for name in ("a.h5", "a.npz"):
        refused(tmp_path / name, f"{name}: any of one, two could be .* dataset=")
        refused(tmp_path / name, "no array 'three'; it has one, two", dataset="three")
        assert open_maps(tmp_path / name, pixel_arcmin=1.0, dataset="One").shape == (40, 40)
    refused(tmp_path / "a.fits", "a.fits: any of 1, 2 could be .* dataset=")
    assert len(open_maps(tmp_path / "a.fits", pixel_arcmin=1.0, dataset="2")) == 1
    write_npy(tmp_path / "a.npy", MAP)
    refused(tmp_path / "a.npy", "without names", dataset="one")


def test_realisation_is_a_regular_expression(tmp_path):
    write_npy(tmp_path / "a.npy", MAP)
    refused(tmp_path, r"realisation='\(' is not a regular expression", realisation="(")


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_nothing_is_unpickled(tmp_path, name):
    trap = np.empty((2, 2), object)
    trap[:] = Trap(tmp_path / "sprung")
    save = np.save if name == "a.npy" else np.savez
    save(tmp_path / name, trap)
    refused(tmp_path / name, f"{name}.*object")
    assert not (tmp_path / "sprung").exists()


def test_a_flipped_bit_is_noticed(tmp_path):
    """Where the file has a checksum; one without is read as before."""
    for checksum, name in ((True, "with.fits"), (False, "without.fits")):
        path = tmp_path / name
        fits.PrimaryHDU(MAP).writeto(path, checksum=checksum)
        np.testing.assert_array_equal(open_maps(path, pixel_arcmin=1.0)[0], MAP.astype("f4"))
        content = bytearray(path.read_bytes())
        content[content.index(MAP[:1, :1].astype(">f8").tobytes()) + 3] ^= 1
        path.write_bytes(content)
    assert np.isfinite(open_maps(tmp_path / "without.fits", pixel_arcmin=1.0)[0]).all()
    refused(tmp_path / "with.fits", r"with\.fits: .*do not match their checksum.*fetch")


def test_the_sum_of_a_compressed_image_may_be_that_of_before(tmp_path):
    """fpack keeps the sum of the pixels before it rounded them."""
    path = tmp_path / "packed.fits"
    fits.CompImageHDU(MAP.astype("f4"), compression_type="GZIP_1", quantize_level=0).writeto(path)
    fits.setval(path, "DATASUM", value="1", ext=1)
    with fits.open(path) as hdus:
        assert isinstance(hdus[1], fits.CompImageHDU)
    np.testing.assert_array_equal(open_maps(path, pixel_arcmin=1.0)[0], MAP.astype("f4"))


def test_absurd_headers(tmp_path):
    """Terabytes promised by a few bytes are neither waited nor paid for."""
    path = tmp_path / "kappa23.dat"
    for num in (2**31 - 1, -1, 0, 100_000):
        marker = np.array(num, "<i4").tobytes()
        path.write_bytes(marker + bytes(8 * 40 * 40) + marker)
        refused(path, r"kappa23.dat: 12808 bytes between the markers")
    write_ktng_binary(path, MAP)
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))  # only the second marker is wrong
    refused(path, "kappa23.dat")

    header = {"descr": "<f8", "fortran_order": False, "shape": (500_000, 500_000)}
    for name in ("a.npy", "a.npz"):
        with open(tmp_path / "array", "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1000))
        if name == "a.npz":
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.write(tmp_path / "array", "convergence.npy")
        else:
            (tmp_path / "array").rename(tmp_path / name)
            (tmp_path / "array").touch()
        refused(
            tmp_path / name, rf"{name}: its header promises float64 of shape \(500000, 500000\)"
        )

    hdu = fits.PrimaryHDU(MAP)
    hdu.writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    for axis in (b"NAXIS1  =                   ", b"NAXIS2  =                   "):
        content = content.replace(axis + b"40", axis[:-6] + b"50000000")
    (tmp_path / "a.fits").write_bytes(content)
    refused(tmp_path / "a.fits", "a.fits")

    with h5py.File(tmp_path / "a.h5", "w") as file:  # no chunk of it is ever stored
        file.create_dataset("kappa", (3, 500_000, 500_000), "f4", chunks=(1, 100, 100))
    refused(tmp_path / "a.h5", "a.h5: its dataset /kappa needs about 931.3 GiB of memory")


def test_file_that_changes_after_opening(tmp_path):
    write_hdf5(tmp_path / "a.h5", kappa=MAP)
    source = open_maps(tmp_path, pixel_arcmin=1.0)
    write_hdf5(tmp_path / "a.h5", kappa=MAP[:9])
    with pytest.raises(ValueError, match=r"a.h5\[kappa\] is now of shape \(9, 40\)"):
        source[0]
    (tmp_path / "a.h5").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*a.h5"):
        source[0]


def test_simulated_maps_of_another_layout(tmp_path):
    path = tmp_path / "maps-00000007-00000007.h5"
    write_hdf5(path, convergence=MAP[None])
    refused(path, rf"cannot read .*{path.name}")
    assert len(open_maps(tmp_path, "hdf5", pixel_arcmin=0.3)) == 1  # as any HDF5 file
    write_simulated(tmp_path, MAP[None], 7, sky_shape=(20, 80))  # smaller than the map
    refused(path, rf"cannot read .*{path.name}")
