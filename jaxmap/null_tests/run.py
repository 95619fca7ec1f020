"""All null tests of one map, for its diagnostics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxmap.catalog import ShearMap
from jaxmap.massmap import MassMap
from jaxmap.null_tests.b_modes import b_mode_test
from jaxmap.null_tests.blocks import jackknife
from jaxmap.null_tests.noise import noise_test, residual_chi2
from jaxmap.null_tests.power import power_test
from jaxmap.spectra import PowerSpectrum


def run_null_tests(
    key: jax.Array,
    shear: ShearMap,
    result: MassMap,
    spectrum: PowerSpectrum,
    *,
    num: int = 50,
    margin: int | None = None,
    null: ShearMap | None = None,
) -> MassMap:
    """The map with all null tests in its diagnostics, under ``null_tests``.

    Args:
        key: PRNG key.
        shear: the observed shear.
        result: its map, by any method.
        spectrum: prior power spectrum of the convergence.
        num: skies that B modes are compared with.
        margin: masked pixels around the field; None for the default, 0 for a periodic field.
        null: a map of the same survey without signal (`random_sign_map`), where there is one.
    """
    figures = data_null_tests(key, shear, spectrum, num=num, margin=margin, null=null)
    return with_null_tests(result, figures, shear, margin)


def data_null_tests(
    key: jax.Array,
    shear: ShearMap,
    spectrum: PowerSpectrum,
    *,
    num: int = 50,
    margin: int | None = None,
    null: ShearMap | None = None,
) -> dict[str, Any]:
    """The null tests of the data alone, for any map of them; arguments as of `run_null_tests`."""
    found = jackknife(shear)
    key_power = jax.random.fold_in(key, num)  # beyond the skies of the B modes
    figures: dict[str, Any] = {
        "b_modes": b_mode_test(key, shear, spectrum, num, margin)._asdict(),
        "power": power_test(key_power, shear, spectrum, num, margin)._asdict(),
        "jackknife": {
            name: values.tolist() if isinstance(values, np.ndarray) else values
            for name, values in found._asdict().items()
        },
    }
    if null is not None:
        figures["noise_chi2"] = noise_test(null)._asdict()
    return figures


def with_null_tests(
    result: MassMap, figures: dict[str, Any], shear: ShearMap, margin: int | None = None
) -> MassMap:
    """The map with those of its data (`data_null_tests`) and of its residuals."""
    figures = figures | {"residual_chi2": residual_chi2(result, shear, margin)}
    return replace(result, diagnostics={**result.diagnostics, "null_tests": figures})
