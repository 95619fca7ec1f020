r"""Conformal intervals: widths of an estimator's errors learned from simulated surveys.

Around any estimator's map, from n fields of known truth. With :math:`s_p` the score of pixel p,

=============  ==========================================  ============================
kind           score                                       interval at threshold t
=============  ==========================================  ============================
``interval``   :math:`\max(l - \kappa, \kappa - u)`        :math:`[l - t, u + t]`
``std``        :math:`|\kappa - \hat\kappa| / \mathrm{std}`  :math:`\hat\kappa \pm t\,\mathrm{std}`
``plain``      :math:`|\kappa - \hat\kappa|`               :math:`\hat\kappa \pm t`
=============  ==========================================  ============================

(l, u: the map's ``lower`` and ``upper``; conformalised quantile regression), t is so chosen that
intervals cover, whatever the distribution of sky, noise and errors, as long as the new field is
**exchangeable** with the n fields: a draw from the same simulations, mapped by the same estimator.
For a real survey that is an assumption, and no conformal method does without it. Pixels of one
field depend on one another, so fields, not pixels, are counted. Two promises can be made:

*Pooled* (one threshold for all observed pixels, one for all masked ones): the expected share of a
new field's pixels whose truth lies outside is at most :math:`1 - \mathrm{level}`. Nothing is said
of a given pixel, or of peaks, which may be missed more often, as long as others are missed less.
The threshold is the least t with

.. math:: \frac{1}{n + 1} \left(1 + \sum_{i=1}^n L_i(t)\right) \le 1 - \mathrm{level}, \qquad
          L_i(t) = \text{share of the pixels of field } i \text{ with } s > t

*Per pixel* (a threshold for every position): at every position, the probability that the truth of
a new field lies outside is at most :math:`1 - \mathrm{level}`; the threshold is the
:math:`\lceil (n + 1)\, \mathrm{level} \rceil`-th smallest of the n scores there. For fields of one
footprint. With a single pixel per field both are the same.

Both hold on average over the n calibration fields and the new one. With the n fields at hand, the
coverage scatters about that; per pixel as a beta distribution, by
:math:`\sqrt{\mathrm{level}\,(1 - \mathrm{level}) / (n + 2)}`. Neither is a statement about several
pixels at once (a region, a peak's height over its surroundings), and shear does not measure the
mean of a map: the truth is meant with its mean over the observed pixels shifted to that of the map.

References:
    Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World; Romano, Patterson &
    Candès (2019), NeurIPS 32 (quantile regression); Angelopoulos, Bates, Fisch, Lei & Schuster
    (2024), ICLR, Conformal Risk Control (the pooled threshold); Leterme, Fadili & Starck (2025),
    A&A 694, A267 (mass maps, per pixel).
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxmap.catalog import ShearMap
from jaxmap.estimators import Estimator
from jaxmap.files import atomic_path
from jaxmap.massmap import MassMap

Floats = NDArray[np.floating[Any]]
Kind = Literal["interval", "std", "plain"]

PIXEL_TOLERANCE, NOISE_FACTOR = 0.05, 1.25
"""How far a survey may be from those of the calibration: in pixel scale, and beyond their range of
noise."""

_HEADER = "header"
_FORMAT = "jaxmap conformal 1"


class Scored(NamedTuple):
    """What calibration keeps of one field.

    Attributes:
        kind: of the scores.
        scores: shape ``(ny, nx)``.
        observed: True where the shear was observed.
        pixel_arcmin: side of a pixel.
        noise_std: median noise of a component in an observed pixel.
    """

    kind: Kind
    scores: Floats
    observed: NDArray[np.bool_]
    pixel_arcmin: float
    noise_std: float


@dataclass(frozen=True, eq=False)
class Conformal:
    """Calibrated widths; called with a map, it gives the map its ``lower`` and ``upper``.

    Args:
        level: nominal coverage, between 0 and 1.
        kind: what the widths are built on, see above.
        observed: threshold in observed pixels, shape ``()``, or per position ``(ny, nx)``.
        masked: threshold in masked pixels, shape ``()``; NaN where too few fields had any; not used
            per position.
        num_fields: of the calibration.
        pixel_arcmin: side of their pixels.
        noise_std: least and largest of their medians of the noise of a shear component.
        method: of the maps, as JSON can hold it; of another one intervals mean nothing.
    """

    level: float
    kind: Kind
    observed: Floats
    masked: Floats
    num_fields: int
    pixel_arcmin: float
    noise_std: tuple[float, float]
    method: Mapping[str, Any] = field(default_factory=dict)

    @property
    def per_pixel(self) -> bool:
        return np.ndim(self.observed) == 2

    def __call__(self, result: MassMap) -> MassMap:
        """The map with calibrated ``lower`` and ``upper``; NaN where no interval can be given.

        Raises:
            ValueError: if the map lacks what the widths are built on, or has other pixels.
        """
        self._check_grid(result.grid.shape, result.grid.pixel_arcmin)
        if kind_of(result) != self.kind:
            raise ValueError(
                f"the map has {_HAS[kind_of(result)]}, and the intervals were calibrated on one "
                f"with {_HAS[self.kind]}; make it with the method and settings of the calibration"
            )
        width = self.observed
        if not self.per_pixel:
            width = np.where(np.asarray(result.mask), self.observed, self.masked)
        width = jnp.asarray(width, result.convergence.dtype)
        low, high = result.convergence, result.convergence
        if self.kind == "interval":
            assert result.lower is not None and result.upper is not None
            low, high = jnp.asarray(result.lower), jnp.asarray(result.upper)
        elif self.kind == "std":
            assert result.std is not None
            width = width * result.std
        low, high = low - width, high + width
        # A threshold below 0 shrinks intervals, at the worst to nothing.
        middle = (low + high) / 2
        told = {
            "level": self.level,
            "kind": self.kind,
            "per_pixel": self.per_pixel,
            "calibration_fields": self.num_fields,
        }
        return replace(
            result,
            lower=jnp.where(low > high, middle, low),
            upper=jnp.where(low > high, middle, high),
            diagnostics={**result.diagnostics, "conformal": told},
        )

    def check(self, shear: ShearMap, method: Mapping[str, Any]) -> None:
        """Refuse data or a method that the calibration says nothing about.

        Args:
            shear: the observed shear.
            method: of its map, as given to `calibrate_intervals`.

        Raises:
            ValueError: for another method or other settings of it, another pixel scale, shape (per
                pixel) or noise.
        """
        wanted = json.loads(json.dumps(dict(method)))
        for name in sorted(wanted.keys() | self.method.keys()):
            here, there = wanted.get(name), self.method.get(name)
            if here != there:
                raise ValueError(
                    f"the intervals were calibrated for {name} = {there}, and the map is made with "
                    f"{here}; take the same, or calibrate anew (jaxmap calibrate --conformal)"
                )
        self._check_grid(shear.grid.shape, shear.grid.pixel_arcmin)
        noise = median_noise(shear)
        least, largest = self.noise_std
        if not least / NOISE_FACTOR <= noise <= largest * NOISE_FACTOR:
            raise ValueError(
                f"the noise of a shear component is {noise:.3g} in the median pixel, and was "
                f"{least:.3g} to {largest:.3g} in the fields of the calibration; calibrate on "
                "surveys as deep as this one (jaxmap calibrate --conformal --mask-from)"
            )

    def _check_grid(self, shape: tuple[int, int], pixel_arcmin: float) -> None:
        if abs(pixel_arcmin / self.pixel_arcmin - 1) > PIXEL_TOLERANCE:
            raise ValueError(
                f"the pixels are {pixel_arcmin:g} arcmin wide, and were {self.pixel_arcmin:g} in "
                "the calibration; take the same (--pixel-arcmin), or calibrate anew"
            )
        if self.per_pixel and shape != np.shape(self.observed):
            raise ValueError(
                f"the map has {shape} pixels, and the intervals were calibrated position by "
                f"position on {np.shape(self.observed)}; expected the same, or pooled intervals"
            )


_HAS = {
    "interval": "lower and upper limits",
    "std": "a standard deviation without limits",
    "plain": "neither limits nor a standard deviation",
}


def kind_of(result: MassMap) -> Kind:
    """The best thing that widths can be built on."""
    if result.lower is not None and result.upper is not None:
        return "interval"
    return "plain" if result.std is None else "std"


def median_noise(shear: ShearMap) -> float:
    """Median standard deviation of an observed component."""
    weight = np.asarray(shear.weight)
    return float(1 / np.sqrt(np.median(weight[weight > 0])))


def score_field(result: MassMap, truth: jax.Array, shear: ShearMap) -> Scored:
    """Scores of a map whose truth is known.

    Raises:
        ValueError: if the truth has another shape, or a score is not a number.
    """
    kind, observed = kind_of(result), np.asarray(result.mask)
    estimate, true = np.asarray(result.convergence, float), np.asarray(truth, float)
    if true.shape != estimate.shape:
        raise ValueError(
            f"the truth has shape {true.shape} and the map {estimate.shape}; expected the same"
        )
    true = true + np.mean((estimate - true)[observed])
    error = np.abs(true - estimate)
    if kind == "interval":
        scores = np.maximum(np.asarray(result.lower) - true, true - np.asarray(result.upper))
    elif kind == "std":
        std = np.asarray(result.std, float)
        known = std > 0
        scores = np.where(known, error / np.where(known, std, 1), np.inf)
    else:
        scores = error
    if np.isnan(scores).any():
        raise ValueError(
            f"{np.isnan(scores).sum()} pixels of the map or its truth are not numbers; expected "
            "finite maps"
        )
    return Scored(kind, scores, observed, shear.grid.pixel_arcmin, median_noise(shear))


def calibrate_intervals(
    key: jax.Array,
    estimator: Estimator,
    fields: Iterable[tuple[jax.Array, ShearMap]],
    level: float = 0.68,
    *,
    per_pixel: bool = False,
    method: Mapping[str, Any] | None = None,
) -> Conformal:
    """Map fields of known truth and find the widths that cover it.

    Args:
        key: PRNG key, for estimators that draw.
        estimator: ``(key, ShearMap) -> MassMap``; the one whose maps get the intervals.
        fields: pairs of the true convergence and the shear observed of it; exchangeable, and with
            the field to come.
        level: of coverage.
        per_pixel: a threshold for every position instead of one for all.
        method: what the estimator is, as JSON can hold it, for `Conformal.check`.

    Raises:
        ValueError: see `conformal_of`.
    """
    scored = [
        score_field(estimator(jax.random.fold_in(key, number), shear), truth, shear)
        for number, (truth, shear) in enumerate(fields)
    ]
    return conformal_of(scored, level, per_pixel=per_pixel, method=method)


def conformal_of(
    scored: Sequence[Scored],
    level: float = 0.68,
    *,
    per_pixel: bool = False,
    method: Mapping[str, Any] | None = None,
) -> Conformal:
    """The widths that cover the truth of scored fields.

    Raises:
        ValueError: for a level that is none, fields of different kinds or pixels, or so few that no
            finite width keeps the promise.
    """
    _check_fields(scored, level, per_pixel)
    if per_pixel:
        observed = position_threshold(np.stack([one.scores for one in scored]), level)
        masked = np.full((), np.nan)
    else:
        observed = pooled_threshold([one.scores[one.observed] for one in scored], level)
        masked = pooled_threshold([one.scores[~one.observed] for one in scored], level)
    noise = [one.noise_std for one in scored]
    return Conformal(
        level=float(level),
        kind=scored[0].kind,
        observed=observed,
        masked=np.where(np.isfinite(masked), masked, np.nan),
        num_fields=len(scored),
        pixel_arcmin=scored[0].pixel_arcmin,
        noise_std=(min(noise), max(noise)),
        method=json.loads(json.dumps(dict(method or {}))),
    )


def pooled_threshold(scores: Sequence[Floats], level: float) -> Floats:
    r"""Least t with :math:`\sum_i L_i(t) \le (n + 1)(1 - \mathrm{level}) - 1`; see above.

    Args:
        scores: of the pixels of every field, one vector each; fields without pixels are passed
            over.
        level: of coverage.

    Returns:
        Shape ``()``; inf where fields are too few.
    """
    fields = [one for one in scores if len(one)]
    allowed = (len(fields) + 1) * (1 - level) - 1
    if allowed < -_ROUNDING:
        return np.full((), np.inf)
    values = np.concatenate(fields)
    share = np.concatenate([np.full(len(one), 1 / len(one)) for one in fields])
    order = np.argsort(values, kind="stable")
    # Shares of all pixels from each score upwards, that is, missed by any threshold below it.
    missed = np.append(np.cumsum(share[order][::-1])[::-1][1:], 0.0)
    return np.asarray(values[order][np.argmax(missed <= allowed + _ROUNDING)])


_ROUNDING = 1e-9
"""Of sums of shares; far below one pixel."""


def position_threshold(scores: Floats, level: float) -> Floats:
    r"""The :math:`\lceil (n + 1)\, \mathrm{level} \rceil`-th smallest score of every position.

    Args:
        scores: shape ``(n, ny, nx)``.
        level: of coverage.
    """
    rank = math.ceil((len(scores) + 1) * level - _ROUNDING)
    if rank > len(scores):
        return np.full(scores.shape[1:], np.inf)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


def coverage(scored: Sequence[Scored], bounds: Conformal) -> Floats:
    """Share of the observed pixels of every field that its interval covers, shape ``(n,)``."""
    inside = [one.scores <= bounds.observed for one in scored]
    return np.array([hit[one.observed].mean() for hit, one in zip(inside, scored, strict=True)])


def held_out_coverage(
    scored: Sequence[Scored], level: float, *, per_pixel: bool = False, folds: int = 5
) -> Floats | None:
    """`coverage` of fields by thresholds of the others, a fifth of them left out at a time.

    Returns:
        Shape ``(n,)``; None where the others are too few.
    """
    found = np.zeros(len(scored))
    for fold in range(folds):
        others = [one for number, one in enumerate(scored) if number % folds != fold]
        if len(others) < fewest_fields(level):
            return None
        bounds = conformal_of(others, level, per_pixel=per_pixel)
        found[fold::folds] = coverage(scored[fold::folds], bounds)
    return found


def fewest_fields(level: float) -> int:
    """Below it no finite width keeps the promise: :math:`n + 1 \\ge 1 / (1 - level)`."""
    return max(1, math.ceil(1 / (1 - level) - 1 - _ROUNDING))


def write_conformal(path: str | Path, bounds: Conformal) -> None:
    """Write intervals to ``.npz``: float64 arrays and a JSON header."""
    header = asdict(bounds)
    arrays = {name: np.asarray(header.pop(name), np.float64) for name in ("observed", "masked")}
    text = json.dumps({"format": _FORMAT, **header}, allow_nan=False)
    everything: dict[str, Any] = {**arrays, _HEADER: np.frombuffer(text.encode(), np.uint8)}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **everything)


def read_conformal(path: str | Path) -> Conformal:
    """Intervals written by `write_conformal`.

    Raises:
        ValueError: for a file that is missing, cut short or of another kind.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(file[_HEADER].tobytes())
            arrays = {name: file[name] for name in ("observed", "masked")}
        if header.pop("format") != _FORMAT:
            raise ValueError("of another format")
        least, largest = header.pop("noise_std")
        return Conformal(**arrays, **header, noise_std=(least, largest))
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no file {path}; make one with jaxmap calibrate --conformal"
        ) from error
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{path} is not a whole file of jaxmap conformal intervals ({error}); make one with "
            "jaxmap calibrate --conformal"
        ) from error


def _check_fields(scored: Sequence[Scored], level: float, per_pixel: bool) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; expected a number between 0 and 1, as in 0.68")
    least = fewest_fields(level)
    if len(scored) < least:
        raise ValueError(
            f"{len(scored)} fields were given; expected at least {least}, since no fewer can "
            f"promise {level:.0%}: simulate more (--num), or lower the level (--level)"
        )
    kinds = {one.kind for one in scored}
    pixels = {one.pixel_arcmin for one in scored}
    if len(kinds) > 1 or len(pixels) > 1:
        raise ValueError(
            f"the fields have scores of kinds {sorted(kinds)} in pixels of {sorted(pixels)} arcmin;"
            " expected one of each"
        )
    shapes = {one.scores.shape for one in scored}
    if per_pixel and len(shapes) > 1:
        raise ValueError(
            f"the fields have shapes {sorted(shapes)}; expected one, to calibrate every position "
            "(or pooled intervals: per_pixel=False)"
        )
