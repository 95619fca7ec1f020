"""Training and validation maps that share no simulation."""

from __future__ import annotations

import hashlib

import numpy as np

from jaxmap.reading.maps.source import MapSource


def split_by_realisation(
    source: MapSource, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Set whole realisations aside, so that no validation map has a relative among the others.

    Each realisation has a place in an order drawn by hashing its name with the seed, and the first
    of them are set aside. The split is therefore the same on every machine and after moving the
    maps, and nearly the same after adding some.

    Args:
        source: the maps.
        fraction: of the realisations to set aside for validation, between 0 and 1; at least one is
            set aside and at least one left.
        seed: another seed, another split.

    Returns:
        Indices of the training maps and of the validation maps, each in increasing order.

    Raises:
        ValueError: if the fraction is out of range or there is only one realisation.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r}; expected a number between 0 and 1")
    names = [source.realisation(index) for index in range(len(source))]
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    if len(order) < 2:
        raise ValueError(
            f"all {len(names)} maps belong to realisation {order[0]!r}; add maps of another one, "
            'or tell them apart by realisation=..., such as realisation=r"run\\d+"'
        )
    num_aside = min(max(round(fraction * len(order)), 1), len(order) - 1)
    aside = np.isin(names, order[:num_aside])
    return np.flatnonzero(~aside), np.flatnonzero(aside)
