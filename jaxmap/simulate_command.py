"""What ``jaxmap simulate`` does: check, simulate into a folder, and say so in plain words."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxmap.commands import cosmology_of
from jaxmap.grid import Grid
from jaxmap.outputs import origin
from jaxmap.production.folder import INDEX
from jaxmap.production.maps import produce_maps
from jaxmap.production.numbers import Produced
from jaxmap.production.surveys import produce_surveys
from jaxmap.production.wide import produce_wide_survey, region_of
from jaxmap.progress import progress_bar
from jaxmap.redshifts import RedshiftDistribution, read_redshift_distribution
from jaxmap.simulate_survey import FIELD, survey_and_field, wide_survey
from jaxmap.simulation.baryons import BARYONS
from jaxmap.simulation.expected import light_cone_power
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.recipe import MapRecipe, map_recipe


def run_maps(options: argparse.Namespace) -> int:
    """``jaxmap simulate maps``: convergence maps in HDF5."""
    numbers, out = _numbers(options, "maps"), Path(options.out)
    recipe = _recipe(options, Grid(options.size, options.pixel_arcmin), _redshifts(options))
    with _completed_later(out):
        made = produce_maps(
            recipe,
            out,
            numbers,
            resume=options.resume,
            made_by=origin(options, None),
            progress=_bar_of(options, "map"),
        )
    if not options.quiet:
        megabytes = 4 * recipe.grid.num_pixels * len(numbers) / 1e6
        print(f"{_describe(numbers, 'maps', recipe.grid)}, {megabytes:,.1f} MB in {out}/.")
        print(_describe_work(made))
        print(f"To read them: jaxmap.reading.maps.source.open_maps({str(out)!r})")
    return 0


def run_survey(options: argparse.Namespace) -> int:
    """``jaxmap simulate survey``: catalogue, true convergence and shear of mock fields."""
    if options.area is not None:
        return _run_wide(options)
    numbers, out = _numbers(options, "fields"), Path(options.out)
    survey, grid = survey_and_field(options)
    if isinstance(survey, MockSurvey):
        recipe = _recipe(options, grid, survey.redshifts)
        survey = replace(survey, redshifts=recipe.redshifts)
    else:
        recipe = _recipe(options, grid, _redshifts(options))
    with _completed_later(out):
        made = produce_surveys(
            recipe,
            survey,
            out,
            numbers,
            resume=options.resume,
            made_by=origin(options, None),
            progress=_bar_of(options, "field"),
        )
    if not options.quiet:
        print(
            f"{_describe(numbers, 'fields', grid)}, around {survey.expected_number(grid):,.0f} "
            f"galaxies in each before masks, in {out}/."
        )
        print(_describe_work(made))
        catalog = out / f"field-{numbers.start:08d}" / "catalog.fits"
        print(f"To map one: jaxmap map {catalog} --pixel-arcmin {grid.pixel_arcmin:g}")
    return 0


def _run_wide(options: argparse.Namespace) -> int:
    """``jaxmap simulate survey --area``: the catalogue of a survey on the curved sky."""
    out, survey = Path(options.out), wide_survey(options)
    centre = options.centre or (survey.grid or FIELD).centre_deg or (0.0, 0.0)
    spectrum = light_cone_power(0.0, survey.redshifts, cosmology_of(options))
    with _completed_later(out):
        made = produce_wide_survey(
            replace(survey, grid=None),
            spectrum,
            region_of(options.area, centre),
            out,
            lmax=options.lmax,
            seed=options.seed,
            resume=options.resume,
            made_by=origin(options, None),
            progress=lambda bands, total: _bar_of(options, "band")(
                iter(bands), total, total - len(list(bands))
            ),
        )
    if not options.quiet:
        number = survey.density_arcmin2 * options.area * 3600
        print(
            f"About {number:,.0f} galaxies on {options.area:g} square degrees in {out}/; Gaussian, "
            f"l up to {options.lmax}."
        )
        print(_describe_work(made))
        print(f"To map them: jaxmap survey plan --catalog {out} --out RUN")
    return 0


def _recipe(
    options: argparse.Namespace, grid: Grid, redshifts: RedshiftDistribution | None
) -> MapRecipe:
    return map_recipe(
        grid,
        options.kind,
        sky_shape=options.sky,
        redshifts=redshifts,
        cosmology=cosmology_of(options),
        baryons=BARYONS[options.baryons],
        lognormal_shift=options.lognormal_shift,
        seed=options.seed,
    )


def _redshifts(options: argparse.Namespace) -> RedshiftDistribution | None:
    return read_redshift_distribution(options.nz) if options.nz else None


def _numbers(options: argparse.Namespace, product: str) -> range:
    if not options.num:
        given = "missing" if options.num is None else options.num
        raise ValueError(f"--num is {given}; expected the number of {product}, at least 1")
    if options.first + options.num > 2**32:
        raise ValueError(
            f"the last of the {product} would have the number {options.first + options.num - 1}; "
            f"expected at most {2**32 - 1}: take another --seed"
        )
    return range(options.first, options.first + options.num)


@contextmanager
def _completed_later(out: Path) -> Iterator[None]:
    """Says what an interrupted production leaves."""
    try:
        yield
    except KeyboardInterrupt:
        if not (out / INDEX).exists():
            raise
        raise KeyboardInterrupt(
            f"interrupted; what {out}/ holds is whole, and --resume completes it"
        ) from None


def _describe(numbers: range, product: str, grid: Grid) -> str:
    (ny, nx), pixel = grid.shape, grid.pixel_arcmin
    what = f"{len(numbers):,} {product} ({numbers.start} to {numbers.stop - 1})"
    if len(numbers) == 1:
        what = f"1 {product.removesuffix('s')} (number {numbers.start})"
    return (
        f"{what} of {nx} x {ny} pixels of {pixel:g} arcmin, {nx * pixel / 60:.3g} x "
        f"{ny * pixel / 60:.3g} degrees"
    )


def _describe_work(made: Produced) -> str:
    if made.num_made == 0:
        return "All of them were there."
    text = f"Made in {made.seconds:.1f} s, {made.seconds / made.num_made:.3g} s each"
    if made.num_there:
        text = f"{made.num_there:,} were there, {made.num_made:,} were m{text[1:]}"
    return f"{text}."


def _bar_of(options: argparse.Namespace, unit: str) -> Any:
    def of(items: Iterator[Any], total: int, there: int) -> Iterable[Any]:
        what = f"simulated {unit}s"
        return progress_bar(items, what, unit, options.quiet, total=total, initial=there)

    return of
