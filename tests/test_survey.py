"""Surveys in patches: what is planned, stored, computed and merged."""

from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from surveyruns import do_all, small_catalog, small_plan

from jaxmap.binning import bin_shear
from jaxmap.catalog import shear_map
from jaxmap.estimators import KaiserSquires, Wiener
from jaxmap.grid import Grid
from jaxmap.reading.readers import read_shear
from jaxmap.reading.surveys import HSC, SURVEYS
from jaxmap.survey.blend import Blend, places_on
from jaxmap.survey.catalogue import catalogue_files, stream_galaxies
from jaxmap.survey.healpix import healpix, outline_of, pixel_of, place_of
from jaxmap.survey.merge import MERGED, merge_survey
from jaxmap.survey.overlap import LEFT_OUT, kernel_radius, least_overlap
from jaxmap.survey.partial_maps import PartialMapWriter, read_partial_map
from jaxmap.survey.patches import COUNTS_NSIDE, cut_patches
from jaxmap.survey.plan import GALAXIES, read_plan
from jaxmap.survey.results import Chunk, Task, all_tasks, missing_tasks, patch_map, write_result
from jaxmap.survey.store import CellWriter, cell_path, read_cells
from jaxmap.survey.tasks import run_tasks


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
    # A count pixel can stick out of its cell, by half of its side.
    assert whole.min() > 0.5 and np.mean(whole == 1) > 0.9 and most.max() > 1
    outline = outline_of(healpix(tiling.nside, "ring"), [p.number for p in tiling.patches])
    for patch, *corners in zip(tiling.patches, *outline, strict=True):
        weight = places_on(tiling.grid(patch), tiling.overlap_arcmin, *corners).weight
        np.testing.assert_allclose(weight, 1, atol=2e-3)


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
    with pytest.raises(ValueError, match="give a smaller --patch-deg"):
        small_plan(tmp_path / "wide", patch_deg=30.0)
    assert not (tmp_path / "wide").exists()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A survey that is done, with a patch without galaxies and one that cannot be read."""
    plan = small_plan(tmp_path_factory.mktemp("survey") / "run")
    assert len(plan.tiling.patches) > 6
    assert do_all(plan) == []
    return plan


def test_patches_are_what_the_estimator_makes_of_their_galaxies(done):
    catalog = small_catalog()
    for patch in done.tiling.patches[:2]:
        shear = bin_shear(catalog, done.tiling.grid(patch), done.shape_noise)
        expected = KaiserSquires(8.0)(jax.random.key(0), shear)
        found = patch_map(done, patch)
        # Shapes are stored in single precision.
        for name in ("convergence", "std", "b_mode"):
            values = np.asarray(getattr(expected, name))
            np.testing.assert_allclose(
                getattr(found, name), values, atol=1e-6 * np.abs(values).max(), err_msg=name
            )
        np.testing.assert_array_equal(found.counts, shear.counts)


def test_finished_tasks_are_not_done_again_and_trouble_is_told(tmp_path):
    plan = small_plan(tmp_path / "run")
    first, second, third = plan.tiling.patches[:3]
    where = str(plan.folder)
    run_tasks(where, plan.digest, [(first.number, 0)])
    (record,) = run_tasks(where, plan.digest, [(first.number, 0)])
    assert record["state"] == "there"
    content = {}
    for cell in second.cells:  # no galaxies
        path = cell_path(plan.folder / GALAXIES, cell)
        content[path] = path.read_bytes()
        with h5py.File(path, "a") as file:
            file["galaxies"].resize(0, axis=0)
    (record,) = run_tasks(where, plan.digest, [(second.number, 0)])
    assert record["state"] == "empty"
    for path, whole in content.items():
        path.write_bytes(whole)
    only_third = sorted(set(third.cells) - set(plan.tiling.patches[-1].cells))
    damaged = cell_path(plan.folder / GALAXIES, only_third[0])
    damaged.write_bytes(damaged.read_bytes()[:2000])
    # Together with another one, which is done nevertheless.
    tasks = [(third.number, 0), (plan.tiling.patches[-1].number, 0)]
    with pytest.raises(OSError, match="cannot read the galaxies"):
        run_tasks(where, plan.digest, tasks)
    missing = {task.patch for task in missing_tasks(plan)}
    assert third.number in missing and tasks[1][0] not in missing
    made = merge_survey(plan, write_patches=False)
    assert made.empty == [second.number] and third.number in made.absent
    with pytest.raises(ValueError, match="holds another plan"):
        run_tasks(where, "0" * 64, tasks)


def test_merged_map_is_seamless_and_readable(done):
    made = merge_survey(done, nside=1024)
    nside, pixels, kappa = read_partial_map(done.folder / "maps" / MERGED["KAPPA_E"])
    assert nside == 1024 and len(pixels) == made.num_pixels and np.all(np.diff(pixels) > 0)
    assert made.absent == made.empty == [] and made.damaged == {}
    with fits.open(done.folder / "maps" / MERGED["SIGMA"]) as hdus:
        header = hdus[1].header
        assert (header["INDXSCHM"], header["ORDERING"], header["OBJECT"]) == (
            "EXPLICIT", "NESTED", "PARTIAL",
        )  # fmt: skip
        assert hdus[1].columns.names == ["PIXEL", "SIGMA"] and header["NAXIS2"] == len(pixels)
    # One big patch of the same galaxies.
    grid = Grid((60, 60), 6.0, (0.0, 1.0))
    shear = bin_shear(small_catalog(), grid, done.shape_noise)
    whole = KaiserSquires(8.0)(jax.random.key(0), shear)
    places = places_on(grid, 90.0, *place_of(healpix(nside), pixels))
    big = np.asarray(whole.convergence)[places.rows, places.columns]
    noise = np.asarray(whole.std)[places.rows, places.columns]
    inner = places.weight == 1
    difference = (kappa[places.used] - big)[inner]
    assert np.corrcoef(kappa[places.used][inner], big[inner])[0, 1] > 0.95
    # Other pixels and edges for the same galaxies: less than the noise, of which nothing is shared
    # with the map of other galaxies, the control.
    assert np.std(difference) < noise[inner].mean()
    other = KaiserSquires(8.0)(
        jax.random.key(0), bin_shear(small_catalog(seed=2), grid, done.shape_noise)
    )
    unlike = np.asarray(other.convergence)[places.rows, places.columns] - kappa[places.used]
    assert np.std(unlike[inner]) > 1.3 * noise[inner].mean()
    assert sorted(p.name for p in (done.folder / "maps").glob("patch-*"))[0].endswith(".fits")


def test_blend_keeps_the_variance_of_samples():
    rng = np.random.default_rng(5)
    grids = [Grid((40, 40), 1.0, (10.0, 0.0)), Grid((40, 40), 1.0, (10.4, 0.0))]
    ra, dec = 10.2 + rng.uniform(-0.1, 0.1, 400), rng.uniform(-0.1, 0.1, 400)
    blend, draws = Blend(400), []
    for grid in grids:
        places = places_on(grid, 15.0, ra, dec)
        deviations = rng.normal(size=(200, *grid.shape))
        blend.add(places, {"one": np.ones(grid.shape), "none": None})
        draws.append((places, deviations))
    covered = blend.covered
    assert covered.sum() > 100
    np.testing.assert_allclose(blend.mean("one"), 1)
    assert blend.mean("none") is None
    total = np.zeros((200, 400))
    for places, deviations in draws:
        total[:, places.used] += places.weight * deviations[:, places.rows, places.columns]
    kept = total[:, covered] / np.sqrt(blend.squared_weight[covered])
    averaged = total[:, covered] / blend.weight[covered]
    # Points share pixels, 16 by 12 or so of each patch: 200 times at least 150 draws.
    error = np.sqrt(2 / (200 * 150))
    lost = np.mean(blend.squared_weight[covered] / blend.weight[covered] ** 2)
    assert abs(np.var(kept) - 1) < 4 * error
    assert abs(np.var(averaged) - lost) < 4 * error and lost < 1 - 10 * error  # the control


@pytest.mark.parametrize("exact_mean", [True, False])
def test_chunks_together_are_all_samples(tmp_path, exact_mean):
    plan = replace(small_plan(tmp_path / "run"), num_chunks=3)
    patch, shape = plan.tiling.patches[0], plan.tiling.shape
    samples = np.random.default_rng(0).normal(2.0, 1.0, (12, *shape))
    exact = np.full(shape, 2.0)
    for chunk, part in enumerate(np.split(samples, 3)):
        mean = exact if exact_mean else part.mean(axis=0)
        degrees = 4 if exact_mean else 3
        std = np.sqrt(np.sum((part - mean) ** 2, axis=0) / degrees)
        maps = (mean, std, None, np.ones(shape, np.uint8), np.ones(shape))
        write_result(plan, Task(patch.number, chunk), Chunk(*maps, 4, degrees))
    found = patch_map(plan, patch)
    if exact_mean:
        expected = np.sqrt(np.mean((samples - exact) ** 2, axis=0))
    else:
        expected = np.std(samples, axis=0, ddof=1)
        np.testing.assert_allclose(found.convergence, samples.mean(axis=0))
    np.testing.assert_allclose(found.std, expected)


@pytest.mark.slow
def test_keys_differ_between_patches_and_chunks(tmp_path):
    plan = small_plan(
        tmp_path / "run", method="wiener", num_samples=4, samples_per_task=2, keep_samples=True,
        patch_deg=3.7, pixel_arcmin=15.0, overlap_arcmin=60.0,
    )  # fmt: skip
    assert plan.num_chunks == 2 and plan.settings["num_samples"] == 2
    assert do_all(plan) == []
    names = sorted((plan.folder / "results").iterdir())
    assert len(names) == len(all_tasks(plan))
    draws = []
    for path in names:
        with h5py.File(path) as file:
            draws += list(file["samples"][:] - file["mean"][:][None])
    flat = np.array([draw.ravel() for draw in draws])
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(correlation).max() < 0.9  # the same noise would give 1
    made = merge_survey(plan, num_samples=3, write_patches=False)
    _, pixels, sample = read_partial_map(plan.folder / "maps" / "sample-0002.fits")
    _, _, kappa = read_partial_map(plan.folder / "maps" / MERGED["KAPPA_E"])
    assert len(pixels) == made.num_pixels and np.std(sample - kappa) > 0
    with pytest.raises(ValueError, match="has kept 4 samples; expected 9"):
        merge_survey(plan, num_samples=9)


def test_partial_map_of_nothing_is_a_whole_file(tmp_path):
    with PartialMapWriter(tmp_path / "map.fits", 64, "KAPPA_E") as writer:
        writer.write(np.arange(0), np.arange(0.0))
    assert len(read_partial_map(tmp_path / "map.fits")[1]) == 0
