# %% [markdown]
# # Calibrate: do the errors mean what they say?
#
# An error bar is right if the truth lies inside as often as it claims. That can be checked only where
# the truth is known: on simulated surveys with the mask and noise of yours. `calibrate` draws such
# surveys, maps each, and compares.

# %%
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmap
from jaxmap.calibration import calibrate, draw_report
from jaxmap.conformal import calibrate_intervals
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import gaussian_field, lognormal_field

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
NUM_FIELDS = 8 if FAST else 60

# %% [markdown]
# A survey of small fields: pixels of 1 arcmin, uneven noise, a hole. A function from a key to a true
# convergence and the shear observed of it is all that is needed; `jaxmap.calibration.MockFields` makes
# one from a halo-model light cone and the mask of a real survey.

# %%
grid = jaxmap.Grid((48, 48), 1.0)
spectrum = jaxmap.convergence_power()
y, x = np.mgrid[:48, :48]
noise_std = 0.05 * (1 + 0.5 * np.sin(x / 8))
noise_std[(x - 30) ** 2 + (y - 16) ** 2 < 36] = 0  # masked


def fields_of(simulate):
    """From a simulator ``(key, spectrum, grid) -> convergence`` to ``key -> (truth, shear)``."""

    @jax.jit
    def draw(key):
        key_sky, key_noise = jax.random.split(key)
        truth = simulate(key_sky, spectrum, grid)
        noise = noise_std * jax.random.normal(key_noise, (2, *grid.shape))
        return truth, shear_from_convergence(truth, grid) + jax.lax.complex(noise[0], noise[1])

    def fields(key):
        truth, shear = draw(key)
        return truth, jaxmap.shear_map(shear, grid, noise_std=noise_std)

    return fields


# %% [markdown]
# ## Samples of a right and of a wrong prior
#
# On Gaussian skies the Wiener posterior is exact. On lognormal skies of the same spectrum its
# variance is still right, but not its shape: peaks are lower than the real ones.

# %%
estimator = jaxmap.Wiener(spectrum, num_samples=19, margin=0)
reports = {
    name: calibrate(estimator, fields_of(simulate), NUM_FIELDS, spectrum=spectrum, seed=1)
    for name, simulate in (("Gaussian skies", gaussian_field), ("lognormal skies", lognormal_field))
}
for name, report in reports.items():
    print(f"{name}: {report['verdict']}")
draw_report(reports["lognormal skies"], "Gaussian prior on lognormal skies")

# %% [markdown]
# A report compares every figure with its target, allowing for the scatter of so many fields; `open`
# means outside, but not by more than chance would do.

# %% [markdown]
# ## Intervals for any method
#
# Kaiser-Squires has an error of the shape noise alone, which is too small. Conformal calibration
# learns from the simulated surveys how far its maps are off, and widens the intervals so that they
# cover, on average over such surveys, whatever the method.

# %%
lognormal = fields_of(lognormal_field)
ks = jaxmap.KaiserSquires(smoothing_arcmin=2.0, margin=0)
training = [lognormal(jax.random.key(100 + number)) for number in range(NUM_FIELDS)]
conformal = calibrate_intervals(jax.random.key(0), ks, training, level=0.68)


def coverage(result, low, high, truth):
    """Share of the observed pixels whose truth lies inside, the means of both maps set equal."""
    mask = result.mask
    shift = jnp.mean(result.convergence[mask]) - jnp.mean(truth[mask])
    inside = (low <= truth + shift) & (truth + shift <= high)
    return float(jnp.mean(inside[mask]))


shares = SimpleNamespace(noise=[], conformal=[])
for number in range(NUM_FIELDS):
    truth, shear = lognormal(jax.random.key(10_000 + number))
    result = ks(jax.random.key(0), shear)
    noise = (result.convergence - result.std, result.convergence + result.std)
    shares.noise.append(coverage(result, *noise, truth))
    widened = conformal(result)
    shares.conformal.append(coverage(result, widened.lower, widened.upper, truth))

fig, axis = plt.subplots(figsize=(6, 3.2))
axis.hist(shares.noise, 12, alpha=0.6, label="shape noise alone")
axis.hist(shares.conformal, 12, alpha=0.6, label="conformal")
axis.axvline(0.68, color="k", ls=":")
axis.set(xlabel="share of pixels whose truth is inside (to be 0.68)", ylabel="new fields")
axis.legend()
print(f"mean coverage: {np.mean(shares.noise):.3f} and {np.mean(shares.conformal):.3f}")

# %% [markdown]
# From the command line, with the binned shear of your survey (`jaxmap.mapfiles.write_shear_map`):
#
# ```sh
# jaxmap calibrate --method ks --mask-from shear.fits --nz my_nz.csv --num 100 \
#     --conformal ks.npz --out scores
# jaxmap map galaxies.fits --method ks --pixel-arcmin 0.5 --conformal ks.npz --out map
# ```
#
# Pixels, noise and method must be those of the calibration.
