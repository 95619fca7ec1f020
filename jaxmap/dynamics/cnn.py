"""CNN1D and CNN2D: masses from images of phase space, by an ensemble of small networks.

References:
    Ho et al. (2019), ApJ 887, 25. Theirs is one network without an error; the ensemble and its
    errors are ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.digests import digest_of
from jaxmap.dynamics.domain import Domain, domain_of, without_spread
from jaxmap.dynamics.error_model import ErrorModel, fit_errors, require_enough
from jaxmap.dynamics.estimate import Flag, MassEstimate, flagged
from jaxmap.dynamics.images import BANDWIDTH, images_of
from jaxmap.dynamics.members import ClusterMembers, require_masses, select
from jaxmap.dynamics.samples import mass_folds
from jaxmap.networks.optimiser import Schedule
from jaxmap.networks.phase_space import (
    EpochState,
    Learning,
    PhaseSpaceCNN,
    apply,
    epoch,
    initialise,
    start,
)
from jaxmap.training.loop import Progress, Task, train

BATCH = 128
"""Images that are estimated at a time."""


class Preset(NamedTuple):
    """A network, its training, and its input.

    Attributes:
        network: for images.
        profile_network: for profiles.
        learning: settings.
        num_epochs: of the training.
        bandwidth: of the images' kernels.
        scaled: multiply images by their number of pixels, so that inputs are about 1.
        targets: what the lowest and highest mass of the training become.
        tilted: kernels with the full covariance.
    """

    network: PhaseSpaceCNN
    profile_network: PhaseSpaceCNN
    learning: Learning = Learning()
    num_epochs: int = 20
    bandwidth: float = BANDWIDTH
    scaled: bool = False
    targets: tuple[float, float] = (0.0, 1.0)
    tilted: bool = False


_WIDE, _NARROW = (24, 10), (10, 5)
PAPER = Preset(PhaseSpaceCNN(), PhaseSpaceCNN())
"""As published."""
DEFAULT = PAPER._replace(scaled=True)
"""The published network with inputs of about 1, which trains faster."""
V1 = Preset(PhaseSpaceCNN(), PhaseSpaceCNN(_NARROW, pool=2), Learning(batch=50), tilted=True)
"""The public code of the first preprint."""
POST_REVIEW = Preset(
    PhaseSpaceCNN(_NARROW, pool=1),
    PhaseSpaceCNN(_NARROW, pool=1),
    Learning(batch=50),
    targets=(-1.0, 1.0),
    tilted=True,
)
"""The public code of 2019, after the review."""
HEAD = Preset(
    PhaseSpaceCNN(_WIDE, pool=1, dropout=0.0),
    PhaseSpaceCNN(_WIDE, pool=1, dropout=0.0),
    Learning(batch=50, max_norm=None, l2=1e-4),
    targets=(-1.0, 1.0),
    tilted=True,
)
"""The public code of 2021 and later."""
PRESETS = {"default": DEFAULT, "paper": PAPER, "v1": V1, "post-review": POST_REVIEW, "head": HEAD}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PhaseSpaceEnsemble:
    """Trained networks; made by `fit_cnn` or read from a file.

    Args:
        params: of every network.
        errors: measured on held-out clusters.
        preset: network and input.
        domain: what it was trained on.
        with_radius: CNN2D; otherwise CNN1D.
    """

    params: tuple[Any, ...]
    errors: ErrorModel
    preset: Preset = field(metadata={"static": True})
    domain: Domain = field(metadata={"static": True})
    with_radius: bool = field(metadata={"static": True})

    def __call__(self, key: jax.Array, members: ClusterMembers) -> MassEstimate:
        """Mean of the networks' masses, with the error measured on held-out clusters.

        Clusters of fewer than two galaxies, or with all at one velocity, are flagged.
        """
        del key
        name = "CNN2D" if self.with_radius else "CNN1D"
        self.domain.check(members, name)
        few, flat = members.richness < 2, without_spread(members, self.with_radius)
        good = ~few & ~flat
        each = np.full((len(self.params), len(members)), self.domain.low)
        images = cluster_images(select(members, good), self.preset, self.domain, self.with_radius)
        each[:, good] = masses_from_images(self.params, self.preset, self.domain, images)
        mass, spread = each.mean(axis=0), each.std(axis=0)
        flag = np.where(few, Flag.TOO_FEW, np.where(flat, Flag.NO_SPREAD, Flag.GOOD))
        flag = flag | self.domain.flags(mass, members)
        return flagged(mass, self.errors(mass, spread), flag, name)


def cluster_images(
    members: ClusterMembers, preset: Preset, domain: Domain, with_radius: bool
) -> np.ndarray:
    """Images as the networks take them, shape ``(num, 48, 48)`` or ``(num, 48, 1)``."""
    if domain.aperture_mpc_h is None or domain.velocity_cut_km_s is None:
        raise ValueError(
            "images need clusters of a known cylinder; apply one with cut_cylinder (--aperture, "
            "--velocity-cut)"
        )
    images = images_of(
        members,
        with_radius,
        domain.aperture_mpc_h,
        domain.velocity_cut_km_s,
        preset.bandwidth,
        tilted=preset.tilted,
    )
    return images * images[0].size if preset.scaled and len(images) else images


def masses_from_images(
    params: tuple[Any, ...], preset: Preset, domain: Domain, images: np.ndarray
) -> np.ndarray:
    """log10 masses of every network, shape ``(networks, num)``."""
    network = preset.network if images.shape[2] > 1 else preset.profile_network
    low, high = preset.targets
    found = np.empty((len(params), len(images)))
    for first in range(0, len(images), BATCH):
        block = images[first : first + BATCH]
        filled = np.zeros((BATCH, *images.shape[1:]), images.dtype)
        filled[: len(block)] = block
        for row, one in zip(found, params, strict=True):
            output = np.asarray(apply(network, one, filled), float)[: len(block)]
            share = (output - low) / (high - low)
            row[first : first + len(block)] = domain.low + share * (domain.high - domain.low)
    return found


def train_network(
    key: jax.Array,
    images: np.ndarray,
    log10_mass: np.ndarray,
    preset: Preset,
    domain: Domain,
    *,
    folder: Path | None = None,
    validation: Callable[[Any], dict[str, Any]] = lambda params: {},
    progress: Progress = lambda steps: steps,
) -> Any:
    """Train one network; each step of the shared training loop is an epoch.

    Args:
        key: of the first weights, the order of images, and dropout.
        images: of the training clusters.
        log10_mass: theirs.
        preset: network and settings.
        domain: whose masses set the scale of the output.
        folder: for checkpoint and log, so that a stopped training goes on; a temporary one if None.
            That of other images or masses is refused.
        validation: figures of parameters for the log.
        progress: wraps the epochs.

    Returns:
        The trained parameters.

    Raises:
        ValueError: for fewer clusters than half a batch.
    """
    if 2 * len(images) < preset.learning.batch:
        raise ValueError(
            f"{len(images)} clusters came to train on; expected {preset.learning.batch // 2} or "
            "more"
        )
    network = preset.network if images.shape[2] > 1 else preset.profile_network
    low, high = preset.targets
    share = (log10_mass - domain.low) / (domain.high - domain.low)
    arrays = (
        jnp.asarray(images, jnp.float32),
        jnp.asarray(low + share * (high - low), jnp.float32),
    )
    key_first, key_epochs = jax.random.split(key)
    params = initialise(network, key_first, (images.shape[1], images.shape[2]))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)

    def advance(step: int, state: EpochState) -> tuple[EpochState, jax.Array]:
        return epoch(network, preset.learning, jax.random.fold_in(key_epochs, step), state, *arrays)

    task = Task(
        params,
        advance,
        lambda losses: {"loss": float(np.mean(losses))},
        validation,
        lambda first, _: start(first, preset.learning),
    )
    schedule = Schedule(preset.num_epochs, preset.learning.learning_rate)
    settings = {"schedule": asdict(schedule), "preset": described(preset), "num": len(images)}
    record = {
        "settings": {**settings, "key": np.asarray(jax.random.key_data(key)).tolist()},
        "data": {"images and masses": digest_of(images, log10_mass, domain)},
    }
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if folder is None else folder
        return train(
            task, schedule, place, record, checkpoint_every=5, validate_every=5, progress=progress
        )


def fit_cnn(
    key: jax.Array,
    members: ClusterMembers,
    *,
    with_radius: bool = True,
    preset: Preset = DEFAULT,
    num_networks: int = 3,
    held_out: float = 0.1,
    folder: Path | None = None,
    progress: Progress = lambda steps: steps,
) -> PhaseSpaceEnsemble:
    """Train an ensemble, and measure its errors on halos that are held out.

    Args:
        key: of the training.
        members: clusters of known mass in a cylinder, spread evenly over log10 mass if the result
            shall have no preference; those that cannot be used are left out.
        with_radius: CNN2D; False for CNN1D.
        preset: network, training and input.
        num_networks: of the ensemble.
        held_out: share of the halos that errors are measured on, over all masses.
        folder: for checkpoints, one folder for each network.
        progress: wraps the epochs of a network.

    Raises:
        ValueError: for settings out of range, or too few clusters.
    """
    if num_networks < 1 or not 0 < held_out < 1:
        raise ValueError(
            f"num_networks is {num_networks} and held_out {held_out}; expected 1 or more networks, "
            "and a share between 0 and 1"
        )
    members = select(members, (members.richness > 1) & ~without_spread(members, with_radius))
    masses, domain = require_masses(members), domain_of(members)
    aside = mass_folds(members, max(2, round(1 / held_out))) == 0
    require_enough(int(aside.sum()))
    images = cluster_images(members, preset, domain, with_radius)

    def validation(params: Any) -> dict[str, Any]:
        error = masses_from_images((params,), preset, domain, images[aside])[0] - masses[aside]
        return {"rms": float(np.sqrt(np.mean(error**2)))}

    params = tuple(
        train_network(
            jax.random.fold_in(key, i),
            images[~aside],
            masses[~aside],
            preset,
            domain,
            folder=None if folder is None else folder / f"network{i}",
            validation=validation,
            progress=progress,
        )
        for i in range(num_networks)
    )
    each = masses_from_images(params, preset, domain, images[aside])
    errors = fit_errors(each.mean(axis=0), masses[aside], each.std(axis=0))
    return PhaseSpaceEnsemble(params, errors, preset, domain, with_radius)


def described(preset: Preset) -> dict[str, Any]:
    """A preset as plain values, for files; `preset_from` reads them."""

    def network(one: PhaseSpaceCNN) -> dict[str, Any]:
        names = ("filters", "widths", "pool", "dropout", "dense")
        return {name: getattr(one, name) for name in names}

    return {
        **preset._asdict(),
        "network": network(preset.network),
        "profile_network": network(preset.profile_network),
        "learning": preset.learning._asdict(),
    }


def preset_from(values: dict[str, Any]) -> Preset:
    """The preset of `described`, after JSON."""

    def network(one: dict[str, Any]) -> PhaseSpaceCNN:
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in one.items()}
        return PhaseSpaceCNN(**sizes)

    return Preset(
        **{
            **values,
            "network": network(values["network"]),
            "profile_network": network(values["profile_network"]),
            "learning": Learning(**values["learning"]),
            "targets": tuple(values["targets"]),
        }
    )
