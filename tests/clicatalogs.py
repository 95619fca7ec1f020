"""Catalogues and flags for tests of the command line."""

import numpy as np
from astropy.table import Table


def make_table(num=3000, seed=0, ra=150.0, dec=2.0):
    rng = np.random.default_rng(seed)
    return Table(
        {
            "ra": (ra + rng.uniform(-0.3, 0.3, num)) % 360,
            "dec": dec + rng.uniform(-0.3, 0.3, num),
            "e1": 0.25 * rng.normal(size=num).clip(-2.5, 2.5),
            "e2": 0.25 * rng.normal(size=num).clip(-2.5, 2.5),
            "weight": rng.uniform(0.5, 2, num),
        }
    )


QUICK = ["--num-samples", "3", "--pixel-arcmin", "1.5", "--null-tests", "0"]
