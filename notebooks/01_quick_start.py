# %% [markdown]
# # Quick start
#
# From galaxy shapes to a mass map with posterior samples, in five steps. The sky here is simulated,
# so that the map can be compared with the truth; with your own catalogue, only the first step
# differs ([next notebook](02_your_own_catalogue)).

# %%
import os
from dataclasses import replace

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmap
from jaxmap.demo import sky_power, sky_redshifts
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.build import build_light_cone
from jaxmap.simulation.lightcone import halo_light_cone
from jaxmap.simulation.presets import COSMOS_LIKE
from jaxmap.simulation.survey import observe

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
SIDE, MARGIN = (64, 16) if FAST else (128, 32)
key_sky, key_galaxies, key_map = jax.random.split(jax.random.key(2), 3)

# %% [markdown]
# **1. A sky and a survey.** A convergence map from the halo-model light cone, with sources as deep as
# those of COSMOS, and some 72 galaxies per square arcminute behind it, with holes around bright
# stars. A field 37 arcmin across is surveyed; the simulated sky is wider, since mass outside a field
# shears galaxies inside.

# %%
spectrum = sky_power()
field = jaxmap.Grid((SIDE, SIDE), 0.29, centre_deg=(150.1, 2.2))
sky = field.padded(MARGIN)
cone = build_light_cone(sky, sky_redshifts(), baryons=TNG_BARYONS)
truth = jax.jit(halo_light_cone, static_argnums=2)(key_sky, cone, sky)
survey = replace(COSMOS_LIKE, border_arcmin=0)
catalog = observe(key_galaxies, truth, sky, survey, field)
truth = truth[MARGIN:-MARGIN, MARGIN:-MARGIN]
print(f"{len(catalog):,} galaxies")

# %% [markdown]
# **2. Galaxies to pixels.** The weighted mean ellipticity of each pixel, and its inverse variance,
# which is zero where nothing was observed.

# %%
shear = jaxmap.bin_shear(catalog, field)
print(f"{float(shear.mask.mean()):.0%} of the pixels hold galaxies")

# %% [markdown]
# **3. The posterior under a Gaussian prior.** Exact for any mask and noise: the Wiener filter and
# samples around it.

# %%
wiener = jaxmap.Wiener(spectrum, num_samples=30)(key_map, shear)

# %% [markdown]
# **4. The posterior under the shipped, learned prior,** which knows haloes. It was trained for
# COSMOS-like sources in pixels of 0.29 arcmin.

# %%
denoiser, domain, _ = jaxmap.read_denoiser()
learned = jaxmap.SampledPosterior(denoiser, num_samples=4 if FAST else 16, domain=domain)(
    key_map, shear
)
jaxmap.plot_mass_map(learned, "learned prior", truth=truth)

# %% [markdown]
# The mean is smooth because it averages what the data cannot tell; each sample is a whole sky that
# agrees with the data. The B mode should show noise only.
#
# **5. How good?** The error against the truth, and the error that the samples claim.

# %%
from jaxmap.metrics import accuracy_observed

for name, result in (("Gaussian prior", wiener), ("learned prior", learned)):
    accuracy = accuracy_observed(result.convergence, truth, result.mask)
    claimed = float(np.sqrt(np.mean(np.asarray(result.std)[np.asarray(result.mask)] ** 2)))
    print(
        f"{name}: rms error {accuracy.rmse:.4f} (claimed {claimed:.4f}), "
        f"correlation with the truth {accuracy.r:.3f}"
    )

# %% [markdown]
# One field says little; on [100 simulated fields](../explanation/how_good) the learned prior's error is
# below the Wiener filter's, and what its samples claim is what they err. Where the
# Gaussian prior really fails is the shape of the samples:

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for axis, (name, result) in zip(
    axes, (("Gaussian prior", wiener), ("learned prior", learned)), strict=True
):
    bins = np.linspace(-0.08, 0.16, 49)
    samples = np.asarray(result.samples).ravel()
    axis.hist(
        np.asarray(truth).ravel(), bins, histtype="step", density=True, color="k", label="truth"
    )
    axis.hist(samples, bins, alpha=0.5, density=True, label="samples")
    axis.set(title=name, xlabel=r"convergence $\kappa$", yscale="log")
axes[0].set_ylabel("density of pixels")
axes[0].legend()
fig.tight_layout()

# %% [markdown]
# To keep a map: `jaxmap.write_mass_map("mass_map.fits", learned)` writes it as FITS with WCS, and
# `jaxmap.read_mass_map` reads it back. From the command line all of this is
# `jaxmap map galaxies.fits --method dlposterior --out map`.
