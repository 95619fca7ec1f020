r"""Conformal intervals: widths of an estimator's errors learned from simulated surveys.

Around any estimator's map, from n fields of known truth. With :math:`s_p` the score of pixel p,

=============  ============================================  ============================
kind           score                                         interval at threshold t
=============  ============================================  ============================
``interval``   :math:`\max(l - \kappa, \kappa - u)`          :math:`[l - t, u + t]`
``std``        :math:`|\kappa - \hat\kappa| / \mathrm{std}`  :math:`\hat\kappa \pm t\,\mathrm{std}`
``plain``      :math:`|\kappa - \hat\kappa|`                 :math:`\hat\kappa \pm t`
=============  ============================================  ============================

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

from jaxmap.conformal.bounds import Conformal, read_conformal, write_conformal
from jaxmap.conformal.calibrate import calibrate_intervals, conformal_of, held_out_coverage
from jaxmap.conformal.scores import Scored, score_field

__all__ = [
    "Conformal",
    "Scored",
    "calibrate_intervals",
    "conformal_of",
    "held_out_coverage",
    "read_conformal",
    "score_field",
    "write_conformal",
]
