# %% [markdown]
# # Survey scale
#
# A survey larger than a tangent plane is cut into overlapping patches, each patch is mapped on its own,
# and the maps are blended on the sphere. The work is done on a laptop, or on as many machines as a
# dask cluster has. What needs memory is one patch, whatever the area.
#
# Needs the extra packages of `jaxmap[survey]`.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

from jaxmap.cli import main as command_line
from jaxmap.survey.healpix import healpix, outline_of, pixel_of, place_of
from jaxmap.survey.partial_maps import read_partial_map
from jaxmap.survey.plan import read_plan

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
AREA, DENSITY, LMAX, PIXEL, NSIDE = (4, 2, 900, 12, 256) if FAST else (100, 5, 2000, 6, 512)
folder = Path(tempfile.mkdtemp())
sky, run = folder / "sky", folder / "run"

# %% [markdown]
# **A survey,** simulated: one Gaussian convergence on the curved sky, and galaxies behind it in files
# of parts, as large catalogues come.

# %%
survey = f"simulate survey --area {AREA} --density {DENSITY} --shape-noise 0.26 --lmax {LMAX}"
assert command_line([*survey.split(), "--out", str(sky)]) == 0

# %% [markdown]
# **Plan.** The catalogue is read once, in passing, and stored by cells of the sky. The plan says what
# a run will do, and what it will take: one task is done to measure the time. All settings are in one
# TOML file (`jaxmap survey plan --help` lists them).

# %%
(folder / "survey.toml").write_text(
    f"""
catalog = "{sky}"
method = "wiener"
num_samples = {2 if FAST else 10}
keep_samples = true
patch_deg = {1.8 if FAST else 3.7}
pixel_arcmin = {PIXEL}
{"overlap_arcmin = 60" if FAST else ""}
"""
)
measure = "--no-measure" if FAST else "--measure"
plan = ["survey", "plan", str(folder / "survey.toml"), "--out", str(run), measure]
assert command_line(plan) == 0

# %% [markdown]
# **Run.** In a shell: `jaxmap survey run RUN --workers 2`, or `--scheduler tcp://host:8786` for the
# workers of a cluster. A run that is stopped, or whose workers die, is completed by the same command.

# %%
command = [sys.executable, "-m", "jaxmap", "survey", "run", str(run)]
print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
assert command_line(["survey", "status", str(run)]) == 0

# %% [markdown]
# **Merge.** One HEALPix file each of convergence, std, signal to noise and B mode, with explicit
# pixels; here a posterior sample too.

# %%
merge = ["survey", "merge", str(run), "--nside", str(NSIDE), "--samples", "1"]
assert command_line(merge) == 0
nside, pixels, kappa = read_partial_map(run / "maps" / "convergence.fits")
std = read_partial_map(run / "maps" / "std.fits")[2]
sample = read_partial_map(run / "maps" / "sample-0000.fits")[2]

# %% [markdown]
# **Against the truth.** The simulated galaxies know the convergence in front of them; its mean in each
# pixel is the true map. Squares are the cells in the middle of patches: they should not be seen.

# %%
total, number = np.zeros(len(pixels)), np.zeros(len(pixels))
for part in sorted(sky.glob("part-*.h5")):
    with h5py.File(part) as file:
        found = pixel_of(healpix(nside), file["ra"][:], file["dec"][:])
        at = np.searchsorted(pixels, found).clip(max=len(pixels) - 1)
        inside = pixels[at] == found
        np.add.at(total, at[inside], file["kappa"][:][inside])
        np.add.at(number, at[inside], 1)
seen = number > 0
truth = np.full(len(pixels), np.nan)
truth[seen] = total[seen] / number[seen]

ra, dec = place_of(healpix(nside), pixels)
tiling = read_plan(run).tiling
cells = [patch.number for patch in tiling.patches]
outlines = zip(*outline_of(healpix(tiling.nside, "ring"), cells), strict=True)
outlines = [np.column_stack([np.append(x, x[0]), np.append(y, y[0])]) for x, y in outlines]
fig, axes = plt.subplots(1, 3, figsize=(14, 4.6), sharex=True, sharey=True)
limit = 3 * np.nanstd(truth)
for axis, (name, values) in zip(
    axes, {"truth": truth, "mean": kappa, "one sample": sample}.items(), strict=True
):
    dots = axis.scatter(ra, dec, 3, values, cmap="RdBu_r", vmin=-limit, vmax=limit, marker="s")
    for outline in outlines:
        axis.plot(*outline.T, "k", lw=0.4)
    axis.set(title=name, xlabel="RA [deg]", aspect=1 / np.cos(np.radians(2)))
axes[0].set(ylabel="Dec [deg]", xlim=(ra.max(), ra.min()), ylim=(dec.min(), dec.max()))
fig.colorbar(dots, ax=axes, shrink=0.8, label=r"convergence $\kappa$")
error = (kappa - truth)[seen]
print(f"correlation of the map with the truth: {np.corrcoef(kappa[seen], truth[seen])[0, 1]:.2f}")
print(f"rms error {np.std(error):.4f}, claimed {np.sqrt(np.mean(std[seen] ** 2)):.4f}")

# %% [markdown]
# Do patches show where they meet? On 200 square degrees that was measured
# ([how to map a survey](../howto/surveys)). The files are read by healpy and healsparse too
# ([other tools](../howto/other_tools)), and `RUN/maps/patch-*.fits` holds every patch as
# `jaxmap map` writes it.
