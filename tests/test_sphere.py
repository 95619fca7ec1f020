"""A Gaussian sky on the sphere, and the catalogue of a survey behind it."""

import errno

import h5py
import jax
import numpy as np
import pytest
from scipy.special import sph_harm_y

from jaxmap.production.wide import Region, produce_wide_survey, region_of
from jaxmap.records import read_record
from jaxmap.simulation import sphere
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.response import ShearResponse
from jaxmap.simulation.sphere import gaussian_rings
from jaxmap.spectra import power_spectrum

KEY = jax.random.key(3)


def test_convergence_and_shear_are_those_of_spherical_harmonics():
    """Derivatives of the potential, by finite differences of scipy's functions."""
    lmax, dec, num = 6, np.array([-50.0, 63.0]), 16
    rings = gaussian_rings(KEY, np.ones(lmax + 1), dec, num)
    with jax.enable_x64(True):
        draws = [
            np.asarray(sphere._coefficients(jax.random.fold_in(KEY, degree), lmax, 1.0))
            for degree in range(lmax + 1)
        ]

    def field(size, theta, ra):
        return sum(
            (2 if m else 1) * (size(n) * draws[n][m] * sph_harm_y(n, m, theta, ra)).real
            for n in range(2, lmax + 1)
            for m in range(n + 1)
        )

    def psi(theta, ra):
        return field(lambda n: -2 / (n * (n + 1)), theta, ra)

    theta, ra = np.meshgrid(np.radians(90 - dec), 2 * np.pi * np.arange(num) / num, indexing="ij")
    np.testing.assert_allclose(rings.convergence, field(lambda n: 1.0, theta, ra), atol=1e-12)
    h = 1e-4
    north_north = (psi(theta + h, ra) - 2 * psi(theta, ra) + psi(theta - h, ra)) / h**2
    slope = (psi(theta + h, ra) - psi(theta - h, ra)) / (2 * h)
    west_west = (psi(theta, ra + h) - 2 * psi(theta, ra) + psi(theta, ra - h)) / h**2
    west_west = west_west / np.sin(theta) ** 2 + slope / np.tan(theta)

    def along(t):  # to the west is minus RA, to the north minus theta: the signs cancel
        return (psi(t, ra + h) - psi(t, ra - h)) / (2 * h * np.sin(t))

    mixed = (along(theta + h) - along(theta - h)) / (2 * h)
    expected = 0.5 * (west_west - north_north) + 1j * mixed
    np.testing.assert_allclose(rings.shear, expected, atol=1e-5)


def test_sky_has_its_power_up_to_the_poles():
    lmax = 600
    degrees = np.arange(lmax + 1)
    c_ell = np.where(degrees > 300, 1.0, 0.0)  # many modes, so that one sky tells
    variance = np.sum((2 * degrees + 1) * c_ell) / (4 * np.pi)
    for dec in (np.linspace(0.0, 10.0, 8), np.linspace(84.0, 88.0, 8)):
        rings = gaussian_rings(KEY, c_ell, dec, 2 * lmax + 2)
        # Modes m < l cos(dec) reach a ring; rings are far enough from one another.
        modes = 8 * 2 * 450 * np.cos(np.radians(dec.mean()))
        error = np.sqrt(2 / modes)
        assert abs(np.var(rings.convergence) / variance - 1) < 4 * error
        assert abs(np.mean(np.abs(rings.shear) ** 2) / variance - 1) < 4 * error
    assert np.mean(np.abs(rings.shear) ** 2) < 2 * variance  # no exponent was lost
    with pytest.raises(ValueError, match="cannot hold l up to"):
        gaussian_rings(KEY, c_ell, np.zeros(2), 2 * lmax)


def test_regions_have_their_area():
    for area, centre in ((100, (150.0, 2.0)), (5000, (0.0, -40.0)), (15000, (10.0, 60.0)),
                         (41252.9, (0.0, 0.0)), (300, (20.0, 90.0))):  # fmt: skip
        region = region_of(area, centre)
        south, north = np.sin(np.radians(region.dec_deg))
        assert np.degrees(north - south) * region.ra_deg[1] == pytest.approx(area, rel=1e-6)
        assert region.ra_deg[1] <= 360 and -90 <= region.dec_deg[0] < region.dec_deg[1] <= 90
    with pytest.raises(ValueError, match="at most the whole sky"):
        region_of(50_000, (0.0, 0.0))


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_interrupted_catalogue_is_completed_to_the_bit(tmp_path, monkeypatch):
    survey = MockSurvey(2.0, 0.0, response=ShearResponse(reduced=False))
    spectrum = power_spectrum([2, 1000], [1e-4, 1e-4])
    region = Region((359.0, 2.0), (-9.0, 9.0))

    def produce(folder, resume=False, seed=1):
        return produce_wide_survey(
            survey,
            spectrum,
            region,
            folder,
            lmax=200,
            seed=seed,
            resume=resume,
            made_by={"command": "simulate survey"},
        )

    with monkeypatch.context() as patched:
        patched.setattr("jaxmap.files.os.posix_fallocate", full)
        with pytest.raises(OSError, match=r"no room for .*\.h5 .*choose another folder"):
            produce(tmp_path / "full")  # HDF5 would end the process
    assert produce(tmp_path / "whole").num_made == 2
    produce(tmp_path / "stopped")
    (tmp_path / "stopped" / "part-00001.h5").unlink()
    with pytest.raises(ValueError, match="--resume"):
        produce(tmp_path / "stopped")
    with pytest.raises(ValueError, match=r"another simulation \(seed differ"):
        produce(tmp_path / "stopped", resume=True, seed=2)
    assert tuple(produce(tmp_path / "stopped", resume=True))[:2] == (1, 1)
    columns = {}
    for name in ("part-00000.h5", "part-00001.h5"):
        assert read_record(tmp_path / "whole" / name) == {"command": "simulate survey"}
        with (
            h5py.File(tmp_path / "whole" / name) as one,
            h5py.File(tmp_path / "stopped" / name) as other,
        ):
            for column in one:
                assert one[column].fletcher32
                np.testing.assert_array_equal(one[column][:], other[column][:])
                columns.setdefault(column, []).append(one[column][:])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    number = 2 * 3600 * 2 * np.degrees(2 * np.sin(np.radians(9)))
    assert abs(len(joined["ra"]) - number) < 5 * np.sqrt(number)
    assert np.all((joined["ra"] > 358.99) | (joined["ra"] < 1.01))
    # Without shape noise a galaxy shows the shear of the nearest ring and place.
    edges = np.linspace(-9.0, 9.0, 41)
    rings = gaussian_rings(
        jax.random.key(1), np.full(201, 1e-4), 0.5 * (edges[1:] + edges[:-1]), 800
    )
    row = np.searchsorted(edges, joined["dec"]) - 1
    column = np.rint(joined["ra"] / 0.45).astype(int) % 800
    np.testing.assert_allclose(joined["kappa"], rings.convergence[row, column], atol=1e-6)
    shapes = joined["e1"] + 1j * joined["e2"]
    np.testing.assert_allclose(shapes, rings.shear[row, column], atol=1e-6)
