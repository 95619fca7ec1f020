# %% [markdown]
# # Posterior science: masses, peaks and spectra with errors
#
# Posterior samples are skies that the data allow. Whatever one computes of a sky, one computes of
# each sample; the scatter of the results is the error. Three examples: which peaks are there, how
# massive is a cluster, what is the power spectrum.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmap
from jaxmap.clusters import (
    FitSettings,
    aperture_mass,
    detect,
    fit_halo,
    halo_convergence,
    halo_data_of_map,
    nfw_halo,
    scale_of,
)
from jaxmap.clusters.tables import aperture_masses, detection_table, write_regions
from jaxmap.cosmology import mean_inverse_critical_density
from jaxmap.demo import sky_redshifts
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.simulation.presets import COSMOS_LIKE
from jaxmap.simulation.survey import observe_map
from jaxmap.spectra import map_power

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
SIDE, MARGIN = (64, 16) if FAST else (128, 32)
key_sky, key_galaxies, key_map, key_fit = jax.random.split(jax.random.key(11), 4)

# %% [markdown]
# A simulated sky with haloes, seen by a survey as deep as COSMOS; two clusters at redshift 0.35 are
# added, one massive and one small.

# %%
Z_LENS = 0.35
PLACES = (-6.0, 5.0), (6.0, -6.0)  # arcmin from the middle, west and north
field = jaxmap.Grid((SIDE, SIDE), 0.29, centre_deg=(150.1, 2.2))
sky = field.padded(MARGIN)
inverse_critical, _ = mean_inverse_critical_density(Z_LENS, sky_redshifts())
ny, nx = sky.shape
y, x = (np.mgrid[:ny, :nx] - (ny - 1) / 2) * sky.pixel_arcmin
clusters = [nfw_halo(6e14, 4.0, Z_LENS, *PLACES[0]), nfw_halo(1.5e14, 4.5, Z_LENS, *PLACES[1])]
cone = build_light_cone(sky, sky_redshifts(), baryons=TNG_BARYONS)
truth = jax.jit(halo_light_cone, static_argnums=2)(key_sky, cone, sky)
for cluster in clusters:
    truth += halo_convergence(cluster, x, y, inverse_critical, softening_arcmin=0.3)
survey = replace(COSMOS_LIKE, border_arcmin=0)
shear = observe_map(key_galaxies, truth, sky, survey, field)
truth = truth[MARGIN:-MARGIN, MARGIN:-MARGIN]

denoiser, domain, _ = jaxmap.read_denoiser()
result = jaxmap.SampledPosterior(denoiser, num_samples=4 if FAST else 32, domain=domain)(
    key_map, shear
)

# %% [markdown]
# ## Peaks, each with its probability
#
# Every sample is filtered by a starlet aperture mass of 2.3 arcmin, and its peaks above three standard
# deviations are listed. The share of samples that have a peak at a place is the posterior probability
# that the sky has one there.

# %%
scale = scale_of(2.3, field)
found = detect(np.asarray(result.samples), field, scale=scale, least_probability=0.7)
masses = aperture_masses(found, Z_LENS, float(inverse_critical))
table = detection_table(found, mass=masses, observed=np.asarray(result.mask))
columns = ["ra", "dec", "x_error", "y_error", "probability", "probability_error", "snr"]
table.round({name: 4 for name in columns})
table[columns][:5].pprint(max_width=-1)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True)
for axis, image, title in (
    (axes[0], truth, "truth"),
    (axes[1], result.convergence, "posterior mean, peaks with P > 0.7"),
):
    drawn = axis.imshow(image, origin="lower", cmap="magma", vmin=-0.04, vmax=0.12)
    axis.set(title=title, xlabel="x [pixels]")
for cluster in clusters:
    place = [float(c) / 0.29 + (SIDE - 1) / 2 for c in (cluster.x, cluster.y)]
    axes[0].plot(*place, "c+", markersize=14)
axes[1].errorbar(
    found.x, found.y, found.y_std, found.x_std, "o", mfc="none", color="cyan", markersize=12
)
axes[0].set_ylabel("y [pixels]")
fig.colorbar(drawn, ax=axes, label=r"$\kappa$")

# %% [markdown]
# For DS9 and other tools, circles in ICRS:

# %%
regions = Path(tempfile.mkdtemp()) / "peaks.reg"
write_regions(regions, found, radius_arcmin=1.0)
print(regions.read_text())

# %% [markdown]
# ## The mass of a cluster
#
# Two ways. From the samples: the mean convergence in an aperture less that of a ring, times the
# critical surface density, is a lower limit of the projected mass that does not depend on the unknown
# mean of the map. From the shear: an NFW fit by Hamiltonian Monte Carlo. The error of the fit is that of
# the shape noise and the prior; other haloes near the line of sight are not in it, and this sky has a
# massive one at 12 arcmin, which is why the fit may miss the mass put in by more than its error.

# %%
west, north = (np.array(PLACES[0]) / field.pixel_arcmin + (SIDE - 1) / 2).tolist()
place = np.argmin(np.hypot(found.x - west, found.y - north))
low, middle, high = masses[:, place] / 1e14
print(f"aperture mass within 2': {middle:.2f} (+{high - middle:.2f} -{middle - low:.2f}) 1e14 Msun")

data = halo_data_of_map(
    shear, Z_LENS, sky_redshifts(), centre=PLACES[0], inner_arcmin=0.3, outer_arcmin=6.0
)
settings = FitSettings(60, 60, 2) if FAST else FitSettings(300, 500, 2)
fit = fit_halo(key_fit, data, settings=settings)
low, middle, high = 10 ** fit.quantiles("log10_mass") / 1e14
print(
    f"NFW fit: M200c = {middle:.1f} (+{high - middle:.1f} -{middle - low:.1f}) 1e14 Msun; "
    f"put in: 6.0; R-hat {fit.rhat['log10_mass']:.3f}"
)

# %% [markdown]
# ## The significance of a peak
#
# The height of the filtered map at the cluster, in units of the background's scatter. The filter is
# linear, so the mean map has the mean of the samples' heights there, and no error; the samples have
# the error.

# %%
filtered = np.asarray(aperture_mass(np.asarray(result.samples), scale))
of_mean = np.asarray(aperture_mass(np.asarray(result.convergence), scale))
of_truth = np.asarray(aperture_mass(np.asarray(truth), scale))
at = (slice(None), round(float(found.y[place])), round(float(found.x[place])))
fig, axis = plt.subplots(figsize=(6, 3.4))
axis.hist(filtered[at] / found.background, 12, alpha=0.6, label="samples")
axis.axvline(of_truth[at[1:]] / found.background, color="k", label="truth")
axis.axvline(of_mean[at[1:]] / found.background, color="C3", ls="--", label="mean map")
axis.set(xlabel="height of the peak / background", ylabel="samples")
axis.legend()
# %% [markdown]
# ## The power spectrum
#
# The spectrum of the mean map is far too low, since the mean is smooth. The samples have the power of
# a sky, and their scatter is its error.

# %%
edges = np.geomspace(600, 36_000, 15)
ell, power, _ = map_power(truth, field, edges)
samples = np.stack([map_power(sample, field, edges)[1] for sample in result.samples])
mean = map_power(result.convergence, field, edges)[1]
fig, axis = plt.subplots(figsize=(6, 3.8))
scaled = ell**2 / (2 * np.pi)
axis.loglog(ell, scaled * power, "k", label="truth")
axis.errorbar(
    ell, scaled * samples.mean(0), scaled * samples.std(0), fmt="o", ms=4, label="samples"
)
axis.loglog(ell, scaled * mean, "--", color="C3", label="mean map")
axis.set(xlabel=r"multipole $\ell$", ylabel=r"$\ell^2 C_\ell / 2\pi$")
axis.legend()
