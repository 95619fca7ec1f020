"""Users' convergence maps: the same values through every layout, one at a time, one scale."""

from __future__ import annotations

import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from mapwriters import (
    write_fits,
    write_hdf5,
    write_ktng_binary,
    write_ktng_hdf5,
    write_massivenus,
    write_npy,
    write_npz,
    write_simulated,
)

from jaxmap import open_maps
from jaxmap.reading.maps.split import split_by_realisation

NUM, SIDE = 3, 12
MAPS = np.random.default_rng(3).normal(scale=0.02, size=(NUM, SIDE, SIDE))
MAPS32 = MAPS.astype(np.float32)
TAN = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.005, "CDELT2": 0.005}


def each(suffix: str, write: Callable[[Path, np.ndarray], None]) -> Callable[[Path], None]:
    """A writer of one file per map."""

    def write_all(folder: Path) -> None:
        for number, values in enumerate(MAPS):
            write(folder / f"map{number}{suffix}", values)

    return write_all


def in_extension(path: Path, values: np.ndarray, kind: type = fits.ImageHDU) -> None:
    """The map is the second extension, after a mask of integers; a cube stands behind it."""
    mask = fits.ImageHDU(np.ones(values.shape, np.uint8), name="MASK")
    image = kind(values.astype(np.float32), name="ANY")
    cube = fits.ImageHDU(np.zeros((2, *values.shape)), name="SAMPLES")
    fits.HDUList([fits.PrimaryHDU(), mask, image, cube]).writeto(path)


def in_runs(folder: Path, order: str) -> None:
    for number, values in enumerate(MAPS):
        write_ktng_binary(folder / f"run{number:03d}" / "kappa23.dat", values, order)


def packed(pack: Callable[[bytes], bytes]) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, values: np.ndarray) -> None:
        plain = io.BytesIO()
        fits.PrimaryHDU(values).writeto(plain)
        path.write_bytes(pack(plain.getvalue()))

    return write


def lossless_tiles(values: np.ndarray, name: str) -> fits.CompImageHDU:
    return fits.CompImageHDU(values, name=name, compression_type="GZIP_2", quantize_level=0)


SAVERS: dict[str, Callable[[Path], None]] = {
    "FITS": each(".fits", write_fits),
    "FITS float32": each(".fit", lambda p, v: write_fits(p, v.astype("f4"))),
    "FITS extension": each(".fits", in_extension),
    "FITS gz": each(".fits.gz", packed(gzip.compress)),
    "FITS xz": each(".fits.xz", packed(lzma.compress)),
    "FITS tiles": each(".fits.fz", lambda p, v: in_extension(p, v, lossless_tiles)),
    "npy": each(".npy", write_npy),
    "npy big-endian": each(".npy", lambda p, v: write_npy(p, v.astype(">f8"))),
    "npy Fortran": each(".npy", lambda p, v: write_npy(p, np.asfortranarray(v))),
    "npy cube": lambda folder: write_npy(folder / "maps.npy", MAPS),
    "npz": each(".npz", lambda p, v: write_npz(p, convergence=v, shear=np.stack([v, v]))),
    "npz of one": each(".npz", lambda p, v: write_npz(p, v=v)),
    "npz cube": lambda f: write_npz(f / "a.npz", compressed=True, kappa=MAPS.astype(">f4")),
    "HDF5 cube": lambda f: write_hdf5(f / "a.h5", convergence=MAPS32, redshift=np.arange(3.0)),
    "HDF5 blocks": each(".h5", lambda path, values: write_hdf5(path, x=values[None])),
    "HDF5 2-D": lambda f: write_hdf5(f / "a.hdf5", **{f"m{i}": m for i, m in enumerate(MAPS)}),
    "HDF5 groups": lambda f: write_hdf5(
        f / "a.h5", **{f"run{i}/{n}": s * m for i, m in enumerate(MAPS) for n, s in SIGNS.items()}
    ),
    "HDF5 big-endian": lambda folder: write_hdf5(folder / "a.h5", kappa=MAPS.astype(">f4")),
    "kTNG binary": lambda folder: in_runs(folder, "<"),
    "kTNG big-endian": lambda folder: in_runs(folder, ">"),
}
SIGNS = {"kappa": 1, "gamma1": -1, "gamma2": 2}


@pytest.mark.parametrize("kind", SAVERS)
def test_same_maps_through_every_format(tmp_path, kind):
    SAVERS[kind](tmp_path)
    source = open_maps(tmp_path, pixel_arcmin=0.3)
    assert (len(source), source.shape, source.pixel_arcmin) == (NUM, (SIDE, SIDE), 0.3)
    for values, expected in zip(source, MAPS32, strict=True):
        assert values.dtype == np.dtype("=f4") and values.flags.c_contiguous
        assert values.flags.writeable
        np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(source[-1], MAPS32[-1])
    with pytest.raises(IndexError, match=f"map {NUM} of {NUM}"):
        source[NUM]
    assert len({source.realisation(i) for i in range(NUM)}) == NUM


def test_kappatng_hdf5(tmp_path):
    for lens_planes in (1, 2):
        for run in (1, 2):
            scale = 10 * lens_planes + run
            planes = {f"z{z:02d}": np.full((1024, 1024), scale + z / 100) for z in (13, 23)}
            name = f"LP{lens_planes:03d}/LP{lens_planes:03d}_run{run:03d}_maps.hdf5"
            write_ktng_hdf5(tmp_path / name, planes)
    source = open_maps(tmp_path, dataset="z23/kappa")
    assert len(source) == 4 and source.pixel_arcmin == 300 / 1024
    assert source[2][0, 0] == np.float32(21.23)
    assert [source.realisation(i) for i in range(4)] == ["LP001", "LP001", "LP002", "LP002"]
    by_run = open_maps(tmp_path, dataset="z23/kappa", realisation=r"(LP\d+)_(run\d+)")
    assert by_run.realisation(3) == "LP002-run002"
    with pytest.raises(ValueError, match=r"several source redshifts \(z13, z23\).*z23/kappa"):
        open_maps(tmp_path)
    with pytest.raises(ValueError, match=r"no array 'z24/kappa'; it has .*z23/kappa"):
        open_maps(tmp_path, dataset="z24/kappa")


def test_kappatng_binary(tmp_path):
    for physics in ("Dark", "Hydro"):
        for run in (1, 2):
            folder = tmp_path / f"kappaTNG-{physics}" / f"run{run:03d}"
            for plane in (13, 23):
                write_ktng_binary(folder / f"kappa{plane}.dat", MAPS[run] + plane)
    (tmp_path / "zs.dat").write_text("0.03\n")
    with pytest.raises(ValueError, match=r"several source redshifts \(13, 23\)"):
        open_maps(tmp_path, pixel_arcmin=1.0)
    source = open_maps(f"{tmp_path}/**/kappa23.dat", pixel_arcmin=1.0)
    # With and without baryons, a run is the same universe.
    assert [source.realisation(i) for i in range(4)] == ["run001", "run002"] * 2
    np.testing.assert_array_equal(source[1], (MAPS[2] + 23).astype(np.float32))
    with pytest.raises(ValueError, match="pixel_arcmin="):  # no longer a whole map of 5 degrees
        open_maps(f"{tmp_path}/**/kappa23.dat")
    # One folder of lens planes remains one realisation, also when opened by itself.
    write_ktng_binary(tmp_path / "LP001" / "run001" / "kappa23.dat", np.zeros((1024, 1024)))
    alone = open_maps(tmp_path / "LP001")
    assert alone.pixel_arcmin == 300 / 1024 and alone.realisation(0) == "LP001"


def test_massivenus(tmp_path):
    for cosmology in ("mnv0.00000", "mnv0.10000"):
        for number in (1, 2):
            folder = tmp_path / f"convergence_{cosmology}" / "Maps10"
            write_massivenus(folder / f"WLconv_z1.00_{number:04d}r.fits", MAPS[number])
    source = open_maps(tmp_path)
    assert source.pixel_arcmin == pytest.approx(3.5 * 60 / SIDE)
    assert [source.realisation(i) for i in range(4)] == ["0001", "0002"] * 2
    np.testing.assert_array_equal(source[1], MAPS32[2])
    write_massivenus(tmp_path / "WLconv_z0.50_0001r.fits", MAPS[0])
    with pytest.raises(ValueError, match=r"several source redshifts \(0.50, 1.00\)"):
        open_maps(tmp_path)
    write_massivenus(tmp_path / "b" / "WLconv_z2.00_0001r.fits", np.ones((512, 512)), None)
    assert open_maps(tmp_path / "b").pixel_arcmin == pytest.approx(210 / 512)


def test_simulated_maps(tmp_path):
    """Two files of three maps, cut from skies of two."""
    for first in (0, 3):
        write_simulated(tmp_path, MAPS32 + first, first, sky_shape=(2 * SIDE + 1, SIDE))
    (tmp_path / "simulation.json").write_text("{}")
    source = open_maps(tmp_path)
    assert (len(source), source.pixel_arcmin) == (6, 0.3)
    np.testing.assert_array_equal(source[4], MAPS32[1] + 3)
    skies = [source.realisation(i) for i in range(6)]
    assert skies == [f"seed 0-sky {number}" for number in (0, 0, 1, 1, 2, 2)]


def test_damage_in_simulated_maps_is_found(tmp_path):
    write_simulated(tmp_path, MAPS32, 0, sky_shape=(SIDE, SIDE))
    (path,) = tmp_path.iterdir()
    content, pixels = path.read_bytes(), MAPS32[1].tobytes()
    assert content.count(pixels) == 1
    path.write_bytes(content.replace(pixels, pixels[:-1] + b"\x01"))
    source = open_maps(tmp_path)
    assert source[0].shape == source[2].shape == (SIDE, SIDE)
    with pytest.raises(ValueError, match=r"cannot read .*maps-00000000-00000002.h5"):
        source[1]


def test_jaxmap_mass_map(tmp_path):
    """What `jaxmap map` writes has several images, of which one is the convergence."""
    from jaxmap import Grid, MassMap, write_mass_map

    grid = Grid((SIDE, SIDE), 0.29, (150.1, 2.2))
    mass_map = MassMap(MAPS[0], grid, mask=MAPS[0] > 0, std=MAPS[1], b_mode=MAPS[2])
    write_mass_map(tmp_path / "kappa.fits", mass_map)
    source = open_maps(tmp_path / "kappa.fits")
    np.testing.assert_array_equal(source[0], MAPS32[0])
    assert source.pixel_arcmin == pytest.approx(0.29)
    np.testing.assert_array_equal(open_maps(tmp_path, dataset="kappa_b")[0], MAPS32[2])


@pytest.mark.parametrize(
    ("keywords", "pixel_arcmin"),
    [
        (TAN, 0.3),
        ({"CDELT1": 0.005, "CDELT2": 0.005}, 0.3),
        ({"CDELT1": 18, "CDELT2": 18, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}, 0.3),
        ({"CD1_1": -0.003, "CD1_2": 0.004, "CD2_1": 0.004, "CD2_2": 0.003}, 0.3),
        ({"PIXSCALE": 18.0}, 0.3),
        ({"ITYPE": "ConvergenceMap", "ANGLE": 0.06}, 0.3),
        ({"ANGLE": 45.0}, None),  # of a telescope
        ({"CDELT1": 1, "CDELT2": 1, "CUNIT1": "Mpc", "CUNIT2": "Mpc"}, None),
        ({"CDELT1": 0.005, "CDELT2": 0.01}, None),
        ({}, None),
    ],
)
def test_pixel_scale_of_a_header(tmp_path, keywords, pixel_arcmin):
    write_fits(tmp_path / "a.fits", MAPS[0], **keywords)
    if pixel_arcmin is None:
        with pytest.raises(ValueError, match=r"a.fits does not tell .* give pixel_arcmin="):
            open_maps(tmp_path)
    else:
        assert open_maps(tmp_path).pixel_arcmin == pytest.approx(pixel_arcmin)
    assert open_maps(tmp_path, pixel_arcmin=2).pixel_arcmin == 2


def test_pixel_scale_of_hdf5_and_npz(tmp_path):
    write_hdf5(tmp_path / "a.h5", pixel_arcmin=0.4, kappa=MAPS)
    write_npz(tmp_path / "a.npz", convergence=MAPS, pixel_arcmin=0.4)
    for name in ("a.h5", "a.npz"):
        assert open_maps(tmp_path / name).pixel_arcmin == 0.4


def test_memory_does_not_grow_with_the_number_of_maps(tmp_path):
    side, num = 64, 200
    for start in range(0, num, 50):
        write_hdf5(tmp_path / f"{start}.h5", kappa=np.ones((50, side, side), np.float32))
    open_maps(tmp_path, pixel_arcmin=1)[0]  # imports
    tracemalloc.start()
    source = open_maps(tmp_path, pixel_arcmin=1)
    assert sum(values.sum() for values in source) == num * side**2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * side**2 * 4 < num * side**2 * 4 / 5


def test_split_shares_no_realisation(tmp_path):
    for cone in range(10):
        for plane in range(3):
            write_npy(tmp_path / f"cone{cone}_{plane}.npy", MAPS[plane])
    source = open_maps(tmp_path, pixel_arcmin=1, realisation=r"cone(\d+)")
    training, validation = split_by_realisation(source, 0.2, seed=1)
    assert (len(training), len(validation)) == (24, 6)
    assert sorted([*training, *validation]) == list(range(30))
    cones = [{source.realisation(i) for i in part} for part in (training, validation)]
    assert not cones[0] & cones[1]
    # Control: maps taken for independent would be split across their cones.
    loose = open_maps(tmp_path, pixel_arcmin=1)
    cones = [{source.realisation(i) for i in p} for p in split_by_realisation(loose, 0.2, seed=1)]
    assert cones[0] & cones[1]


def test_split_is_deterministic_and_moves_along(tmp_path):
    for number in range(20):
        write_npy(tmp_path / f"{number:02d}.npy", MAPS[0])
    source = open_maps(tmp_path, pixel_arcmin=1)
    split = split_by_realisation(source, 0.25, seed=7)
    # As first drawn: this must not change, or resumed trainings would see their validation maps.
    np.testing.assert_array_equal(split[1], [4, 11, 13, 18, 19])
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = split_by_realisation(open_maps(moved, pixel_arcmin=1), 0.25, seed=7)
    np.testing.assert_array_equal(again[1], split[1])
    others = {tuple(split_by_realisation(source, 0.25, seed=s)[1]) for s in range(10)}
    assert len(others) == 10
    assert [len(split_by_realisation(source, f, 0)[1]) for f in (0.001, 0.999)] == [1, 19]


def test_split_refuses_what_it_cannot_do(tmp_path):
    write_npy(tmp_path / "one.npy", MAPS)
    source = open_maps(tmp_path, pixel_arcmin=1)
    for fraction in (0.0, 1.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_by_realisation(source, fraction, 0)
    alike = open_maps(tmp_path, pixel_arcmin=1, realisation="one")
    with pytest.raises(ValueError, match=r"all 3 maps belong to realisation 'one'.*realisation="):
        split_by_realisation(alike, 0.5, 0)
    with pytest.raises(ValueError, match=r"'two' does not occur in '.*one.npy\[0\]'"):
        split_by_realisation(open_maps(tmp_path, pixel_arcmin=1, realisation="two"), 0.5, 0)
