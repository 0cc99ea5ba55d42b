"""Statistics over subjects: a subject is one trained network with its own seed, and counts once.

Subjects without a finite value are never dropped silently: every function refuses them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

EXACT_UP_TO = 14  # subjects; 2^14 sign patterns
FLIP_SEED = 0  # the same data always give the same p


@dataclass(frozen=True)
class Interval:
    """A mean over subjects and its confidence interval, in the unit of the values; n is the number of subjects."""

    mean: float
    low: float
    high: float
    n: int


def mean_of_known(values: ArrayLike) -> np.ndarray:
    """Mean over the last axis of what is finite, within one subject; NaN where nothing is."""
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    return np.where(known, values, 0.0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    r"""Mean over subjects with Student's t interval.

    .. math:: \bar x \pm t_{n-1,\,(1 + \text{level})/2} \; s / \sqrt n

    values   (subjects,)
    level    share of such intervals that hold the true mean, if the values are normal
    returns  the interval; one subject gives NaN bounds
    raises   ValueError for no subject, or values that are not finite
    """
    from scipy.stats import t

    values = _finite(values)
    mean, n = float(values.mean()), values.size
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(after: ArrayLike, before: ArrayLike, level: float = 0.95) -> Interval:
    r"""Mean change within subjects, :math:`d_i = \text{after}_i - \text{before}_i`, with its interval.

    after, before  (subjects,), in the same order
    level, returns, raises  as `mean_interval` of the differences
    """
    after, before = _finite(after), _finite(before)
    if after.shape != before.shape:
        raise ValueError(f"{after.size} subjects after, but {before.size} before")
    return mean_interval(after - before, level)


def sign_flip_p(differences: ArrayLike) -> float:
    r"""Two-sided p of no change: how often do differences with random signs lie as far from 0 on average?

    .. math:: p = \frac{\#\{ s : |\sum_i s_i d_i| \ge |\sum_i d_i| \}}{\#\{ s \}}, \qquad s_i = \pm 1

    Up to 14 subjects over all 2^n patterns of signs, and exact; beyond, over the pattern found and 2^14 - 1 random
    ones. The least p that n subjects can give is 2^(1 - n): six subjects are needed for p < 0.05.

    differences  (subjects,)
    returns      p, above 0 and at most 1
    raises       ValueError for no subject, or differences that are not finite
    """
    differences = _finite(differences)
    n = differences.size
    if n <= EXACT_UP_TO:
        flips = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        flips = np.random.default_rng(FLIP_SEED).integers(0, 2, size=(2**EXACT_UP_TO, n))
        flips[0] = 0  # the signs found are one of the patterns, so p is never 0
    sums = np.abs((1 - 2 * flips) @ differences)
    slack = 1e-12 * np.abs(differences).sum()  # sums that are equal but for rounding count as equal
    return float(np.mean(sums >= sums[0] - slack))


def _finite(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"needs one value per subject, found shape {values.shape}")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{bad} of {values.size} subjects have no finite value")
    return values
