"""Settings of trainings for one kind of data: which survey, how a GAN learns, which clusters."""

from __future__ import annotations

from dataclasses import dataclass

from jaxmap.networks.hong import LEAST_SIDE
from jaxmap.simulation.presets import PRESETS
from jaxmap.survey_denoiser import FIRST_MAPS
from jaxmap.training.tables import require

LOSSES = ("mse", "focal")


@dataclass(frozen=True)
class Survey:
    """The one survey whose mask and noise all training examples have.

    Args:
        mask_from: shear map (.fits, of `jaxmap simulate survey` or `write_shear_map`) or benchmark
            case (.npz) to take them from.
        catalog: galaxies to bin as `jaxmap map CATALOG` does, instead.
        preset: known survey to imitate, where neither is given: one draw of its galaxies and holes.
        size: rows and columns of the field; the survey's own if none.
        margin: masked pixels around the field; the default of the estimators if none.
    """

    mask_from: str | None = None
    catalog: str | None = None
    preset: str = "cosmos"
    size: tuple[int, int] | None = None
    margin: int | None = None

    def __post_init__(self) -> None:
        one = self.mask_from is None or self.catalog is None
        require(self, "catalog", one, "none beside mask_from")
        require(self, "preset", self.preset in PRESETS, " or ".join(PRESETS))
        require(self, "size", self.size is None or min(self.size) >= 8, "8 pixels or more")
        require(self, "margin", self.margin is None or self.margin >= 0, "0 pixels or more")


@dataclass(frozen=True)
class FirstMap:
    """What the published DeepMass is given.

    Args:
        first: ``wiener``, or ``ks``.
    """

    first: str = "wiener"

    def __post_init__(self) -> None:
        require(self, "first", self.first in FIRST_MAPS, " or ".join(FIRST_MAPS))


@dataclass(frozen=True)
class Adversarial:
    r"""How a conditional GAN learns; see `jaxmap.training.gan_losses` for the formulas.

    Args:
        latent: white images that the generator is given.
        critic: channels of the critic's convolutions.
        critic_steps: of the critic, before each of the generator.
        penalty: weight of the gradient penalty.
        drift: weight of the critic's squared value.
        adversarial: :math:`\beta_\mathrm{adv}`, weight of the critic's value for the generator.
        samples: N, of the same data, in the regulariser.
        reward: :math:`\beta_\mathrm{SD}` at the start, in units of the value that is right for
            Gaussian posteriors; 0 for no reward, ever.
        tune_every: steps between updates of the reward.
        tune_rate: :math:`\mu_\mathrm{SD}`; 0 to keep the reward as it is.
        tune_samples: P, of which the mean is taken in validation.

    References:
        Bendel, Ahmad & Schniter (2023), NeurIPS, arXiv:2210.13389.
    """

    latent: int = 2
    critic: tuple[int, ...] = (16, 32, 64, 64)
    critic_steps: int = 1
    penalty: float = 10.0
    drift: float = 1e-3
    adversarial: float = 1e-2
    samples: int = 2
    reward: float = 1.0
    tune_every: int = 50
    tune_rate: float = 0.05
    tune_samples: int = 8

    def __post_init__(self) -> None:
        for name in ("latent", "critic_steps", "tune_every"):
            require(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("samples", "tune_samples"):
            require(self, name, getattr(self, name) >= 2, "2 or more")
        for name in ("penalty", "drift", "adversarial", "reward", "tune_rate"):
            require(self, name, getattr(self, name) >= 0, "0 or more")
        sizes = len(self.critic) > 0 and min(self.critic) > 0
        require(self, "critic", sizes, "one size above 0 or more, one for each convolution")


@dataclass(frozen=True)
class Clusters:
    """Fields about clusters, and how a network of Hong et al. learns from them.

    Args:
        per_map: clusters of a map, at most.
        least: convergence of their peaks, smoothed by a pixel of the map, at least.
        num_galaxies: in a field of 32 arcmin.
        shape_noise: of unlensed galaxies, per component.
        faintest_error: of measurement of the faintest galaxies.
        loss: ``mse``, or ``focal``, which weighs pixels by 1 + convergence over its maximum.
        side: pixels of the network's input; published 386.
    """

    per_map: int = 12
    least: float = 0.05
    num_galaxies: int = 25_000
    shape_noise: float = 0.24
    faintest_error: float = 0.4
    loss: str = "focal"
    side: int = 386

    def __post_init__(self) -> None:
        require(self, "per_map", self.per_map >= 1, "1 or more")
        require(self, "num_galaxies", self.num_galaxies >= 1, "1 or more")
        for name in ("least", "shape_noise", "faintest_error"):
            require(self, name, getattr(self, name) > 0, "a number above 0")
        require(self, "loss", self.loss in LOSSES, " or ".join(LOSSES))
        require(self, "side", LEAST_SIDE <= self.side <= 500, f"{LEAST_SIDE} to 500 pixels")
