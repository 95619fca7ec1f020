# %% [markdown]
# # Estimators side by side
#
# Every estimator is called the same way, `(key, ShearMap) -> MassMap`, so that comparing them is a
# loop. Here: smoothed Kaiser-Squires, the same with inpainted gaps, the Wiener filter, sparse
# starlets (GLIMPSE), a Gaussian plus a sparse component (MCALens), and the learned posterior mean.

# %%
import os
import time
from dataclasses import replace

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmap
from jaxmap.metrics import accuracy_observed
from jaxmap.simulation.fields import lognormal_field
from jaxmap.simulation.presets import COSMOS_LIKE
from jaxmap.simulation.survey import observe_map

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
SIDE, MARGIN = (64, 16) if FAST else (128, 32)
key_sky, key_galaxies, key_map = jax.random.split(jax.random.key(3), 3)
spectrum = jaxmap.convergence_power()
field = jaxmap.Grid((SIDE, SIDE), 0.29, centre_deg=(150.1, 2.2))
sky = field.padded(MARGIN)
truth = lognormal_field(key_sky, spectrum, sky)
survey = replace(COSMOS_LIKE, border_arcmin=0)
shear = observe_map(key_galaxies, truth, sky, survey, field)
truth = truth[MARGIN:-MARGIN, MARGIN:-MARGIN]

# %%
denoiser, domain, _ = jaxmap.read_denoiser()
estimators = {
    "Kaiser-Squires, 1'": jaxmap.KaiserSquires(smoothing_arcmin=1.0),
    "KS+, 1'": jaxmap.KSPlus(smoothing_arcmin=1.0),
    "Wiener": jaxmap.Wiener(spectrum, num_samples=0),
    "GLIMPSE, 5 sigma": jaxmap.Sparse(threshold=5.0, with_b_mode=False),
    "MCALens, 4 sigma": jaxmap.MCALens(spectrum, threshold=4.0),
    "learned mean": jaxmap.DeepMass(denoiser, domain),
}
results, seconds = {}, {}
for name, estimator in estimators.items():
    start = time.perf_counter()
    results[name] = jax.block_until_ready(estimator(key_map, shear))
    seconds[name] = time.perf_counter() - start

# %%
fig, axes = plt.subplots(2, 4, figsize=(13, 6.4), sharex=True, sharey=True)
axes = axes.ravel()
style = {"origin": "lower", "cmap": "magma", "vmin": -0.05, "vmax": 0.08}
axes[0].imshow(truth, **style)
axes[0].set_title("truth")
for axis, (name, result) in zip(axes[1:], results.items(), strict=False):
    # Shear does not tell the mean of a map, and positive ones have some: all are shown without.
    axis.imshow(result.convergence - result.convergence[result.mask].mean(), **style)
    accuracy = accuracy_observed(result.convergence, truth, result.mask)
    axis.set_title(f"{name}\nrmse {accuracy.rmse:.4f}, r {accuracy.r:.3f}", fontsize=10)
axes[-1].imshow(np.where(shear.mask, 0.0, 1.0), origin="lower", cmap="Greys")
axes[-1].set_title("masked pixels")
fig.tight_layout()

# %% [markdown]
# One field of one kind of sky ranks nothing: the differences between the better methods are smaller
# than what the noise of a single field does to each. `experiments/estimators.py` compares them on 50
# fields, pair by pair ([results](../explanation/how_good)). Times, with compilation:

# %%
for name, value in seconds.items():
    print(f"{name:20s} {value:5.1f} s")

# %% [markdown]
# ## Which one?
#
# - **A picture, now:** Kaiser-Squires. It has no prior, and its error bar is the shape noise alone.
# - **A mean and exact errors for any survey:** Wiener. Samples have the right variance, but too few
#   peaks.
# - **Peaks and tails:** samples under the learned prior (`SampledPosterior`), where its training
#   fits the survey, or [one trained for it](03_train_a_prior).
# - **Comparison with the literature:** KS+, GLIMPSE, MCALens.
#
# Errors for methods that have none: `jaxmap.Resampled` gives the spread under the survey's noise, and
# [conformal intervals](06_calibrate) cover the truth.
