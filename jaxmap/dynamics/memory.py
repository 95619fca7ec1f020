"""Whether the training of an estimator fits into memory, asked before it starts."""

from __future__ import annotations

from jaxmap.dynamics.images import NUM_PIXELS
from jaxmap.machine import check_memory

GALAXIES = 140
"""Of a synthetic cluster, in the mean of masses that are spread evenly."""

_BESIDE = 300 * 2**20
_PER_GALAXY = {"m_sigma": 200, "cnn": 200, "sdm": 700}
"""Bytes: a catalogue and what it is cut from; distances to 32 landmarks at a time."""
_COPIES = {"cnn": 4, "sdm": 10}
"""Images are made, scaled, divided and moved to the device; of divergences there are kernels and
bases of three folds."""


def training_memory(
    model: str, num_clusters: int, num_galaxies: int, num_landmarks: int = 300
) -> int:
    """Bytes that a training takes, in round numbers.

    Args:
        model: as ``jaxmap dynamics train`` names it.
        num_clusters: that it is trained on.
        num_galaxies: in them.
        num_landmarks: of ``sdm1d`` and ``sdm2d``.
    """
    kind = model.removesuffix("1d").removesuffix("2d")
    pixels = NUM_PIXELS * (NUM_PIXELS if model.endswith("2d") else 1)
    each = {"m_sigma": 0, "cnn": 4 * pixels, "sdm": 8 * min(num_landmarks, num_clusters)}[kind]
    needed = _BESIDE + _PER_GALAXY[kind] * num_galaxies
    return needed + _COPIES.get(kind, 0) * each * num_clusters


def check_training_memory(
    model: str, num_clusters: int, num_galaxies: int, num_landmarks: int, remedy: str
) -> None:
    """Refuse a training that needs more memory than there is.

    Args:
        model, num_clusters, num_galaxies, num_landmarks: as of `training_memory`.
        remedy: what makes it smaller.

    Raises:
        ValueError: if it does.
    """
    fewer = ", or compare with fewer landmarks (--num-landmarks)" if "sdm" in model else ""
    check_memory(
        training_memory(model, num_clusters, num_galaxies, num_landmarks),
        f"to train {model} on {num_clusters:,} clusters of {num_galaxies:,} galaxies",
        f"{remedy}{fewer}",
    )
