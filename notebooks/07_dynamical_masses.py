# %% [markdown]
# # Dynamical masses of clusters
#
# The other way to weigh a cluster: from the velocities of its galaxies. Every estimator is called
# `(key, ClusterMembers) -> MassEstimate`. Masses are $M_{200c}$ in Msun/h.
#
# The clusters here are synthetic, from a halo model, seen through a cylinder that holds interlopers
# too. They are not the MDPL2 clusters of Ho et al. (2019).

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

from jaxmap.dynamics.members import select
from jaxmap.dynamics.mock_recipe import flat_masses
from jaxmap.dynamics.mocks import mock_clusters
from jaxmap.dynamics.model_files import shipped_model

FAST = bool(os.environ.get("JAXMAP_FAST"))  # smaller, for tests
NUM = 60 if FAST else 400
key_masses, key_mocks, key = jax.random.split(jax.random.key(0), 3)
clusters = mock_clusters(key_mocks, flat_masses(key_masses, NUM, 14.0, 15.0)).contaminated
print(
    f"{len(clusters)} clusters of {clusters.richness.min()} to {clusters.richness.max()} galaxies"
)

# %% [markdown]
# ## One cluster in phase space

# %%
richest = int(np.argmax(clusters.richness))
one = select(clusters, [richest])
fig, axis = plt.subplots(figsize=(5.5, 3.6))
for member, label in ((True, "members"), (False, "interlopers")):
    chosen = one.member == member
    axis.plot(one.radius_mpc_h[chosen], one.velocity_km_s[chosen], "o", ms=3, label=label)
axis.set(
    xlabel="projected radius [Mpc/h]",
    ylabel="velocity [km/s]",
    title=f"log10 M = {one.log10_mass[0]:.2f}",
)
axis.legend()
# %% [markdown]
# ## Four estimators
#
# The M-sigma relation takes the spread of the velocities for the mass; interlopers spoil it. Support
# distribution machines and networks look at the whole distribution.

# %%
names = {
    "m_sigma_contaminated": "M-sigma",
    "sdm2d": "SDM, velocity and radius",
    "cnn1d": "network, velocity",
    "cnn2d": "network, velocity and radius",
}
truth = clusters.log10_mass
fig, axes = plt.subplots(1, 4, figsize=(14, 3.8), sharex=True, sharey=True)
for axis, (name, label) in zip(axes, names.items(), strict=True):
    estimate = shipped_model(name)(key, clusters)
    usable = estimate.usable
    residual = (estimate.log10_mass - truth)[usable]
    scatter = (np.quantile(residual, 0.84) - np.quantile(residual, 0.16)) / 2
    claimed = float(np.sqrt(np.mean(estimate.std[usable] ** 2)))
    axis.errorbar(
        truth[usable], estimate.log10_mass[usable], estimate.std[usable], fmt=".", ms=3, alpha=0.3
    )
    axis.plot([14, 15], [14, 15], "k")
    axis.set_title(f"{label}\nscatter {scatter:.2f}, claimed {claimed:.2f} dex", fontsize=10)
    axis.set_xlabel("true log10 mass")
axes[0].set_ylabel("estimated log10 mass")
fig.tight_layout()

# %% [markdown]
# The errors come from held-out clusters like those of the training. A cluster that the method cannot
# know (too few galaxies, a mass beyond the training) has a flag and, where nothing can be said, no
# number: `estimate.flag`, `estimate.usable`.
#
# Your own clusters, one row a galaxy (cluster, radius_mpc_h, velocity_km_s), are read by
# `jaxmap.dynamics.member_files.read_members`, or from the command line:
# `jaxmap dynamics estimate clusters.fits`.
