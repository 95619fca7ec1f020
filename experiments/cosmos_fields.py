"""Simulated fields behind the middle of the COSMOS mask, with its noise."""

from __future__ import annotations

import argparse

from common import real_data

from jaxmap.benchmark import read_case
from jaxmap.calibration import MockFields
from jaxmap.calibration.mocks import middle_of_survey
from jaxmap.demo import sky_redshifts
from jaxmap.simulation.baryons import TNG_BARYONS
from jaxmap.simulation.recipe import map_recipe
from jaxmap.simulation.streaming import build_simulator


def cosmos_fields(options: argparse.Namespace, side: int) -> MockFields:
    """Skies that training never drew, of the light cone, sources and baryons of the shipped prior.

    Args:
        options: where the real data lie, and the seed of the skies.
        side: pixels of the fields, which are periodic.
    """
    case = read_case(real_data(options) / "ktng" / "table1.npz")
    survey = middle_of_survey(case.shear, (side, side))
    recipe = map_recipe(
        survey.grid,
        "light-cone",
        sky_shape=survey.grid.shape,
        redshifts=sky_redshifts(),
        baryons=TNG_BARYONS,
        seed=options.seed,
    )
    return MockFields(build_simulator(recipe), survey)
