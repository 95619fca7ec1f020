"""Surveys to imitate, each with the source of its numbers.

Densities are of galaxies that count fully (effective densities where the source gives one, with
equal weights), per unmasked area. Pixels and size of the fields are a convenience: about five
galaxies in a pixel, some degrees across; no survey fixes them. Only COSMOS and KiDS have a masked
fraction of their own; the holes of the others are those of `SUBARU_STARS`.
"""

from __future__ import annotations

import math

from jaxmap.grid import Grid
from jaxmap.redshifts import cosmos_redshifts, redshift_distribution, smail_redshifts
from jaxmap.simulation.masks import Stars
from jaxmap.simulation.mock_survey import MockSurvey
from jaxmap.simulation.shapes import MeasurementError

SUBARU_STARS = Stars(density_arcmin2=1.5 / 20**2, radius_arcmin=(0.5, 2.0))
"""One or two holes of 0.5 to 2 arcmin in radius in every 20 x 20 arcmin.

References:
    Hong et al. (2021), ApJ 923, 266, Sect. 3.5 (Suprime-Cam fields of clusters).
"""

COSMOS_LIKE = MockSurvey(
    density_arcmin2=71.7,
    shape_noise=0.305,
    redshifts=cosmos_redshifts(),
    border_arcmin=13.7,
    stars=SUBARU_STARS,
    grid=Grid((360, 360), 0.29, (150.1, 2.2)),
)
"""The HST survey, on the pixels of the published mass map.

417 117 galaxies on the 69 191 pixels of 0.29 arcmin that hold any, and the scatter of their
ellipticities. Border and holes leave 53 % of the map, as there; the field is a square here.

References:
    Schrabback et al. (2010), A&A 516, A63 (catalogue and n(z)); Remy et al. (2023), A&A 672, A51,
    Sect. 6.1 and 6.3 (selection and map).
"""

EUCLID_LIKE = MockSurvey(
    density_arcmin2=30.0,
    shape_noise=0.26,
    redshifts=smail_redshifts(2.0, 1.5, 0.9 / math.sqrt(2)),
    stars=SUBARU_STARS,
    grid=Grid((512, 512), 0.4, (52.9, -28.1)),
)
"""The Euclid Wide Survey as forecasts assume it: median redshift 0.9.

References:
    Laureijs et al. (2011), arXiv:1110.3193 (density, median redshift); Euclid Collaboration:
    Blanchard et al. (2020), A&A 642, A191 (form of n(z)); Euclid Collaboration: Ajani et al.
    (2023), A&A 675, A120 (shape noise per component).
"""

LSST_LIKE = MockSurvey(
    density_arcmin2=27.0,
    shape_noise=0.26,
    redshifts=smail_redshifts(2.0, 0.68, 0.11),
    stars=SUBARU_STARS,
    grid=Grid((512, 512), 0.4, (53.1, -28.1)),
)
"""Ten years of the Rubin Observatory.

References:
    LSST Dark Energy Science Collaboration (2018), arXiv:1809.01669 (source sample of year 10).
"""

KIDS_LIKE = MockSurvey(
    density_arcmin2=6.17,
    shape_noise=0.265,
    # The mean redshift of the five tomographic bins, weighted by their densities, is 0.637.
    redshifts=smail_redshifts(2.0, 1.5, 0.637 / math.gamma(8 / 3)),
    # 777.4 of 1006 square degrees are left, all that is missing taken as holes around stars.
    stars=Stars(-math.log(777.4 / 1006) / (math.pi * 1.75), SUBARU_STARS.radius_arcmin),
    grid=Grid((256, 256), 0.9, (180.0, 0.0)),
)
"""KiDS-1000, all five tomographic bins. The form of n(z) is a stand-in, its mean is KiDS's.

References:
    Giblin et al. (2021), A&A 645, A105 (density, shape noise, areas); Hildebrandt et al. (2021),
    A&A 647, A124 (mean redshifts).
"""

HSC_LIKE = MockSurvey(
    density_arcmin2=21.8,
    # 0.40 as distortion, divided by twice the responsivity 1 - 0.40^2.
    shape_noise=0.24,
    # Densities 5.9, 5.9, 4.3 and 2.4 in bins of 0.3 from z = 0.3 to 1.5: a mean of 0.80.
    redshifts=smail_redshifts(2.0, 1.5, 0.80 / math.gamma(8 / 3)),
    stars=SUBARU_STARS,
    grid=Grid((512, 512), 0.5, (35.0, -4.5)),
)
"""The first year of HSC. The form of n(z) is a stand-in, its mean is that of the shear sample.

References:
    Mandelbaum et al. (2018), PASJ 70, S25 (weighted density); Mandelbaum et al. (2018), MNRAS 481,
    3170 (scatter of the distortion, about 0.40); Hamana et al. (2020), PASJ 72, 16 (densities of
    the redshift bins).
"""

CLUSTER_FIELD = MockSurvey(
    density_arcmin2=25_000 / 32**2,
    shape_noise=0.24,
    redshifts=redshift_distribution(1.5),
    measurement=MeasurementError(faintest=0.3, magnitudes=(21.5, 25.5, 27.5)),
    grid=Grid((80, 80), 0.4, (15.7, -49.3)),
)
"""A cluster seen by Subaru: 25 000 galaxies in 32 x 32 arcmin, all at redshift 1.5.

The source gives the magnitudes but not how the measurement error depends on them; the error of 0.3
at the faint end, and its slope, are a stand-in. It masks no stars but in one experiment, for which
`SUBARU_STARS` are.

References:
    Hong et al. (2021), ApJ 923, 266, Sect. 2.3.1.
"""

PRESETS: dict[str, MockSurvey] = {
    "cosmos": COSMOS_LIKE,
    "euclid": EUCLID_LIKE,
    "lsst": LSST_LIKE,
    "kids": KIDS_LIKE,
    "hsc": HSC_LIKE,
    "cluster": CLUSTER_FIELD,
}
