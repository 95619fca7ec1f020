"""From raw shapes to shear estimates: additive bias, response or responsivity, and m.

In one line (every mean is weighted and over the whole catalogue)::

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
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxmap.reading.surveys import BIASES, SHEARED, Survey

log = logging.getLogger(__name__)


USUAL = (0.3, 2.0)
"""Where the mean of a response or of 1 + m lies in surveys, generously."""


def complex_shapes(e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """Complex e1 + i e2, in which a NaN of one component leaves the other as it is."""
    shapes = np.empty(np.shape(e1), complex)
    shapes.real, shapes.imag = e1, e2
    return shapes


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


def warn_of_measured(responsivity: float) -> None:
    """Say that a responsivity comes from the noisy shapes."""
    log.warning(
        "no e_rms or response is known; the responsivity %.4f is measured from the noisy shapes, "
        "which makes the shear a little too large",
        responsivity,
    )


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
    scale = 2 * responsivity
    return complex_shapes(distortion.real / scale, distortion.imag / scale)


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
        if not USUAL[0] < value < USUAL[1]:
            log.warning(
                "shapes are divided by %s = %.3g; expected about 1: check --m and --response, or "
                "the columns they come from",
                name,
                value,
            )
    scale = factors["response"] * factors["1 + m"]
    with np.errstate(over="ignore"):  # shapes that are not finite are refused further on
        return complex_shapes((ellipticity.real - c1) / scale, (ellipticity.imag - c2) / scale)


def calibrate(
    shapes: np.ndarray,
    weight: np.ndarray,
    values: Mapping[str, np.ndarray],
    survey: Survey,
    distortion: bool,
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
        distortion: shapes are (a^2 - b^2)/(a^2 + b^2).
    """
    biases = {role: values[role] for role in BIASES if role in values}
    if distortion:
        if "response" in values:
            mean = weighted_mean(values["response"], weight)
        elif "e_rms" in values:
            mean = responsivity(values["e_rms"], weight)
        else:
            mean = measured_responsivity(shapes, weight)
            warn_of_measured(mean)
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
