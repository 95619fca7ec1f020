"""Power of the lensing over that of the prior (`jaxmap.null_tests.power_test`): skies, and COSMOS.

Fields of the halo light cone, with the sources and baryons of the shipped prior, behind the middle
of the real COSMOS mask with its noise, against the power spectrum of `jaxmap map` (COSMOS n(z),
Planck 2018): their mean, and how much more they scatter than the quoted error, which is that of
Gaussian skies. The same fields with the sign of e2 changed, the control, have no power left. Then
the COSMOS catalogue: all of it, and every other galaxy.

Writes results/shear_power.json.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
from common import arguments, mean_and_error, real_data, save
from cosmos_fields import cosmos_fields

from jaxmap.binning import bin_shear
from jaxmap.catalog import ShearCatalog, ShearMap
from jaxmap.cosmology import convergence_power
from jaxmap.footprint import grid_of_catalog
from jaxmap.null_tests import power_test
from jaxmap.reading.readers import read_shear

SIDE, NUM, SKIES = 360, 60, 50


def main() -> None:
    options = arguments(__doc__)
    side, num, skies = (96, 2, 19) if options.quick else (SIDE, NUM, SKIES)
    key, spectrum = jax.random.key(options.seed), convergence_power()

    def judged(number: int, data: ShearMap, margin: int | None) -> tuple[float, float]:
        found = power_test(jax.random.fold_in(key, number), data, spectrum, skies, margin)
        return found.ratio, found.error

    fields = cosmos_fields(options, side)
    right, flipped = [], []
    for number in range(num):
        _, data = fields(jax.random.fold_in(key, number))
        right.append(judged(number, data, 0))
        flipped.append(judged(number, replace(data, shear=data.shear.conj()), 0))
        print(f"field {number + 1} of {num}: {right[-1][0]:.2f}", flush=True)
    catalog = read_shear(real_data(options) / "cosmos" / "s10_shear_catalog.fits")
    grid = grid_of_catalog(catalog, 0.29)
    cosmos = {
        name: dict(zip(("ratio", "error"), judged(num, bin_shear(part, grid), None), strict=True))
        for name, part in {"all": catalog, "every other": every_other(catalog)}.items()
    }
    ratio, quoted = np.array(right).T
    save(
        options,
        "shear_power",
        {
            "side": side,
            "fields": num,
            "skies": skies,
            "ratio": mean_and_error(ratio),
            "scatter": float(ratio.std(ddof=1)),
            "quoted_error": float(quoted.mean()),
            "largest": float(ratio.max()),
            "least": float(ratio.min()),
            "ratio_flipped": mean_and_error(np.array(flipped)[:, 0]),
            "cosmos": cosmos,
        },
    )


def every_other(catalog: ShearCatalog) -> ShearCatalog:
    return jax.tree.map(lambda column: column[::2], catalog)


if __name__ == "__main__":
    main()
