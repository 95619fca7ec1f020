"""Surveys in patches: what is planned, stored, computed and merged."""

import errno
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from astropy.table import Table
from surveyruns import SETTINGS, small_catalog, small_plan, small_spectrum

from jaxmap.catalog import shear_map
from jaxmap.cli import main
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.grid import Grid
from jaxmap.reading.readers import read_shear
from jaxmap.reading.surveys import HSC, SURVEYS
from jaxmap.records import read_record
from jaxmap.survey.blend import places_on
from jaxmap.survey.catalogue import catalogue_files, stream_galaxies
from jaxmap.survey.healpix import healpix, outline_of, pixel_of
from jaxmap.survey.overlap import LEFT_OUT, kernel_radius, least_overlap
from jaxmap.survey.patches import COUNTS_NSIDE, cut_patches
from jaxmap.survey.plan import file_hashes, make_plan, read_plan
from jaxmap.survey.store import ROW, CellWriter, cell_path, read_cells


def table_of(num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "ra": rng.uniform(10, 12, num),
        "dec": rng.uniform(-1, 1, num),
        "e1": rng.normal(0, 0.2, num),
        "e2": rng.normal(0, 0.2, num),
        "weight": np.where(rng.uniform(size=num) < 0.2, 0.0, rng.uniform(1, 2, num)),
    }


@pytest.mark.parametrize("ending", ["fits", "h5", "parquet", "csv"])
def test_catalogues_are_read_in_parts_as_they_are_at_once(tmp_path, ending):
    columns = table_of(101, np.random.default_rng(0))
    columns["weight"][50:60] = 0  # a part of ten without any
    path = tmp_path / f"galaxies.{ending}"
    if ending == "h5":
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
    elif ending == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        Table(columns).write(path)
    parts = list(stream_galaxies(catalogue_files(path), {}, rows=10))
    whole = read_shear(path)
    used = whole.weight > 0
    assert len(parts) == (1 if ending == "csv" else 9)
    for name in ("ra_deg", "ellipticity", "weight"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name)[used])


def test_partitions_are_found_and_what_describes_them_is_not(tmp_path):
    for name in ("b.parquet", "a.parquet", "notes.txt"):
        (tmp_path / name).touch()
    names = [path.name for path in catalogue_files(tmp_path)]
    assert names[:2] == ["a.parquet", "b.parquet"]
    hats = tmp_path / "hats"
    for name in ("Norder=1/Dir=0/Npix=9.parquet", "Norder=0/Dir=0/Npix=4.parquet"):
        (hats / "dataset" / name).parent.mkdir(parents=True)
        (hats / "dataset" / name).write_text(name)
    (hats / "partition_info.csv").touch()
    files = catalogue_files(hats)
    assert [path.stem for path in files] == ["Npix=4", "Npix=9"]
    assert next(iter(file_hashes(files, hats))) == "dataset/Norder=0/Dir=0/Npix=4.parquet"


@pytest.mark.parametrize("survey", ["hsc", "des_y3", "txpipe"])
def test_calibration_is_that_of_the_whole_catalogue(tmp_path, survey):
    rng = np.random.default_rng(1)
    plain, kind = table_of(90, rng), SURVEYS[survey]
    names = {role: kind.columns[role][0] for role in ("ra", "dec", "e1", "e2", "weight")}
    columns = {name: plain[role] for role, name in names.items()}
    for role in ("e1", "e2"):
        columns[names[role]] = 0.1 * plain[role]
    for role in set(kind.columns) - set(names) - {"z"}:
        columns[kind.columns[role][0]] = rng.uniform(0.3, 0.4, 90)
    if survey == "txpipe":  # responses are differences, over 0.02
        for role in ("e1_1p", "e2_2p"):
            columns[kind.columns[role][0]] += 0.1
    for number, rows in enumerate((slice(0, 50), slice(50, 90))):
        Table({name: values[rows] for name, values in columns.items()}).write(
            tmp_path / f"part-{number}.fits"
        )
    whole = read_shear(columns, survey=kind)
    parts = list(stream_galaxies(catalogue_files(tmp_path), {"survey": kind}, rows=20))
    joined = np.concatenate([part.ellipticity for part in parts])
    expected = whole.ellipticity[whole.weight > 0]
    np.testing.assert_allclose(joined, expected, rtol=1e-12)
    alone = read_shear({n: v[:50] for n, v in columns.items()}, survey=kind)  # the control
    assert not np.allclose(alone.ellipticity, whole.ellipticity[:50], rtol=1e-4)
    assert kind.distortion == (kind is HSC)


def test_a_measured_responsivity_is_told(tmp_path, caplog):
    """Once for the whole catalogue, as `read_shear` tells it; and not where it is known."""
    columns = table_of(60, np.random.default_rng(2))
    Table(columns).write(tmp_path / "galaxies.fits")
    parts = catalogue_files(tmp_path)
    list(stream_galaxies(parts, {"distortion": True, "response": 0.9}, rows=20))
    assert "responsivity" not in caplog.text
    list(stream_galaxies(parts, {"distortion": True}, rows=20))
    said = [record.message for record in caplog.records]
    caplog.clear()
    read_shear(columns, distortion=True)
    assert said == [record.message for record in caplog.records] and "noisy shapes" in said[0]


def test_store_takes_its_room_first_and_gives_back_the_rest(tmp_path, monkeypatch):
    """HDF5 would end the process where the disk is full in the middle."""
    catalog, cells = small_catalog(500), np.zeros(500, int)
    writer = CellWriter(tmp_path, most=100)
    writer.add(catalog, cells)
    writer.add(catalog, cells)
    assert len(read_cells(tmp_path, [0]).ra_deg) == 1000
    assert cell_path(tmp_path, 0).stat().st_size < 2 * 1000 * ROW.itemsize

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jaxmap.files.os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"no room for .*cell-000000\.h5 .*choose another folder"):
        writer.add(catalog, cells)


def test_store_gives_back_what_it_got_and_notices_damage(tmp_path):
    catalog = small_catalog(500)
    grid = healpix(32)
    cells = pixel_of(grid, catalog.ra_deg, catalog.dec_deg)
    writer = CellWriter(tmp_path, most=200)
    for rows in (slice(0, 150), slice(150, 400), slice(400, 500)):
        writer.add(jax.tree.map(lambda v, rows=rows: v[rows], catalog), cells[rows])
    writer.flush()
    some = np.unique(cells)[:2]
    back, expected = (
        read_cells(tmp_path, some),
        np.concatenate([catalog.ra_deg[cells == cell] for cell in some]),
    )
    np.testing.assert_array_equal(back.ra_deg, expected)
    path = cell_path(tmp_path, int(some[0]))
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        first = file["galaxies"].id.get_chunk_info(0).byte_offset
    content[first + 5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(OSError, match=r"cell-\d+.h5 .* restore the file"):
        read_cells(tmp_path, some)


@pytest.mark.parametrize("centre", [(0.0, 1.0), (359.5, -50.0), (40.0, 89.5)])
def test_every_galaxy_lies_well_inside_a_patch(centre):
    rng = np.random.default_rng(3)
    x, y = 120 * (rng.uniform(size=(2, 3000)) - 0.5)  # arcminutes
    ra, dec = Grid((1, 1), 1.0, centre).wcs().all_pix2world(x, y, 0)
    pixels = pixel_of(healpix(COUNTS_NSIDE), ra, dec)
    counts = np.bincount(pixels, minlength=12 * COUNTS_NSIDE**2)
    tiling = cut_patches(counts, 0.9, 2.0, 15.0)
    whole, most = np.zeros(len(ra)), np.zeros(len(ra), int)
    for patch in tiling.patches:
        places = places_on(tiling.grid(patch), tiling.overlap_arcmin, ra, dec)
        whole[places.used] = np.maximum(whole[places.used], places.weight)
        most[places.used] += 1
        inside = np.abs(np.stack(tiling.grid(patch).pixel_position(ra, dec))).max(axis=0)
        assert patch.most_galaxies >= places.used.sum()
        cells = np.unique(pixels[places.used] // (COUNTS_NSIDE // tiling.cells_nside) ** 2)
        assert set(cells) <= set(patch.cells) and np.nanmin(inside) >= 0
    # A count pixel can stick out of the cells that are used, by 4.9 arcmin at its corner; the
    # weight there, (1 - 4.9 / 15 - 1/4) / (3/4) through the step, is 0.59.
    assert whole.min() > 0.5 and np.mean(whole == 1) > 0.9 and most.max() > 1
    outline = outline_of(healpix(tiling.nside, "ring"), [p.number for p in tiling.patches])
    for patch, *corners in zip(tiling.patches, *outline, strict=True):
        weight = places_on(tiling.grid(patch), tiling.overlap_arcmin, *corners).weight
        np.testing.assert_allclose(weight, 1, atol=1e-12)


@pytest.mark.slow
def test_overlap_is_that_of_the_kernel(spectrum):
    assert kernel_radius(1.0, smoothing_arcmin=4.0) > kernel_radius(1.0, smoothing_arcmin=1.0)
    deep = least_overlap(Wiener(spectrum), 2.0, spectrum, 0.05)
    assert deep < least_overlap(Wiener(spectrum), 2.0, spectrum, 0.5)
    grid, radius = Grid((512, 512), 2.0), kernel_radius(2.0, smoothing_arcmin=4.0)
    offset = 2.0 * (np.arange(512) - 256)
    beyond, energy = np.hypot(offset[None], offset[:, None]) > radius, 0.0
    for impulse in (1, 1j):  # the response to shear at a place is that of the place to shear
        shear = np.zeros(grid.shape, complex)
        shear[256, 256] = impulse
        data = shear_map(shear, grid, noise_std=np.ones(grid.shape))
        energy += np.asarray(KaiserSquires(4.0, margin=0)(jax.random.key(0), data).convergence) ** 2
    assert energy[beyond].sum() / energy.sum() == pytest.approx(LEFT_OUT, rel=0.01)


def test_a_plan_that_is_mostly_overlap_is_warned_of(tmp_path, capsys):
    Table(table_of(300, np.random.default_rng(0))).write(tmp_path / "galaxies.csv")
    plan = ["survey", "plan", "--catalog", str(tmp_path / "galaxies.csv"), "--method", "ks", "-q"]
    plan += ["--smoothing-arcmin", "6", "--pixel-arcmin", "6", "--patch-deg", "1.8"]
    for overlap, warned in (("60", True), ("50", False)):  # half a cell of 1.83 deg is 55 arcmin
        run = tmp_path / overlap
        assert main([*plan, "--overlap-arcmin", overlap, "--out", str(run)]) == 0
        said = capsys.readouterr().err
        record = read_record(run / "plan.json")
        assert record["command"] == "survey plan" and record["versions"]["jaxmap"]
        assert list(record["files"]) == [str(tmp_path / "galaxies.csv")]
        assert read_plan(run).made_by == record
        ny, nx = read_plan(run).tiling.shape
        times = ny * nx * 36 / (60**2 * 4 * np.pi * np.degrees(1) ** 2 / (12 * 32**2))
        message = (
            f"reach 60 arcmin beyond cells of 110 arcmin, so that the sky is mapped {times:.0f}"
        )
        assert (message in said) == warned and ("--patch-deg 4" in said) == warned


def test_plan_is_kept_and_another_one_refused(tmp_path):
    plan = small_plan(tmp_path / "run")
    assert small_plan(tmp_path / "run").digest == plan.digest == read_plan(tmp_path / "run").digest
    with pytest.raises(ValueError, match="another plan, made with seed = 7, not 8"):
        small_plan(tmp_path / "run", seed=8)
    with pytest.raises(ValueError, match=r"holds no plan\.json"):
        read_plan(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds other files"):
        small_plan(tmp_path / "other")
    for sky, changes, message in (
        (replace(small_catalog(50), ellipticity=np.zeros(50, complex)), {}, "noise per component"),
        (None, {"shape_noise": -0.1}, r"is \[-0\.1, -0\.1\]; expected numbers above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            small_plan(tmp_path / "noise", sky, **changes)
    with pytest.raises(ValueError, match="no galaxy of a weight above 0"):
        make_plan(
            tmp_path / "none", [], small_spectrum(), SETTINGS, {}, patch_deg=1, pixel_arcmin=3
        )
    with pytest.raises(ValueError, match="give a smaller --patch-deg"):
        small_plan(tmp_path / "wide", patch_deg=30.0)
    assert not (tmp_path / "wide").exists()
