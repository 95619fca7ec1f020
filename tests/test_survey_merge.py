"""Surveys in patches: what tasks make of a plan, and what is merged of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest
from astropy.io import fits
from surveyruns import POLE, do_all, small_catalog, small_plan

from jaxmap.binning import bin_shear
from jaxmap.estimators import KaiserSquires
from jaxmap.grid import Grid
from jaxmap.survey.blend import Blend, places_on
from jaxmap.survey.healpix import healpix, place_of
from jaxmap.survey.merge import MERGED, merge_survey
from jaxmap.survey.partial_maps import PartialMapWriter, read_partial_map
from jaxmap.survey.plan import GALAXIES
from jaxmap.survey.results import Chunk, Task, all_tasks, missing_tasks, patch_map, write_result
from jaxmap.survey.store import cell_path
from jaxmap.survey.tasks import run_tasks


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A survey that is done, around a pole and RA 0."""
    folder = tmp_path_factory.mktemp("survey") / "run"
    plan = small_plan(folder, small_catalog(centre=POLE))
    assert len(plan.tiling.patches) > 6
    assert do_all(plan) == []
    return plan


def test_patches_are_what_the_estimator_makes_of_their_galaxies(done):
    catalog = small_catalog(centre=POLE)
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


@contextmanager
def compilations() -> Iterator[list[float]]:
    """Seconds of every program that XLA compiles."""
    found: list[float] = []

    def listen(name: str, seconds: float, **more: object) -> None:
        if name.endswith("backend_compile_duration"):
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found


def test_finished_tasks_are_not_done_again_and_trouble_is_told(tmp_path):
    plan = small_plan(tmp_path / "run")
    first, second, third = plan.tiling.patches[:3]
    where = str(plan.folder)
    run_tasks(where, plan.digest, [(first.number, 0)])
    (record,) = run_tasks(where, plan.digest, [(first.number, 0)])
    assert record["state"] == "there"
    with compilations() as compiled:  # one program serves all patches
        run_tasks(where, plan.digest, [(plan.tiling.patches[3].number, 0)])
    assert compiled == []
    with compilations() as compiled:  # the control
        run_tasks(where, plan.digest, [])
        jax.jit(lambda x: x + where.count("/"))(np.arange(1237))
    assert compiled
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
    assert sorted(p.name for p in (done.folder / "maps").glob("patch-*"))[0].endswith(".fits")
    # One big patch of the same galaxies; and one on other pixels, half a side off in the middle.
    catalog, grid = small_catalog(centre=POLE), Grid((60, 60), 6.0, POLE)
    ra, dec = (float(angle) for angle in grid.wcs().all_pix2world(30, 30, 0))
    places = place_of(healpix(nside), pixels)
    inner = places_on(grid, 90.0, *places).weight == 1
    used = np.flatnonzero(places_on(grid, 90.0, *places).used)[inner]

    def one_patch(catalog, grid=grid, name="convergence"):
        shear = bin_shear(catalog, grid, done.shape_noise)
        result = KaiserSquires(8.0)(jax.random.key(0), shear)
        on = places_on(grid, 6.0, *(angle[used] for angle in places))
        return np.asarray(getattr(result, name))[on.rows, on.columns]

    big, noise = one_patch(catalog), one_patch(catalog, name="std").mean()
    shifted = one_patch(catalog, replace(grid, centre_deg=(ra, dec)))
    # Pixels of patches lie as much off as those: a ratio of 1, of standard deviations over some 60
    # beams (10 % error each). The map of other galaxies, the control, is farther off.
    limit = 1.3 * np.std(shifted - big)
    unlike = one_patch(small_catalog(seed=2, centre=POLE))
    assert np.std(kappa[used] - big) < limit < np.std(unlike - kappa[used])
    # The lens is there, in E modes; where frames are not turned to each other (the control), not.
    middle = Grid((4, 4), 6.0, POLE)
    lens = places_on(middle, 0.0, *places).used
    _, _, b_mode = read_partial_map(done.folder / "maps" / MERGED["KAPPA_B"])
    assert kappa[lens].mean() > 5 * noise and abs(b_mode[lens].mean()) < 2 * noise
    unturned = catalog.ellipticity * grid.frame_rotation(catalog.ra_deg).conj()
    lost = one_patch(replace(catalog, ellipticity=unturned))
    assert lost[lens[used]].mean() < 0.5 * kappa[lens].mean()


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
def test_chunks_together_are_all_samples(done, tmp_path, exact_mean):
    plan = replace(done, folder=tmp_path, num_chunks=3)
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
    draws, power = [], 0.0
    for path in sorted((plan.folder / "results").iterdir()):
        with h5py.File(path) as file:
            for draw in file["samples"][:] - file["mean"][:][None]:
                draws.append(draw.ravel())
                power += np.abs(np.fft.fft2(draw)) ** 2
    assert len(draws) == 2 * len(all_tasks(plan))
    # Two Gaussian fields of n modes correlate by 1 / sqrt(n); the same noise would give 1.
    error = np.sqrt(np.sum(power**2)) / np.sum(power)
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 * error < 1
    made = merge_survey(plan, num_samples=3, write_patches=False)
    _, pixels, sample = read_partial_map(plan.folder / "maps" / "sample-0002.fits")
    _, _, kappa = read_partial_map(plan.folder / "maps" / MERGED["KAPPA_E"])
    assert len(pixels) == made.num_pixels and np.std(sample - kappa) > 0
    with pytest.raises(ValueError, match="has kept 4 samples; expected 9"):
        merge_survey(plan, num_samples=9)


def test_a_flipped_bit_of_a_merged_map_is_noticed(tmp_path):
    """In its pixels, values and header; the sums are astropy's, and files without are read."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000).astype(np.float32)
    path = tmp_path / "map.fits"
    with PartialMapWriter(path, 64, "KAPPA_E") as writer:
        for part in np.split(np.arange(1000), (1, 400)):
            writer.write(part, values[part])
    np.testing.assert_array_equal(read_partial_map(path)[2], values)
    with fits.open(path) as hdus:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
        for hdu in hdus:
            del hdu.header["DATASUM"], hdu.header["CHECKSUM"]
        hdus.writeto(tmp_path / "without.fits")
    np.testing.assert_array_equal(read_partial_map(tmp_path / "without.fits")[2], values)
    whole = path.read_bytes()
    data = whole.index(values[:1].astype(">f4").tobytes())
    for place in (whole.index(b"NSIDE   =") + 28, data, data + 7, data + 12 * 999):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"map\.fits is not a whole jaxmap map .*verification"):
            read_partial_map(path)


def test_partial_map_of_nothing_is_a_whole_file(tmp_path):
    with PartialMapWriter(tmp_path / "map.fits", 64, "KAPPA_E") as writer:
        writer.write(np.arange(0), np.arange(0.0))
    assert len(read_partial_map(tmp_path / "map.fits")[1]) == 0
