"""Skies about made-up clusters, for tests."""

import jax.numpy as jnp
import numpy as np

from jaxmap.simulation.cluster_fields import ClusterSky


def flat_sky(convergence=0.0, shear=0.0, side=84, pixel_arcmin=0.4):
    ones = jnp.ones((side, side))
    return ClusterSky(convergence * ones, shear * (ones + 0j), pixel_arcmin)


def blobs(places, heights, side=130):
    y, x = np.indices((side, side))
    return sum(
        height * np.exp(-((x - c) ** 2 + (y - r) ** 2) / 8)
        for (r, c), height in zip(places, heights, strict=True)
    )
