"""Signal detection: how well goodness tells positive from negative data, and where the network draws the line.

The measures separate two ways of getting worse: discrimination falls (``dprime``, ``auroc``) or the same evidence is
judged otherwise (``criterion``).
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


def dprime(positive: ArrayLike, negative: ArrayLike, axis: int = -1) -> np.ndarray:
    r"""Distance between the goodness of positive and of negative data, in common standard deviations.

    .. math:: d' = \frac{\bar G_+ - \bar G_-}{\sqrt{(s_+^2 + s_-^2) / 2}}

    Known as :math:`d_a`; equals d' where both variances are equal (Macmillan & Creelman 2005, chapter 3).

    positive, negative  goodness, inputs along `axis` (their number may differ); any other axes
    axis                the axis of the inputs
    returns             the other axes; no unit. The variances are those of samples (n - 1). Without any variance it
                        is infinite, or NaN where the means agree too; NaN where an input is NaN
    """
    positive, negative = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    variance = (positive.var(axis=axis, ddof=1) + negative.var(axis=axis, ddof=1)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (positive.mean(axis=axis) - negative.mean(axis=axis)) / np.sqrt(variance)


def criterion(hit_rate: ArrayLike, false_alarm_rate: ArrayLike, hits_of: int, false_alarms_of: int) -> np.ndarray:
    r"""How readily the network says "positive": below 0 too readily, above 0 too rarely.

    .. math:: c = -\tfrac12 \left[ z(H) + z(F) \right], \qquad H = \frac{\text{hits} + 0.5}{n + 1}

    z is the inverse of the normal distribution function (Macmillan & Creelman 2005, chapter 2). Both rates H and F are
    corrected log-linearly, whether extreme or not, so that rates of 0 and 1 stay finite (Hautus 1995).

    hit_rate, false_alarm_rate  share of positive, of negative data that was called positive; of any one shape
    hits_of, false_alarms_of    number of positive, of negative data that the rate is a share of
    returns                     that shape; in standard deviations of the evidence
    """
    return -0.5 * (_z(_log_linear(hit_rate, hits_of)) + _z(_log_linear(false_alarm_rate, false_alarms_of)))


def auroc(positive: ArrayLike, negative: ArrayLike) -> np.ndarray:
    r"""Probability that positive data has more goodness than negative data; the area under the ROC curve.

    .. math:: A = P(G_+ > G_-) + \tfrac12 P(G_+ = G_-)

    The Mann-Whitney statistic over the number of pairs, from ranks: n log n. ½ is chance, and no threshold enters.

    positive, negative  goodness, (..., inputs); the number of inputs may differ, the leading axes must agree
    returns             (...), between 0 and 1; NaN where an input is NaN
    """
    positive, negative = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    if positive.shape[:-1] != negative.shape[:-1] or 0 in (positive.shape[-1], negative.shape[-1]):
        raise ValueError(f"positive {positive.shape} and negative {negative.shape} must agree but in the last axis")
    area = np.empty(positive.shape[:-1])
    for place in np.ndindex(area.shape):
        ranked = np.sort(negative[place])
        below = np.searchsorted(ranked, positive[place], side="left")
        not_above = np.searchsorted(ranked, positive[place], side="right")
        area[place] = (below + not_above).mean() / (2 * ranked.size)
    unknown = np.isnan(positive).any(axis=-1) | np.isnan(negative).any(axis=-1)
    return np.where(unknown, np.nan, area)


def _log_linear(rate: ArrayLike, of: int) -> np.ndarray:
    rate = np.asarray(rate, dtype=float)
    if of < 1 or np.any((rate < 0) | (rate > 1)):
        raise ValueError(f"rates lie between 0 and 1 and are shares of at least one input; found {rate} of {of}")
    return (rate * of + 0.5) / (of + 1)


def _z(probability: np.ndarray) -> np.ndarray:
    inverse = NormalDist().inv_cdf
    flat = [np.nan if np.isnan(one) else inverse(float(one)) for one in probability.flat]
    return np.array(flat).reshape(probability.shape)
