# %% [markdown]
# # Your own catalogue
#
# `jaxmap.read_shear` reads FITS, CSV, ECSV, text, HDF5 and Parquet. The columns and conventions of
# COSMOS, DES Y3, KiDS, HSC, Euclid and TXPipe are recognised; any others are named. This notebook
# writes a small CSV file with columns of its own, maps it, and makes the mistake that everybody
# makes once: the sign of the second component.

# %%
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table

import jaxmap
from jaxmap.clusters import halo_convergence, nfw_halo
from jaxmap.cosmology import mean_inverse_critical_density
from jaxmap.diagnostics import check_e2_sign
from jaxmap.null_tests import b_mode_test
from jaxmap.simulation.fields import lognormal_field
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.survey import observe

folder = Path(tempfile.mkdtemp())
key_sky, key_galaxies, key_map = jax.random.split(jax.random.key(4), 3)

# %% [markdown]
# A massive cluster in front of a field, seen by a survey of 40 galaxies per square arcminute.

# %%
redshifts = jaxmap.redshift_distribution(0.9)  # all sources at one redshift
spectrum = jaxmap.convergence_power(redshifts)
sky = jaxmap.Grid((96, 96), 0.5, centre_deg=(35.0, -4.5))
y, x = (np.mgrid[:96, :96] - 47.5) * sky.pixel_arcmin
cluster = nfw_halo(mass=1.2e15, concentration=4.0, z=0.3, x=4.0, y=-6.0)
inverse_critical, _ = mean_inverse_critical_density(0.3, redshifts)
truth = lognormal_field(key_sky, spectrum, sky) + halo_convergence(
    cluster, x, y, inverse_critical, softening_arcmin=0.3
)
galaxies = observe(key_galaxies, truth, sky, MockSurvey(density_arcmin2=40, shape_noise=0.26))
table = Table(
    {
        "alpha": galaxies.ra_deg,
        "delta": galaxies.dec_deg,
        "shape_1": galaxies.ellipticity.real,
        "shape_2": galaxies.ellipticity.imag,
        "w": galaxies.weight,
    }
)
table.write(folder / "galaxies.csv", overwrite=True)
print("\n".join((folder / "galaxies.csv").read_text().splitlines()[:3]))

# %% [markdown]
# **Read it.** Column names that jaxmap does not know are given by role. `flip_e2=True` would change
# the sign of the second component, `m=`, `c1=`, `c2=` and `response=` apply calibrations; files of
# known surveys need none of this.

# %%
columns = {"ra": "alpha", "dec": "delta", "e1": "shape_1", "e2": "shape_2", "weight": "w"}
catalog = jaxmap.read_shear(folder / "galaxies.csv", columns=columns)
grid = jaxmap.grid_of_catalog(catalog, pixel_arcmin=0.5)
shear = jaxmap.bin_shear(catalog, grid)
print(f"{len(catalog):,} galaxies on {grid.shape} pixels of {grid.pixel_arcmin} arcmin")

# %% [markdown]
# **Are the signs right?** Lensing makes E modes. Most surveys define $e_2$ so that an ellipse along
# the north-west diagonal has $e_2 > 0$ (as seen with x to the west); some have the opposite sign. The
# excess of E over B power, in standard deviations, tells which; `jaxmap map` checks it on every run.

# %%
print("as given:  ", check_e2_sign(shear))
wrong = jaxmap.read_shear(folder / "galaxies.csv", columns=columns, flip_e2=True)
print("e2 flipped:", check_e2_sign(jaxmap.bin_shear(wrong, grid)))

# %% [markdown]
# **The map,** by the Wiener filter, right and wrong. With the wrong sign the cluster is gone from the
# E mode, and nothing fails.

# %%
estimator = jaxmap.Wiener(spectrum, num_samples=30)
results = {
    "as given": estimator(key_map, shear),
    "e2 flipped (wrong)": estimator(key_map, jaxmap.bin_shear(wrong, grid)),
}
fig, axes = plt.subplots(2, 2, figsize=(8, 7.2), sharex=True, sharey=True)
for row, (name, result) in zip(axes, results.items(), strict=True):
    for axis, image, label in zip(row, (result.convergence, result.b_mode), "EB", strict=True):
        drawn = axis.imshow(image, origin="lower", cmap="magma", vmin=-0.06, vmax=0.15)
        axis.set_title(f"{label} mode, {name}")
fig.colorbar(drawn, ax=axes, label=r"convergence $\kappa$")

# %% [markdown]
# **A null test.** Is there more B mode than simulated skies without any have, with this mask and
# noise? The p-value is small where something is wrong: signs, the point spread function, weights.

# %%
for name, data in (("as given", shear), ("e2 flipped", jaxmap.bin_shear(wrong, grid))):
    test = b_mode_test(jax.random.key(7), data, spectrum, num=40)
    print(f"{name}: p = {test.p_value:.3f}")

# %% [markdown]
# The same from the command line, with all null tests, FITS files and a picture:
#
# ```sh
# jaxmap map galaxies.csv --columns ra=alpha,dec=delta,e1=shape_1,e2=shape_2,weight=w \
#     --pixel-arcmin 0.5 --nz my_nz.csv --out map
# ```
