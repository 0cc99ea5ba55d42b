"""Process S, the need for sleep: a saturating rise in wake, a fall in sleep (Borbély 1982; Daan et al. 1984).

In the model it is the sleep drive E[p(x⁻)], the factor of every negative update; time is counted in updates. In people
the rise takes 18.2 h and the fall 4.2 h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cortexff.analysis import dose_response
from cortexff.analysis.statistics import Interval, bca_interval

LONGEST = 10.0  # spans of the data; a slower time constant than that is not told from a line
SHORTEST = 0.2  # first intervals; a faster one is over before the second value
FLAT = 0.05  # p above which a curve may as well be flat


@dataclass(frozen=True)
class SleepNeed:
    """How much sleep brings a metric back, for each subject.

    updates   (subjects,), NaN where it does not come back, or a value before that is not finite
    censored  (subjects,), whether it is finite and not back by the last value: the need is larger than that
    """

    updates: np.ndarray
    censored: np.ndarray


def rise(time: ArrayLike, start: ArrayLike, upper: ArrayLike, tau: ArrayLike) -> np.ndarray:
    r"""Sleep drive in wake.

    .. math:: S(t) = S_\infty + (S_0 - S_\infty) \, e^{-t / \tau}

    time     t, since the start
    start    S₀
    upper    S∞, the asymptote
    tau      τ, in the unit of time
    returns  as the arguments broadcast
    """
    time, start, upper, tau = (np.asarray(one, dtype=float) for one in (time, start, upper, tau))
    return upper + (start - upper) * np.exp(-time / tau)


def fall(time: ArrayLike, start: ArrayLike, lower: ArrayLike, tau: ArrayLike) -> np.ndarray:
    """Sleep drive in sleep: the formula of :func:`rise`, towards a lower asymptote."""
    return rise(time, start, lower, tau)


def fit_wake(time: ArrayLike, drive: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Time constant and upper asymptote of each subject's rise, by least squares; the start is fitted too.

    Both are NaN where the curve does not tell them: where it falls, is not finite throughout, is no better
    than a flat line (F test, p > 0.05, which needs four times or more), or has a time constant longer than ten times
    the span of the times or shorter than a fifth of the first interval.

    time     (times,), rising
    drive    (subjects, times)
    returns  time constants, in the unit of time, and asymptotes: (subjects,) each
    raises   ValueError for shapes that do not match, or times that do not rise
    """
    return _fit(time, drive, 1)


def fit_sleep(time: ArrayLike, drive: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Time constant and lower asymptote of each subject's fall; as :func:`fit_wake`, NaN where the curve rises."""
    return _fit(time, drive, -1)


def sleep_need(updates: ArrayLike, values: ArrayLike, target: ArrayLike) -> SleepNeed:
    """The first amount of sleep at which a falling metric is back at its target, or below.

    Between two amounts the metric is taken as linear in log(1 + updates).

    updates  (amounts,), 0 or above, rising
    values   (subjects, amounts)
    target   (subjects,) or one for all, in the unit of the values
    raises   ValueError for shapes that do not match, or updates that do not rise
    """
    updates, values = _curves(updates, values)
    if updates[0] < 0:
        raise ValueError(f"updates are 0 or above; found {updates[0]}")
    target = np.broadcast_to(np.asarray(target, dtype=float), values.shape[:1])
    need, censored = np.full(len(values), np.nan), np.zeros(len(values), dtype=bool)
    scale = np.log1p(updates)
    for subject, (curve, wanted) in enumerate(zip(values, target, strict=True)):
        back = np.flatnonzero(curve <= wanted)
        if not np.isfinite(curve[: back[0] + 1] if back.size else curve).all() or not np.isfinite(wanted):
            continue
        if not back.size:
            censored[subject] = True
        elif back[0] == 0:
            need[subject] = updates[0]
        else:
            around = slice(back[0] - 1, back[0] + 1)
            need[subject] = np.expm1(np.interp(-wanted, -curve[around], scale[around]))
    return SleepNeed(need, censored)


def need_exponent(doses: ArrayLike, needs: ArrayLike) -> Interval:
    """Slope of log need against log dose, of each subject: its mean over subjects with its BCa interval.

    1: sleep need is a constant share of wake; towards 0: the longer the wake, the smaller that share. A need of 0 or
    NaN is left out of the slope of its subject; where long needs are censored, give only doses that have none, or the
    slope comes out too low.

    doses    (doses,), above 0
    needs    (subjects, doses)
    raises   ValueError for other doses, shapes that do not match, or a subject with fewer than two needs
    """
    doses, needs = _curves(doses, needs)
    if doses[0] <= 0:
        raise ValueError(f"doses are above 0; found {doses[0]}")
    slopes = np.full(len(needs), np.nan)
    for subject, of_subject in enumerate(needs):
        known = np.isfinite(of_subject) & (of_subject > 0)
        if known.sum() > 1:
            slopes[subject] = np.polyfit(np.log(doses[known]), np.log(of_subject[known]), 1)[0]
    return bca_interval(slopes)


def _fit(time: ArrayLike, drive: ArrayLike, direction: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import f

    time, drive = _curves(time, drive)
    tau, asymptote = np.full(len(drive), np.nan), np.full(len(drive), np.nan)
    sane, freedom = np.isfinite(drive).all(-1), time.size - 3
    if freedom < 1 or not sane.any():
        return tau, asymptote
    since = time - time[0]
    found = dose_response.fit("saturating", since, drive[sane])
    start, change, scale = found.parameters.T
    total = ((drive[sane] - drive[sane].mean(-1, keepdims=True)) ** 2).sum(-1)
    rounding = 1e-20 * (drive[sane] ** 2).sum(-1)  # a curve that is flat but for rounding is flat
    ratio = (total - found.rss) / 2 / np.maximum(found.rss / freedom, 1e-300)
    identified = (f.sf(ratio, 2, freedom) < FLAT) & (total > rounding) & (direction * change > 0)
    identified &= (scale < LONGEST * since[-1]) & (scale > SHORTEST * since[1])
    tau[sane] = np.where(identified, scale, np.nan)
    asymptote[sane] = np.where(identified, start + change, np.nan)
    return tau, asymptote


def _curves(places: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    places, values = np.asarray(places, dtype=float), np.asarray(values, dtype=float)
    if places.ndim != 1 or values.ndim != 2 or values.shape[1] != places.size:
        raise ValueError(f"needs values (subjects, {places.size}), found shape {values.shape}")
    if places.size < 2 or not np.all(np.diff(places) > 0):
        raise ValueError(f"times, updates or doses must rise; found {places}")
    return places, values
