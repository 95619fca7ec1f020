"""Cluster masses from velocities against plain numpy, scipy and scikit-learn on a CPU.

Run from the repository root: ``python experiments/benchmarks/dynamics.py`` (some minutes).

Divergences, images and networks are timed in turn with the plain code, and compared with it. The
whole jobs of ten folds follow, with the published number of training projections: targets are
minutes for SDM1D (published: 6 hours on 28 cores) and ten minutes for each network (published: ten
minutes). What the plain code would need for them is its time for a pair or an epoch, times their
number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import plain_network
from common import arguments, interleaved, show, spread, table, write_json
from scipy.spatial import cKDTree
from sklearn.neighbors import KernelDensity

sys.path.append(str(Path(__file__).parents[1]))
from dynamics_methods import NUM_FOLDS, Catalogues, cnn, sdm

from jaxmap.dynamics.cnn import DEFAULT, cluster_images, masses_from_images
from jaxmap.dynamics.divergence import FLOOR, Bags, divergences
from jaxmap.dynamics.domain import domain_of
from jaxmap.dynamics.images import images_of
from jaxmap.dynamics.members import ClusterMembers, select
from jaxmap.dynamics.model_files import SHIPPED, shipped_model
from jaxmap.dynamics.sdm import bags_of, feature_scale, features
from jaxmap.networks.phase_space import apply, epoch, start

PUBLISHED = {"image": {1: 73.0, 2: 410.0}, "network": {1: 44.0, 2: 44.0}}
"""Microseconds a cluster on 28 cores (Ho et al. 2019, sections 3.3 and 6)."""
APERTURE, CUT = 1.6, 2200.0


class Sizes(NamedTuple):
    """How much is done: projections, clusters, pairs of clusters, landmarks, repeats."""

    train: int = 11_600
    test: int = 12_000
    clusters: int = 500
    bags: int = 60
    landmarks: int = 300
    rounds: int = 3
    epochs: int = 20


QUICK = Sizes(300, 300, 30, 8, 20, 1, 1)


def main() -> None:
    args = arguments("dynamics", __doc__ or "")
    sizes = QUICK if args.quick else Sizes()
    catalogues = Catalogues(args.seed, sizes.train, sizes.test)
    few = select(catalogues.test.contaminated, np.arange(sizes.clusters))
    rows: list[dict[str, Any]] = []
    plain: dict[str, float] = {}
    for dimension in (1, 2):
        wide = dimension == 2
        work = {
            "divergence": divergence_pair(select(few, np.arange(sizes.bags)), wide),
            "image": image_pair(few, wide),
            "network": network_pair(few, wide),
            "epoch": epoch_pair(catalogues.train.contaminated, wide),
        }
        for what, (ours, theirs, num) in work.items():
            if what == "epoch":  # whose order and dropout are random
                difference = gradient_difference(few, wide)
            else:
                difference = float(np.abs(ours() - theirs()).max())
            seconds = interleaved({"jaxmap": ours, "plain": theirs}, sizes.rounds)
            plain[f"{what}{dimension}"] = float(np.median(seconds["plain"])) / num
            rows.append(
                {
                    "what": f"{what} {dimension}D",
                    "jaxmap_microseconds": spread(1e6 * seconds["jaxmap"] / num),
                    "plain_microseconds": spread(1e6 * seconds["plain"] / num),
                    "times_faster": spread(seconds["plain"] / seconds["jaxmap"]),
                    "largest_difference": difference,
                    "published_microseconds": PUBLISHED.get(what, {}).get(dimension),
                }
            )
    jobs = whole_jobs(catalogues, sizes, plain)
    estimates = {
        name: _seconds(partial(shipped_model(name), jax.random.key(0), few)) / len(few)
        for name in SHIPPED
    }
    head = ("per pair, cluster or image", "jaxmap [µs]", "plain [µs]", "times faster", "difference")
    print(table(head, [
        (row["what"], show(row["jaxmap_microseconds"]), show(row["plain_microseconds"]),
         show(row["times_faster"], 1, 1), f"{row['largest_difference']:.1e}") for row in rows
    ]))  # fmt: skip
    for name, job in jobs.items():
        print(f"{name}, {NUM_FOLDS} folds: {job['seconds']:.0f} s; plain code "
              f"{job['plain_seconds_extrapolated']:.0f} s, extrapolated")  # fmt: skip
    for name, seconds in estimates.items():
        print(f"{name}, shipped, from galaxies to masses: {1e3 * seconds:.3f} ms a cluster")
    write_json(args, rows, jobs=jobs, estimate_seconds=estimates, sizes=sizes._asdict())


Pair = tuple[Callable[[], np.ndarray], Callable[[], np.ndarray], int]


def divergence_pair(members: ClusterMembers, wide: bool) -> Pair:
    """All pairs of clusters, by us and by scipy's k-d trees."""
    bags = features(members, feature_scale(members, wide), wide)
    return lambda: divergences(bags, bags), lambda: by_trees(bags), len(members) ** 2


def by_trees(bags: Bags, k: int = 3) -> np.ndarray:
    """The estimator of Wang et al. (2009), pair after pair."""
    samples = [bags_of(bags, np.array([i])).points for i in range(len(bags.sizes))]
    trees = [cKDTree(one) for one in samples]
    found = np.empty((len(samples), len(samples)))
    for i, one in enumerate(samples):
        rho = np.maximum(trees[i].query(one, [k + 1])[0][:, 0], FLOOR)
        for j, tree in enumerate(trees):
            ratio = np.log(np.maximum(tree.query(one, [k])[0][:, 0], FLOOR) / rho)
            bias = np.log(len(samples[j]) / (len(one) - 1))
            found[i, j] = max(one.shape[1] * ratio.mean() + bias, 0)
    return found


def image_pair(members: ClusterMembers, wide: bool) -> Pair:
    """Images of all clusters, by us and by scikit-learn's kernel density."""
    ours = partial(images_of, members, wide, APERTURE, CUT)
    return ours, lambda: by_scikit_learn(members, wide), len(members)


def by_scikit_learn(members: ClusterMembers, wide: bool, num: int = 48) -> np.ndarray:
    """Gaussian kernels of 0.25 standard deviations at the centres of pixels."""
    v = (np.arange(num) + 0.5) * 2 * CUT / num - CUT
    r = (np.arange(num) + 0.5) * APERTURE / num
    grid = (
        np.stack(np.meshgrid(v, r, indexing="ij"), axis=-1).reshape(-1, 2) if wide else v[:, None]
    )
    found = []
    for i in range(len(members)):
        inside = slice(members.offsets[i], members.offsets[i + 1])
        points = np.stack([members.velocity_km_s[inside], members.radius_mpc_h[inside]], axis=1)
        points = points[:, : grid.shape[1]]
        scale = points.std(axis=0, ddof=1)
        machine = KernelDensity(bandwidth=0.25).fit(points / scale)
        density = np.exp(machine.score_samples(grid / scale))
        found.append((density / density.sum()).reshape(num, -1))
    return np.stack(found)


def network_pair(members: ClusterMembers, wide: bool) -> Pair:
    """Masses by one shipped network from ready images, by us and by numpy."""
    model = shipped_model("cnn2d" if wide else "cnn1d")
    images = cluster_images(members, model.preset, model.domain, wide)
    weights = plain_network.as_numpy(model.params[0])
    low, high = model.domain.low, model.domain.high
    return (
        lambda: masses_from_images(model.params[:1], model.preset, model.domain, images)[0],
        lambda: low + (high - low) * plain_network.forward(weights, images)[0],
        len(members),
    )


def epoch_pair(members: ClusterMembers, wide: bool) -> Pair:
    """An epoch of training, by us and by numpy."""
    domain = domain_of(members)
    images = cluster_images(members, DEFAULT, domain, wide)
    targets = (members.log10_mass - domain.low) / (domain.high - domain.low)
    network = DEFAULT.network if wide else DEFAULT.profile_network
    params = shipped_model("cnn2d" if wide else "cnn1d").params[0]
    state = start(params, DEFAULT.learning)
    ready = jax.device_put((images, targets.astype(np.float32)))

    def ours() -> np.ndarray:
        _, loss = epoch(network, DEFAULT.learning, jax.random.key(0), state, *ready)
        return np.asarray(loss)

    def theirs() -> np.ndarray:
        return plain_network.epoch(
            plain_network.as_numpy(params), images, targets, DEFAULT.learning, network.dropout
        )

    return ours, theirs, len(images)


def gradient_difference(members: ClusterMembers, wide: bool) -> float:
    """Largest difference of the gradients without dropout, as a share of the largest slope."""
    model = shipped_model("cnn2d" if wide else "cnn1d")
    images = cluster_images(members, model.preset, model.domain, wide)[:20]
    network = model.preset.network if wide else model.preset.profile_network
    ours = jax.grad(lambda params: jnp.sum(apply(network, params, images) ** 2))(model.params[0])
    weights = plain_network.as_numpy(model.params[0])
    output, memory = plain_network.forward(weights, images)
    size = weights["Dense_0"][0].shape[0]
    theirs = plain_network.backward(weights, memory, 2 * output, np.ones((len(images), size)))
    worst = 0.0
    for name, pair in theirs.items():
        for one, two in zip((ours[name]["kernel"], ours[name]["bias"]), pair, strict=True):
            worst = max(worst, float(np.abs(one - two).max() / np.abs(two).max()))
    return worst


def whole_jobs(
    catalogues: Catalogues, sizes: Sizes, plain: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Ten folds of halos from galaxies to masses, and what the plain code would need."""
    num_train, num_test = len(catalogues.train.contaminated), len(catalogues.test.contaminated)
    found = sdm(catalogues, False, sizes.landmarks)["seconds"]
    pairs = 2 * sizes.landmarks * (num_train + num_test)
    every = num_train * (num_train + 2 * num_test)
    jobs: dict[str, dict[str, Any]] = {
        "sdm1d": {
            "seconds": sum(found.values()),
            "parts": found,
            "plain_seconds_extrapolated": pairs * plain["divergence1"],
            "plain_seconds_extrapolated_all_pairs": every * plain["divergence1"],
        }
    }
    preset = DEFAULT._replace(num_epochs=sizes.epochs)
    for dimension in (1, 2):
        found = cnn(catalogues, dimension == 2, preset)["seconds"]
        epochs = NUM_FOLDS * sizes.epochs * 0.9 * num_train * plain[f"epoch{dimension}"]
        images = (num_train + num_test) * plain[f"image{dimension}"]
        jobs[f"cnn{dimension}d"] = {
            "seconds": sum(found.values()),
            "parts": found,
            "plain_seconds_extrapolated": images + epochs,
        }
    return jobs


def _seconds(work: Callable[[], Any]) -> float:
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
