"""Calibration: every formula against a direct sum, and through `read_shear`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jaxmap.reading.calibration import calibrate, sheared_response, weighted_mean
from jaxmap.reading.readers import read_shear
from jaxmap.reading.surveys import GENERIC


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    e = 0.3 * (rng.normal(size=500) + 1j * rng.normal(size=500))
    e /= np.maximum(1, np.abs(e))
    positions = {"ra": rng.uniform(1, 2, 500), "dec": rng.uniform(1, 2, 500)}
    return positions | {"e1": e.real, "e2": e.imag, "weight": rng.uniform(1, 2, 500)}


def shapes(table: dict[str, np.ndarray]) -> np.ndarray:
    return table["e1"] + 1j * table["e2"]


def test_metacalibration_formula(table: dict[str, np.ndarray]) -> None:
    """Mean response of noisy R11 and R22, with the selection response, c per galaxy and mean m."""
    rng = np.random.default_rng(4)
    e, w = shapes(table), table["weight"]
    r11, r22 = rng.normal(0.7, 1.5, (2, 500))
    m, c1, c2 = rng.normal(0, 0.05, (3, 500))
    values = {"R11": r11, "R22": r22, "m": m, "c1": c1, "c2": c2}
    survey = replace(GENERIC, selection_response=0.01)
    mean_r = np.sum(w * (r11 + r22) / 2) / np.sum(w) + 0.01
    expected = (e - c1 - 1j * c2) / mean_r / (1 + np.sum(w * m) / np.sum(w))
    np.testing.assert_allclose(calibrate(e, w, values, survey, False), expected, rtol=1e-12)
    without = calibrate(e, w, values, GENERIC, False)  # control: the selection response matters
    assert np.abs(without / expected - 1).max() > 0.01


def test_sheared_shapes_give_the_response(table: dict[str, np.ndarray]) -> None:
    e, w = shapes(table), table["weight"]
    r11, r22 = np.random.default_rng(5).normal(0.8, 0.3, (2, 500))
    sheared = {"e1_1p": e.real + 0.01 * r11, "e1_1m": e.real - 0.01 * r11}
    sheared |= {"e2_2p": e.imag + 0.01 * r22, "e2_2m": e.imag - 0.01 * r22}
    direct = calibrate(e, w, {"R11": r11, "R22": r22}, GENERIC, False)
    np.testing.assert_allclose(calibrate(e, w, sheared, GENERIC, False), direct, rtol=1e-12)


def test_selection_response_is_a_finite_difference() -> None:
    assert sheared_response(0.013, 0.005) == pytest.approx(0.4)


def test_useless_weights_count_as_zero() -> None:
    values = np.array([1.0, 2.0, 10.0, 20.0])
    assert weighted_mean(values, np.array([1.0, 3.0, np.nan, -1.0])) == 1.75
    assert weighted_mean(values, np.zeros(4)) == 8.25
    assert weighted_mean(3.0, np.zeros(4)) == 3.0


def test_nan_stays_in_its_component() -> None:
    e, w = np.array([complex(np.nan, 0.1), complex(0.1, np.nan)]), np.ones(2)
    for distortion in (False, True):
        values = {"response": np.asarray(0.5)}
        result = calibrate(e, w, values, GENERIC, distortion)
        np.testing.assert_array_equal(np.isfinite(result.real), [False, True])
        np.testing.assert_array_equal(np.isfinite(result.imag), [True, False])


def test_distortion_without_e_rms_is_measured_and_told(
    table: dict[str, np.ndarray], caplog: Any
) -> None:
    e = shapes(table)
    read = read_shear(table, distortion=True)
    r = 1 - 0.5 * np.average(np.abs(e) ** 2, weights=table["weight"])
    np.testing.assert_allclose(read.ellipticity, e / (2 * r), rtol=1e-12)
    assert "measured from the noisy" in caplog.text


def test_responsivity_of_distortions(table: dict[str, np.ndarray], caplog: Any) -> None:
    e = shapes(table)
    read = read_shear(table, distortion=True, response=0.8)
    np.testing.assert_allclose(read.ellipticity, e / 1.6, rtol=1e-12)
    with_rms = table | {"rms": np.full(500, 0.4)}
    read = read_shear(with_rms, distortion=True, columns={"e_rms": "rms"})
    np.testing.assert_allclose(read.ellipticity, e / (2 * 0.84), rtol=1e-12)
    assert "measured" not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"response": 0.0}, "mean of response is 0"),
        ({"m": -1.0}, r"mean of 1 \+ m is 0"),
        ({"m": np.nan}, "^m is nan; expected a finite number"),
        ({"distortion": True, "response": 1.5}, "responsivity is 1.5"),
        ({"c1": np.inf, "drop_invalid": True}, "c1 is inf; expected a finite"),
        ({"m": np.zeros(3)}, r"'m' has shape \(3,\)"),
        ({"survey": "hsc"}, "expected a preset"),
    ],
)
def test_bad_calibration(
    options: dict[str, Any], message: str, table: dict[str, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=message):
        read_shear(table, **options)
