"""Maps to train on: users' own, kept apart by realisation, with their spectrum; and simulated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapwriters import write_fits, write_hdf5, write_ktng_binary, write_npy

from jaxmap.grid import Grid
from jaxmap.reading.maps.source import MapSource
from jaxmap.simulation.fields import gaussian_field
from jaxmap.spectra import map_power, power_spectrum
from jaxmap.training.layouts import GivenFields, Layout
from jaxmap.training.settings import GivenMaps, SimulatedMaps, Training, training_from
from jaxmap.training.smooth_power import smooth_power
from jaxmap.training.sources import digests_of, open_source
from jaxmap.training.survey_settings import Survey

SHAPE = (20, 24)
LAYOUTS = (Layout(16, 2), Layout(20, 1, window=12))


def settings_for(folder: Path | str, **options: object) -> Training:
    maps = GivenMaps(str(folder), **({"pixel_arcmin": 0.5, "rim_arcmin": 2.0} | options))
    return replace(training_from({"schedule": {"num_steps": 1}}), layouts=LAYOUTS, source=maps)


def write_maps(folder: Path, num: int = 10, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Two maps from each simulation; the value of the first pixel is the number of the map."""
    maps = np.random.default_rng(0).normal(scale=0.02, size=(num, *shape)).astype("f4")
    maps[:, 0, 0] = np.arange(num)
    for number, values in enumerate(maps):
        write_npy(folder / f"sim{number // 2}_view{number % 2}.npy", values)
    return maps


def numbers_of(fields: GivenFields) -> list[int]:
    return [int(field[0, 0]) for field in fields.maps]


def test_digests_tell_what_was_read(tmp_path):
    """Maps and files, each by its name; the same maps have the same digest."""
    (tmp_path / "maps").mkdir()
    write_maps(tmp_path / "maps", 4)
    settings = settings_for(tmp_path / "maps", validation_fraction=0.5)
    source = open_source(settings)
    first = digests_of(settings, source)
    assert list(first) == ["maps"] and digests_of(settings, open_source(settings)) == first
    assert digests_of(settings, source._replace(validation=source.training)) != first
    write_maps(tmp_path / "maps", 6)
    assert digests_of(settings, open_source(settings)) != first

    path = tmp_path / "file"
    files = {
        "start": replace(settings, start=str(path)),
        "mask_from": replace(settings, survey=Survey(mask_from=str(path))),
        "catalog": replace(settings, survey=Survey(catalog=str(path))),
        "nz": replace(settings, source=SimulatedMaps(nz=str(path))),
    }
    for name, changed in files.items():
        path.write_text("old")
        before = digests_of(changed, source)
        path.write_text("new")
        now = digests_of(changed, source)
        assert [other for other in before if before[other] != now[other]] == [name]


def test_given_maps_are_split_by_realisation(tmp_path):
    maps = write_maps(tmp_path)
    settings = settings_for(tmp_path, realisation=r"sim\d+", validation_fraction=0.4)
    source = open_source(settings)
    training, validation = numbers_of(source.training), numbers_of(source.validation)
    assert sorted(training + validation) == list(range(10))
    assert (len(training), len(validation)) == (6, 4)
    assert not {n // 2 for n in training} & {n // 2 for n in validation}
    np.testing.assert_array_equal(source.training.maps, maps[training])
    assert source.training.rim == source.validation.rim == 4
    expected = smooth_power(maps[training], 0.5)
    np.testing.assert_array_equal(source.spectrum.c_ell, expected.c_ell)
    field = jax.jit(source.training.draw, static_argnums=1)(jax.random.key(0), 16)
    assert field.shape == (16, 16) and abs(float(field.mean())) < 1e-12


def test_no_more_maps_are_read_than_are_kept(tmp_path, monkeypatch):
    write_maps(tmp_path)
    reads: list[int] = []
    read = MapSource.__getitem__

    def counted(source: MapSource, index: int) -> np.ndarray:
        reads.append(index)
        return read(source, index)

    monkeypatch.setattr(MapSource, "__getitem__", counted)
    steps: list[int] = []

    def progress(numbers: Iterable[int]) -> Iterable[int]:
        for number in numbers:
            steps.append(number)
            yield number

    settings = settings_for(tmp_path, num_maps=5, validation_fraction=0.3)
    source = open_source(settings, progress)
    kept = numbers_of(source.training) + numbers_of(source.validation)
    assert (len(numbers_of(source.training)), len(reads), steps) == (3, 5, list(range(5)))
    assert sorted(kept) == sorted(reads) and len(set(kept)) == 5
    again = open_source(settings)
    assert numbers_of(again.training) + numbers_of(again.validation) == kept
    other = open_source(replace(settings, seed=1))
    assert numbers_of(other.training) + numbers_of(other.validation) != kept


def unread(source: MapSource, index: int) -> np.ndarray:
    raise AssertionError("a map was read before the settings were found wanting")


@pytest.mark.parametrize(
    ("options", "layouts", "message"),
    [
        ({}, (Layout(16, 1), Layout(24, 1)), r"side 24, .* have \(20, 24\) .* of 20 or less"),
        ({}, (Layout(20, 1, window=13),), r"window of 13 .* leaves 12; .*rim_arcmin = 0 if"),
        ({"rim_arcmin": 9}, (Layout(20, 1, window=8),), "window of 8 .* leaves 0; give a larger"),
        ({"realisation": "view"}, LAYOUTS, "all 10 maps belong to realisation 'view'"),
        ({"format": "jpeg"}, LAYOUTS, "format='jpeg' is not known"),
    ],
)
def test_refused_before_a_map_is_read(tmp_path, monkeypatch, options, layouts, message):
    write_maps(tmp_path)
    monkeypatch.setattr(MapSource, "__getitem__", unread)
    with pytest.raises(ValueError, match=message):
        open_source(replace(settings_for(tmp_path, **options), layouts=layouts))
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        open_source(settings_for(tmp_path / "nowhere"))


def test_whole_maps_and_periodic_maps_have_no_rim(tmp_path):
    write_maps(tmp_path)
    whole = replace(settings_for(tmp_path, rim_arcmin=9), layouts=(Layout(20, 1),))
    assert open_source(whole).training.rim == 18
    periodic = replace(settings_for(tmp_path, rim_arcmin=0), layouts=(Layout(20, 1, window=20),))
    assert open_source(periodic).training.rim == 0


def test_pixel_scale_is_that_of_the_files(tmp_path):
    """Told by FITS keywords, by an attribute of HDF5, or by the suite; within 2 %."""
    values = np.random.default_rng(0).normal(size=(2, *SHAPE))
    step = 0.5 / 60
    keywords = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -step, "CDELT2": step}
    for number in range(2):
        write_fits(tmp_path / f"{number}.fits", values[number], **keywords)
        write_hdf5(tmp_path / f"{number}.h5", 0.5, kappa=values[number])
    for pattern in ("*.fits", "*.h5"):
        assert open_source(settings_for(tmp_path / pattern)).training.maps.shape == (1, *SHAPE)
        assert open_source(settings_for(tmp_path / pattern, pixel_arcmin=0.491, rim_arcmin=1))
        wrong = settings_for(tmp_path / pattern, pixel_arcmin=0.4, rim_arcmin=1)
        with pytest.raises(ValueError, match=r"pixels of 0\.5 arcmin.*set pixel_arcmin = 0\.5 in"):
            open_source(wrong)
    write_hdf5(tmp_path / "2.h5", 0.6, kappa=values[0])
    with pytest.raises(ValueError, match=r"pixels of 0\.6 arcmin, but pixel_arcmin is 0\.5"):
        open_source(settings_for(tmp_path / "*.h5"))


def test_pixel_scale_of_kappatng(tmp_path):
    flat = np.zeros((1024, 1024))
    for run in (1, 2):
        write_ktng_binary(tmp_path / f"run{run:03d}" / "kappa23.dat", flat)
    settings = settings_for(tmp_path, pixel_arcmin=0.5)
    with pytest.raises(ValueError, match=r"pixels of 0\.293 arcmin.*set pixel_arcmin = 0\.293"):
        open_source(settings)
    with pytest.raises(ValueError, match="the maps are flat"):
        open_source(settings_for(tmp_path, pixel_arcmin=0.29, rim_arcmin=1))


def test_spectrum_of_cut_maps_is_that_of_the_sky(spectrum):
    """Maps smoothed by half an arcmin and cut from larger ones, so that their edges do not meet:
    power from ell of 1000 to 12 000, where it falls by 1000, within 4 standard errors and 10 %.
    The control, the maps' power without taper, is off by more than half at the end."""
    side, pixel = 48, 0.7
    ell = np.asarray(spectrum.ell)
    smooth = np.exp(-((0.5 * ell * np.pi / 10800) ** 2))
    steep = power_spectrum(ell, np.asarray(spectrum.c_ell) * smooth)
    sky, grid = Grid((4 * side, 4 * side), pixel), Grid((side, side), pixel)
    draw = jax.jit(lambda key: gaussian_field(key, steep, sky))
    maps = []
    for number in range(12):
        whole = np.asarray(draw(jax.random.key(number)))
        maps += [whole[y : y + side, x : x + side] for y in (0, 96) for x in (0, 96)]
    at = np.geomspace(1000, 12_000, 12)
    true = np.asarray(steep(at))
    quarters = [np.asarray(smooth_power(np.stack(maps[i::4]), pixel)(at)) / true for i in range(4)]
    error = np.std(quarters, axis=0, ddof=1) / 2
    assert np.all(np.abs(np.mean(quarters, axis=0) - 1) < 4 * error + 0.1)

    edges = np.array([11_000.0, 13_000.0])
    untapered = [float(map_power(jnp.asarray(each), grid, edges)[1][0]) for each in maps[:12]]
    assert np.mean(untapered) > 1.5 * float(steep(12_000.0))


def test_spectrum_reaches_every_mode(spectrum):
    """Non-square maps without any power beyond some multipole: positive to their last mode."""
    rng = np.random.default_rng(0)
    modes = np.fft.rfft2(rng.normal(size=(4, 30, 18)))
    modes[:, 6:-5], modes[:, :, 6:] = 0, 0
    measured = smooth_power(np.fft.irfft2(modes, s=(30, 18)), 1.0)
    ell = np.abs(np.asarray(Grid((30, 18), 1.0).ell()))
    assert float(measured.ell[-1]) > 0.9 * ell.max()
    power = np.asarray(measured(ell))
    assert np.all(np.isfinite(power)) and power.min() > 0
    assert power[15, 9] < 1e-6 * power[0, 1]
    for flat in (np.zeros((2, 16, 16)), np.full((1, 16, 16), 0.25)):
        with pytest.raises(ValueError, match="the maps are flat"):
            smooth_power(flat, 1.0)


@pytest.mark.slow
def test_simulated_maps_come_from_the_light_cone():
    settings = replace(training_from({"schedule": {"num_steps": 1}}), layouts=(Layout(32, 1),))
    source = open_source(settings)
    draw = jax.jit(source.training.draw, static_argnums=1)
    fields = np.stack([draw(jax.random.key(number), 32) for number in range(2)])
    assert fields.shape == (2, 32, 32) and np.all(np.isfinite(fields))
    assert np.abs(fields.mean(axis=(1, 2))).max() < 1e-8 < np.abs(fields[0] - fields[1]).max()
    assert source.training.rim == 0 and float(source.spectrum(jnp.asarray(1000.0))) > 0
