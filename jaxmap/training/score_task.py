"""Training of the published prior on convergence maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax

from jaxmap.grid import Grid
from jaxmap.hybrid_prior import HybridPrior
from jaxmap.networks.score_unet import initialise_score
from jaxmap.prior import GaussianPrior
from jaxmap.spectra import PowerSpectrum, mode_variance
from jaxmap.training.layouts import Fields, Layout
from jaxmap.training.loop import Task
from jaxmap.training.score_matching import score_matching_task
from jaxmap.training.settings import Training


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WholeMaps:
    """Maps of one size, as examples."""

    fields: Fields
    side: int = field(metadata={"static": True})

    def draw(self, key: jax.Array) -> jax.Array:
        """One map, shape ``(side, side)``."""
        return self.fields.draw(key, self.side)


def fresh_hybrid_prior(settings: Training, spectrum: PowerSpectrum) -> HybridPrior:
    """An untrained hybrid prior: exactly the Gaussian one, on the grid of the training maps."""
    side = _layout(settings).side
    variance = mode_variance(spectrum, Grid((side, side), settings.source.pixel_arcmin))
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    params = initialise_score(settings.score_network, key)
    return HybridPrior(GaussianPrior(variance), params, settings.score_network)


def score_task(
    settings: Training, training: Fields, validation: Fields, spectrum: PowerSpectrum
) -> Task:
    """Training of a `HybridPrior` by residual denoising score matching.

    Args:
        settings: of the training.
        training: maps to train on.
        validation: other maps.
        spectrum: of the maps, for the Gaussian part.

    Raises:
        ValueError: unless the settings name one layout, of whole maps.

    References:
        Remy et al., Sect. 5.1 and 5.2, Eq. 24.
    """
    layout = _layout(settings)
    prior = fresh_hybrid_prior(settings, spectrum)
    return score_matching_task(
        jax.random.key(settings.seed),
        prior,
        prior.gaussian,
        WholeMaps(training, layout.side),
        WholeMaps(validation, layout.side),
        batch=layout.batch,
        matching=settings.score,
        schedule=settings.schedule,
        validation_batches=settings.validation_batches,
    )


def _layout(settings: Training) -> Layout:
    if len(settings.layouts) != 1 or settings.layouts[0].window:
        raise ValueError(
            f"a score is trained on whole maps of one size, but there are {len(settings.layouts)} "
            f"layouts, with windows of {[layout.window for layout in settings.layouts]} pixels; "
            "give one [[layouts]], without window"
        )
    return settings.layouts[0]
