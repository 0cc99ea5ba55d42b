"""Survival: how long networks last until they diverge; those that have not by the end are censored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy.stats import CensoredData


def kaplan_meier(time: ArrayLike, diverged: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r"""Share of subjects that last beyond each time (Kaplan & Meier 1958).

    .. math:: S(t) = \prod_{t_i \le t} \left(1 - \frac{d_i}{n_i}\right)

    :math:`d_i` subjects diverge at :math:`t_i`, of :math:`n_i` that are still watched.

    time      (subjects,), 0 or above: when it diverged, or how long it was watched
    diverged  (subjects,), whether it did; if not, it is censored
    returns   times and survival, a step function: 0, where it is 1, and each time at which a subject ends
    raises    ValueError for no subject, shapes that differ, or times that are not finite or below 0
    """
    from scipy.stats import ecdf

    survival = ecdf(_censored(time, diverged)).sf
    return np.append(0.0, survival.quantiles), np.append(1.0, survival.probabilities)


def median_survival(time: ArrayLike, diverged: ArrayLike) -> float:
    """The first time at which half of the subjects or fewer last; NaN where more do to the end.

    time, diverged, raises  as `kaplan_meier`
    """
    times, survival = kaplan_meier(time, diverged)
    reached = survival <= 0.5 + 1e-12  # products of shares round
    return float(times[reached.argmax()]) if reached.any() else float("nan")


def log_rank_p(time: ArrayLike, diverged: ArrayLike, other_time: ArrayLike, other_diverged: ArrayLike) -> float:
    """Two-sided p that two conditions survive alike (log-rank test; Mantel 1966).

    The test takes the subjects of both as different ones. Where the same seeds are in both, it does not use the pairs.

    time, diverged, raises      as `kaplan_meier`, of one condition
    other_time, other_diverged  of the other
    returns                     p; 1 where nobody diverges, or only when one condition alone is still watched
    """
    from scipy.stats import logrank

    one, other = _censored(time, diverged), _censored(other_time, other_diverged)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = float(logrank(one, other).pvalue)
    return 1.0 if np.isnan(p) else p


def _censored(time: ArrayLike, diverged: ArrayLike) -> CensoredData:
    from scipy.stats import CensoredData

    time, diverged = np.asarray(time, dtype=float), np.asarray(diverged, dtype=bool)
    if time.ndim != 1 or not time.size or time.shape != diverged.shape:
        raise ValueError(f"needs a time and whether it diverged of each subject: {time.shape} and {diverged.shape}")
    if not np.isfinite(time).all() or time.min() < 0:
        raise ValueError(f"times are finite and not below 0; found {time}")
    return CensoredData.right_censored(time, ~diverged)
