"""Null tests: what should vanish in shear that holds lensing and noise alone, for every method.

Pure functions of the data; `run_null_tests` calls them all. They look for B modes (systematics, a
wrong sign of one component), for noise that the weights do not tell, for a signal that comes from
one place, and for one that is not of the size that the prior expects.
"""

from jaxmap.null_tests.b_modes import BModes, b_mode_test
from jaxmap.null_tests.blocks import Jackknife, jackknife
from jaxmap.null_tests.noise import Estimated, noise_test, random_sign_map, residual_chi2
from jaxmap.null_tests.power import ShearPower, power_test
from jaxmap.null_tests.run import data_null_tests, run_null_tests, with_null_tests
from jaxmap.null_tests.skies import check_realisations

__all__ = [
    "BModes",
    "Estimated",
    "Jackknife",
    "ShearPower",
    "b_mode_test",
    "check_realisations",
    "data_null_tests",
    "jackknife",
    "noise_test",
    "power_test",
    "random_sign_map",
    "residual_chi2",
    "run_null_tests",
    "with_null_tests",
]
