# %% [markdown]
# # Train a prior for your survey
#
# The shipped prior knows COSMOS-like sources in pixels of 0.29 arcmin. For another survey, train one:
# a denoiser that is told the noise of every pixel, so that one training serves any mask and depth. It
# learns from halo-model maps made on the fly, or from your own maps (FITS, HDF5, npy, kappaTNG,
# MassiveNuS), as here.
#
# The training below is of toy size, seconds long; it shows the way, not the quality. The shipped prior
# took three hours on one or two CPU cores.

# %%
import json
import os
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmap
from jaxmap.cli import main as command_line
from jaxmap.metrics import accuracy_observed
from jaxmap.operators import shear_from_convergence
from jaxmap.simulation.fields import lognormal_field

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
STEPS = 20 if FAST else 600
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# **Maps to learn from.** Sixty lognormal maps of a shallow survey's sky, one `.npy` file each. With
# simulations of your own, files of one light cone share a part of their name, so that training and
# validation are kept apart (`realisation` in the configuration).

# %%
SIDE = 32 if FAST else 64
grid = jaxmap.Grid((SIDE, SIDE), 1.0)
spectrum = jaxmap.convergence_power()
draw = jax.jit(lambda key: lognormal_field(key, spectrum, grid, 0.02))
(folder / "maps").mkdir()
for number in range(60):
    np.save(folder / "maps" / f"sky_{number:03d}.npy", np.asarray(draw(jax.random.key(number))))

# %% [markdown]
# **The configuration,** in TOML. `experiments/training/cosmos.toml` is that of the first training of
# the shipped prior; without `[maps] maps` the halo light cone makes maps for your n(z).

# %%
(folder / "survey.toml").write_text(
    f"""
validation_batches = 4
validate_every = {STEPS // 5}
checkpoint_every = {STEPS // 5}
[schedule]
num_steps = {STEPS}
learning_rate = 5e-3
decay_steps = {STEPS // 3}
[network]
channels = {[8] if FAST else [8, 16]}
[maps]
maps = "{folder}/maps"
pixel_arcmin = 1.0
rim_arcmin = 0
[noise]
galaxies = [15, 60]
shape_noise = [0.25, 0.35]
[[layouts]]
side = {SIDE}
batch = 4
"""
)

# %% [markdown]
# **Train.** `jaxmap train survey.toml --out training` in a shell; a run that is stopped goes on with
# the same command.

# %%
assert command_line(["train", str(folder / "survey.toml"), "--out", str(folder / "out"), "-q"]) == 0
rows = [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
rows = [row for row in rows if row.get("validation")]
fig, axis = plt.subplots(figsize=(5.5, 3.2))
kinds = [kind for kind, ratio in rows[-1]["validation"]["ratio"].items() if ratio is not None]
for kind in kinds:
    ratios = [row["validation"]["ratio"][kind] for row in rows]
    axis.plot([row["step"] for row in rows], ratios, "o-", label=kind)
axis.axhline(1, color="k", lw=0.8)
axis.set(xlabel="step", ylabel="square error / Wiener filter's")
axis.legend()
# %% [markdown]
# **Use it.** The weights are a prior for every estimator that takes one. A new sky, noisier on one
# side and with a hole:

# %%
denoiser, domain, header = jaxmap.read_denoiser(folder / "out" / "denoiser.npz")
truth = draw(jax.random.key(1000))
y, x = np.mgrid[:SIDE, :SIDE]
noise_std = np.where(x < SIDE / 2, 0.045, 0.07)
noise_std[(x - 0.6 * SIDE) ** 2 + (y - 0.4 * SIDE) ** 2 < 30] = 0
noise = noise_std * np.random.default_rng(0).normal(size=(2, *grid.shape))
data = shear_from_convergence(truth, grid) + noise[0] + 1j * noise[1]
shear = jaxmap.shear_map(data, grid, noise_std=noise_std)

posterior = jaxmap.SampledPosterior(
    denoiser, num_samples=4 if FAST else 16, domain=domain, margin=0
)
result = posterior(jax.random.key(5), shear)
wiener = jaxmap.Wiener(spectrum, num_samples=0, margin=0)(jax.random.key(5), shear)
for name, one in (("Wiener filter", wiener), ("mean of samples", result)):
    accuracy = accuracy_observed(one.convergence, truth, one.mask)
    print(f"{name}: rms error {accuracy.rmse:.4f}, correlation {accuracy.r:.3f}")
jaxmap.plot_mass_map(result, "a prior of one's own", truth=truth)

# %% [markdown]
# **Judge it** before using it on real data: [calibrate](06_calibrate), or
# `jaxmap calibrate --weights training/denoiser.npz`. What more steps, maps and channels buy is measured
# by `experiments/scaling.py`.
