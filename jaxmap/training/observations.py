"""Training examples of one survey: other skies, behind the same mask and noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmap.benchmark import read_survey_map
from jaxmap.binning import bin_shear
from jaxmap.calibration.mocks import middle_of_survey, shrunk_to
from jaxmap.catalog import ShearMap
from jaxmap.estimators.finite_field import inner, pad_shear
from jaxmap.footprint import grid_of_catalog
from jaxmap.grid import Grid
from jaxmap.likelihood import draw_noise
from jaxmap.operators import shear_from_convergence
from jaxmap.reading.readers import read_shear
from jaxmap.simulation.pixels import draw_depth
from jaxmap.simulation.presets import PRESETS
from jaxmap.trained_survey import TrainedSurvey
from jaxmap.training.devices import over_devices
from jaxmap.training.layouts import Fields
from jaxmap.training.settings import Training
from jaxmap.training.survey_settings import Survey

_SAME_SCALE = 0.02


class Observation(NamedTuple):
    """One sky and the data of it.

    Attributes:
        truth: convergence of the field, shape ``(ny, nx)``.
        data: shear of the field, with the margin around it.
    """

    truth: jax.Array
    data: ShearMap


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SurveyObservations:
    """Fields as one survey sees them.

    The shear comes from a whole map, periodic and larger than the field, in whose middle the field
    lies: mass outside acts, as on the sky.

    Args:
        fields: where maps come from.
        survey: mask and noise, without margin.
        side: of the whole maps.
        margin: masked pixels around the field, as the estimator will have them.
    """

    fields: Fields
    survey: ShearMap
    side: int = field(metadata={"static": True})
    margin: int = field(metadata={"static": True})

    def draw(self, key: jax.Array) -> Observation:
        """One of them."""
        key_map, key_noise = jax.random.split(key)
        whole = Grid((self.side, self.side), self.survey.grid.pixel_arcmin)
        sky = self.fields.draw(key_map, self.side)
        noise = draw_noise(key_noise, self.survey.weight)
        signal = self._middle(shear_from_convergence(sky, whole))
        shear = jnp.where(self.survey.mask, signal + noise, 0)
        data = pad_shear(replace(self.survey, shear=shear), self.margin)[0]
        return Observation(self._middle(sky), data)

    def _middle(self, sky: jax.Array) -> jax.Array:
        ny, nx = self.survey.grid.shape
        top, left = (self.side - ny) // 2, (self.side - nx) // 2
        return sky[top : top + ny, left : left + nx]

    def field_of(self, maps: jax.Array) -> jax.Array:
        """Maps on the grid of the data, shape ``(..., ny, nx)``, without the margin."""
        return inner(maps, self.margin)

    @property
    def trained_survey(self) -> TrainedSurvey:
        """What is to be known of the survey later on."""
        weight = np.asarray(self.survey.weight, np.float32)
        return TrainedSurvey(weight, self.survey.grid.pixel_arcmin, self.margin)


@jax.jit
def draw_observations(keys: jax.Array, observations: SurveyObservations) -> Observation:
    """An observation for every key; a program of its own, for the simulator takes long to compile.

    On several devices each makes its part, and keeps it.
    """

    def of_part(keys: jax.Array, observations: SurveyObservations) -> tuple[tuple[()], Observation]:
        return (), jax.vmap(observations.draw)(keys)

    drawn: Observation = over_devices(of_part, len(keys))(keys, observations)[1]
    return drawn


def survey_observations(settings: Training, fields: Fields) -> SurveyObservations:
    """The examples that settings ask for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: unless the settings name one layout without window, whose side leaves room for
            the survey; for a survey of other pixels, or one that is masked everywhere.
    """
    if len(settings.layouts) != 1 or settings.layouts[0].window:
        raise ValueError(
            f"a network for one survey is trained on one size of maps, but there are "
            f"{len(settings.layouts)} layouts, with windows of "
            f"{[layout.window for layout in settings.layouts]} pixels; give one [[layouts]] with "
            "side and batch alone: the survey is the window"
        )
    survey = _read_survey(settings.survey, settings.source.pixel_arcmin, settings.seed)
    side, rim = settings.layouts[0].side, fields.rim
    least = max(survey.grid.shape) + 2 * rim
    if side < least:
        raise ValueError(
            f"the survey has {survey.grid.shape} pixels and maps a side of {side}; give "
            f"[[layouts]] a side of {least} or more, or the survey a smaller size"
        )
    margin = pad_shear(survey, settings.survey.margin)[1]
    return SurveyObservations(fields, survey, side, margin)


def _read_survey(settings: Survey, pixel_arcmin: float, seed: int) -> ShearMap:
    """Mask and noise, on a grid that is not on the sky, as arrays of the session's precision."""
    if settings.catalog is not None:
        catalog = read_shear(settings.catalog)
        given = bin_shear(catalog, grid_of_catalog(catalog, pixel_arcmin))
    elif settings.mask_from is not None:
        given = read_survey_map(settings.mask_from)
    else:
        given = _draw_preset(settings, pixel_arcmin, seed)
    stated = given.grid.pixel_arcmin
    if abs(stated / pixel_arcmin - 1) > _SAME_SCALE:
        raise ValueError(
            f"the survey has pixels of {stated:.4g} arcmin, but pixel_arcmin is {pixel_arcmin:g}; "
            f"set pixel_arcmin = {stated:.4g} in [maps], or give a survey of that scale"
        )
    part = middle_of_survey(given, settings.size or given.grid.shape)
    weight = jnp.asarray(np.asarray(part.weight), float)
    grid = Grid(part.grid.shape, pixel_arcmin)
    return ShearMap(jnp.zeros(grid.shape, complex), weight, grid)


def _draw_preset(settings: Survey, pixel_arcmin: float, seed: int) -> ShearMap:
    preset = PRESETS[settings.preset]
    assert preset.grid is not None
    ny, nx = settings.size or (
        round(n * preset.grid.pixel_arcmin / pixel_arcmin) for n in preset.grid.shape
    )
    grid = Grid((ny, nx), pixel_arcmin)
    key = jax.random.fold_in(jax.random.key(seed), 5)
    return draw_depth(key, shrunk_to(preset, grid), grid)
