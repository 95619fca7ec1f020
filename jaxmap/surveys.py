"""What each survey calls its columns and how its shapes become shear estimates.

House frame: x = west, y = north; e1 > 0 is elongated east-west, e2 > 0 north-west to south-east.
Calibration in one line (every mean is weighted and over the whole catalogue)::

    g = [s - c] / [R (1 + <m>)],   s = e, or s = e / (2 R_d) for distortions

Per-galaxy responses and biases are far too noisy to divide by one at a time (a response near zero
would blow its galaxy up); only their means are meaningful. Calibrate one tomographic bin at a time
if the bins differ.

References:
    Huff & Mandelbaum (2017), arXiv:1702.02600 (metacalibration);
    Mandelbaum et al. (2018), PASJ 70, S25, appendix 3 (HSC).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

log = logging.getLogger(__name__)

REQUIRED = ("ra", "dec", "e1", "e2")
BIASES = ("m", "c1", "c2")
SHEARED = ("e1_1p", "e1_1m", "e2_2p", "e2_2m")
RESPONSES = ("response", "R11", "R22", "e_rms", *SHEARED)
ROLES = (*REQUIRED, "weight", "z", *BIASES, *RESPONSES)
"""Everything a column can stand for; the names used in ``columns={role: column}``."""


@dataclass(frozen=True)
class Survey:
    """Column names, sign conventions and calibration of one survey's shear catalogue.

    Args:
        name: short name, as used on the command line.
        columns: for every role (see `ROLES`) its column names, the preferred one first; compared
            without regard to case. The names for e1 and e2 go in pairs.
        signatures: sets of lower-case column names, any of which gives the survey away.
        flip_e1, flip_e2: whether the component changes sign to come to the house frame.
        distortion: shapes are (a^2 - b^2)/(a^2 + b^2), about twice the shear.
        ranked: take the first name found; otherwise two names for one role are an error.
        responsive: e1 columns that must be divided by a mean response.
        needs_m: whether a multiplicative bias must be there, in the file or as an argument.
        selection_response: added to the mean of R11 and R22 (set it by `dataclasses.replace`).
        shear_step: artificial shear between the ``_1p`` and ``_1m`` shapes.
        group: HDF5 group to take if there are several with positions.
        note: what the reader does not do, told when the survey is read.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]] = field(hash=False)
    signatures: tuple[Set[str], ...] = field(default=(), hash=False)
    flip_e1: bool = False
    flip_e2: bool = False
    distortion: bool = False
    ranked: bool = True
    responsive: tuple[str, ...] = ()
    needs_m: bool = False
    selection_response: float = 0.0
    shear_step: float = 0.02
    group: str | None = None
    note: str = ""


def _columns(**names: str) -> dict[str, tuple[str, ...]]:
    return {role: tuple(spaced.split()) for role, spaced in names.items()}


# fmt: off
GENERIC = Survey(
    name="generic",
    columns=_columns(
        ra="ra ra_deg raj2000 ra_j2000 alpha_j2000 alphawin_j2000 right_ascension",
        dec="dec dec_deg decj2000 dej2000 dec_j2000 delta_j2000 deltawin_j2000 declination",
        e1="e1 e_1 g1 g_1 gamma1 gamma_1 shear1 shear_1",
        e2="e2 e_2 g2 g_2 gamma2 gamma_2 shear2 shear_2",
        weight="weight weights w",
        z="z redshift z_b zb zphot z_phot photoz photo_z zbest z_best",
    ),
    ranked=False,
)
COSMOS = Survey(
    name="cosmos",
    columns=_columns(
        ra="ra", dec="dec", e1="e1iso_rot4_gr_snCal e1", e2="e2iso_rot4_gr_snCal e2",
        weight="nhweight_int weight", z="zphot z",
    ),
    signatures=({"e1iso_rot4_gr_sncal", "e2iso_rot4_gr_sncal"},),
    note="no rows are cut: keep z_problem == 0 yourself if the redshifts matter",
)
DES_Y3 = Survey(
    name="des_y3",
    columns=_columns(
        ra="ra", dec="dec", e1="e_1", e2="e_2", weight="weight", R11="R11", R22="R22",
    ),
    signatures=({"e_1", "e_2", "r11", "r22"},),
    responsive=("e_1",),
    group="catalog/unsheared",
    note="no rows are cut (see index/select); give m= of the tomographic bin, and the selection "
    "response if it is known",
)
KIDS = Survey(
    name="kids",
    columns=_columns(
        ra="ALPHA_J2000 RAJ2000", dec="DELTA_J2000 DECJ2000", e1="e1", e2="e2",
        weight="weight", z="Z_B",
    ),
    signatures=(
        {"alpha_j2000", "delta_j2000", "e1", "e2", "z_b"},
        {"raj2000", "decj2000", "e1", "e2", "z_b"},
        {"raj2000", "decj2000", "e1", "e2", "tomobin"},
    ),
    note="give m= (and c1=, c2=) of the tomographic bin",
)
HSC_Y1 = Survey(
    name="hsc_y1",
    columns=_columns(
        ra="ira ra", dec="idec dec", e1="ishape_hsm_regauss_e1", e2="ishape_hsm_regauss_e2",
        weight="ishape_hsm_regauss_derived_shape_weight",
        m="ishape_hsm_regauss_derived_shear_bias_m",
        c1="ishape_hsm_regauss_derived_shear_bias_c1",
        c2="ishape_hsm_regauss_derived_shear_bias_c2",
        e_rms="ishape_hsm_regauss_derived_rms_e", z="photoz_best",
    ),
    signatures=({"ishape_hsm_regauss_e1", "ishape_hsm_regauss_e2"},),
    flip_e2=True, distortion=True, needs_m=True,
    note="the selection bias is not applied",
)
HSC = Survey(
    name="hsc",
    columns=_columns(
        ra="i_ra ra", dec="i_dec dec", e1="i_hsmshaperegauss_e1", e2="i_hsmshaperegauss_e2",
        weight="i_hsmshaperegauss_derived_weight",
        m="i_hsmshaperegauss_derived_shear_bias_m",
        c1="i_hsmshaperegauss_derived_shear_bias_c1",
        c2="i_hsmshaperegauss_derived_shear_bias_c2",
        e_rms="i_hsmshaperegauss_derived_rms_e",
    ),
    signatures=({"i_hsmshaperegauss_e1", "i_hsmshaperegauss_e2"},),
    flip_e2=True, distortion=True, needs_m=True,
    note="no rows are cut (keep b_mode_mask == 1), and the selection bias is not applied",
)
EUCLID = Survey(
    name="euclid",
    columns=_columns(
        ra="SHE_LENSMC_UPDATED_RA SHE_LENSMC_RA RIGHT_ASCENSION",
        dec="SHE_LENSMC_UPDATED_DEC SHE_LENSMC_DEC DECLINATION",
        e1="SHE_LENSMC_G1 G1", e2="SHE_LENSMC_G2 G2",
        weight="SHE_LENSMC_WEIGHT WEIGHT", z="PHZ_MEDIAN",
    ),
    signatures=(
        {"she_lensmc_g1", "she_lensmc_g2"}, {"right_ascension", "declination", "g1", "g2"},
    ),
)
TXPIPE = Survey(
    name="txpipe",
    columns=_columns(
        ra="ra", dec="dec", e1="mcal_g1 g1", e2="mcal_g2 g2", weight="weight",
        m="m", c1="c1", c2="c2",
        e1_1p="mcal_g1_1p", e1_1m="mcal_g1_1m", e2_2p="mcal_g2_2p", e2_2m="mcal_g2_2m",
    ),
    signatures=({"mcal_g1", "mcal_g2"}, {"g1", "g2", "m", "c1", "c2", "weight"}),
    responsive=("mcal_g1",),
)
# fmt: on

SURVEYS: dict[str, Survey] = {
    survey.name: survey for survey in (COSMOS, DES_Y3, KIDS, HSC_Y1, HSC, EUCLID, TXPIPE, GENERIC)
}
"""The presets by the names the command line knows."""


def recognise_survey(names: Iterable[str]) -> Survey:
    """The survey whose distinctive columns are all there, or `GENERIC` if it is none or unclear."""
    lower = {name.lower() for name in names}
    fits = [s for s in SURVEYS.values() if any(sign <= lower for sign in s.signatures)]
    return fits[0] if len(fits) == 1 else GENERIC


def weighted_mean(values: ArrayLike, weight: np.ndarray) -> float:
    r"""Mean :math:`\langle v \rangle_w = \sum_i w_i v_i / \sum_i w_i`; a number is its own mean.

    Weights that are no use (NaN, negative, all zero) count as zero here: saying so is the business
    of `jaxmap.catalog.shear_catalog`.
    """
    usable = np.where(np.isfinite(weight) & (weight > 0), weight, 0.0)
    if np.ndim(values) == 0 or not usable.any():
        return float(np.mean(np.asarray(values, float))) if np.size(values) else 0.0
    return float(np.average(np.asarray(values, float), weights=usable))


def responsivity(e_rms: ArrayLike, weight: np.ndarray) -> float:
    r"""Responsivity of distortions to shear, :math:`R = 1 - \langle e_\mathrm{rms}^2 \rangle_w`.

    Args:
        e_rms: intrinsic rms distortion per component, one number or shape ``(n,)``.
        weight: shape ``(n,)``.
    """
    return 1 - weighted_mean(np.square(e_rms), weight)


def measured_responsivity(distortion: np.ndarray, weight: np.ndarray) -> float:
    r"""Responsivity from the measured shapes, :math:`R = 1 - \frac12 \langle |e|^2 \rangle_w`.

    Measurement noise widens :math:`|e|`, so this R is low and the shear high, by a few per cent
    for typical noise: a stopgap for catalogues that come without :math:`e_\mathrm{rms}`.
    """
    finite = np.isfinite(distortion)
    return 1 - 0.5 * weighted_mean(np.abs(distortion[finite]) ** 2, weight[finite])


def sheared_response(plus: ArrayLike, minus: ArrayLike, shear_step: float = 0.02) -> np.ndarray:
    r"""Response by finite difference, :math:`R = (e^+ - e^-)/\Delta\gamma`.

    With shapes of every galaxy measured on sheared images it is the shear response; with *mean*
    unsheared shapes of the samples selected on sheared images, the selection response.
    """
    return (np.asarray(plus, float) - np.asarray(minus, float)) / shear_step


def metacal_response(
    r11: ArrayLike, r22: ArrayLike, weight: np.ndarray, selection: float = 0.0
) -> float:
    r"""Mean response :math:`R = \frac12 \langle R_{11} + R_{22} \rangle_w + R_\mathrm{sel}`."""
    return 0.5 * (weighted_mean(r11, weight) + weighted_mean(r22, weight)) + selection


def ellipticity_from_distortion(distortion: np.ndarray, responsivity: float) -> np.ndarray:
    r"""Shear estimate :math:`g = e / (2R)` from a distortion :math:`(a^2 - b^2)/(a^2 + b^2)`.

    Raises:
        ValueError: unless 0 < R <= 1.
    """
    if not 0 < responsivity <= 1:
        raise ValueError(
            f"the responsivity is {responsivity:g}; expected a value above 0 and up to 1 (are the "
            "shapes distortions, and is e_rms per component?)"
        )
    return _complex(distortion.real / (2 * responsivity), distortion.imag / (2 * responsivity))


def unbiased_ellipticity(
    ellipticity: np.ndarray,
    weight: np.ndarray,
    *,
    m: ArrayLike = 0.0,
    c1: ArrayLike = 0.0,
    c2: ArrayLike = 0.0,
    response: ArrayLike = 1.0,
) -> np.ndarray:
    r"""Take additive bias, mean response and mean multiplicative bias out of shear estimates.

    .. math:: g_a = \frac{e_a - c_a}{\langle R \rangle_w (1 + \langle m \rangle_w)}

    Args:
        ellipticity: complex, shape ``(n,)``.
        weight: shape ``(n,)``.
        m, c1, c2, response: one number or shape ``(n,)``; c is taken off each galaxy, of m and R
            only the weighted mean counts (see the top of this file).

    Raises:
        ValueError: if the mean of R or of 1 + m is not positive.
    """
    factors = {"response": weighted_mean(response, weight), "1 + m": 1 + weighted_mean(m, weight)}
    for name, value in factors.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"the mean of {name} is {value:g}; expected a finite value above 0")
    scale = factors["response"] * factors["1 + m"]
    return _complex((ellipticity.real - c1) / scale, (ellipticity.imag - c2) / scale)


def calibrate(
    shapes: np.ndarray,
    weight: np.ndarray,
    values: Mapping[str, np.ndarray],
    survey: Survey,
    distortion: bool | None = None,
) -> np.ndarray:
    r"""Shear estimates from a survey's raw shapes, still in the survey's own frame.

    Distortions are divided by 2R, where R is ``response`` if given, else from ``e_rms``, else
    measured from the shapes (with a warning). Other shapes are divided by ``response``, else by
    the mean of R11 and R22, else are taken as calibrated. Then c and m go out
    (`unbiased_ellipticity`).

    Args:
        shapes: complex e1 + i e2, shape ``(n,)``.
        weight: shape ``(n,)``.
        values: numbers or vectors by role, whichever of `BIASES` and `RESPONSES` there are.
        survey: gives the selection response and the shear step.
        distortion: overrides the survey's.
    """
    biases = {role: values[role] for role in BIASES if role in values}
    if survey.distortion if distortion is None else distortion:
        if "response" in values:
            mean = weighted_mean(values["response"], weight)
        elif "e_rms" in values:
            mean = responsivity(values["e_rms"], weight)
        else:
            mean = measured_responsivity(shapes, weight)
            log.warning(
                "no e_rms or response is known; the responsivity %.4f is measured from the noisy "
                "shapes, which makes the shear a little too large",
                mean,
            )
        shapes = ellipticity_from_distortion(shapes, mean)
        return unbiased_ellipticity(shapes, weight, **biases)
    response: ArrayLike = 1.0
    if "response" in values:
        response = values["response"]
    elif "R11" in values and "R22" in values:
        selection = survey.selection_response
        response = metacal_response(values["R11"], values["R22"], weight, selection)
    elif all(role in values for role in SHEARED):
        e1_1p, e1_1m, e2_2p, e2_2m = (values[role] for role in SHEARED)
        r11 = sheared_response(e1_1p, e1_1m, survey.shear_step)
        r22 = sheared_response(e2_2p, e2_2m, survey.shear_step)
        response = metacal_response(r11, r22, weight, survey.selection_response)
    return unbiased_ellipticity(shapes, weight, response=response, **biases)


def _complex(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    # Not real + 1j * imag: that would spread a NaN of one component to both.
    joined = np.empty(np.shape(real), complex)
    joined.real, joined.imag = real, imag
    return joined
