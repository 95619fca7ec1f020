"""What each survey calls its columns, and which conventions its shapes follow.

House frame: x = west, y = north; e1 > 0 is elongated east-west, e2 > 0 north-west to south-east.
How the shapes become shear estimates is in `jaxmap.reading.calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

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
        signatures: sets of lower-case column names, any of which gives the survey away; where the
            names are common ones, with the weight, so that no other name of it goes unnoticed.
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
    note="no rows are cut (see index/select); give m= (--m) of the tomographic bin, and the "
    "selection response if it is known",
)
KIDS = Survey(
    name="kids",
    columns=_columns(
        ra="ALPHA_J2000 RAJ2000", dec="DELTA_J2000 DECJ2000", e1="e1", e2="e2",
        weight="weight", z="Z_B",
    ),
    signatures=(
        {"alpha_j2000", "delta_j2000", "e1", "e2", "weight", "z_b"},
        {"raj2000", "decj2000", "e1", "e2", "weight", "z_b"},
        {"raj2000", "decj2000", "e1", "e2", "weight", "tomobin"},
    ),
    note="give m= (and c1=, c2=; --m, --c1, --c2) of the tomographic bin",
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
        {"she_lensmc_g1", "she_lensmc_g2"},
        {"right_ascension", "declination", "g1", "g2", "weight", "tom_bin_id"},
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
