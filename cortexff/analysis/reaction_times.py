"""Reaction times of a vigilance task: evidence frame by frame becomes a response, a false start or an omission.

A network is shown noise for an unpredictable number of frames, then a picture, and responds once it has seen enough.
It is the psychomotor vigilance task (Dinges & Powell 1985; outcomes of Basner & Dinges 2011). Arrays have any leading
axes, as (subjects, trials, frames); the onsets are the same for all subjects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SLOW = 2.0  # baseline medians; people's 500 ms is about twice theirs
LEAST_MEDIAN = 2  # frames, of the baseline
LEAST_RESPONSES = 10  # for parameters of a distribution
ABOVE = 1e-6  # log odds that a bound lies above the largest value it must exceed


@dataclass(frozen=True)
class Detector:
    """When a subject responds.

    offset  (...), evidence of a frame that speaks neither for noise nor for a picture, log odds
    bound   (...), of the cumulated evidence, log odds
    """

    offset: np.ndarray
    bound: np.ndarray


def cumulated(evidence: ArrayLike, offset: ArrayLike) -> np.ndarray:
    r"""Page's cumulative sum: the evidence that a picture has appeared by now, at whatever time (Page 1954).

    .. math:: L_t = \max(0, L_{t-1} + e_t - o), \qquad L_{-1} = 0

    evidence  e (..., trials, frames), log odds of real data in each frame
    offset    o (...), log odds
    returns   L (..., trials, frames); NaN from the first frame on whose evidence is NaN
    """
    evidence, level = np.asarray(evidence, dtype=float), 0.0
    steps = evidence - np.asarray(offset, dtype=float)[..., None, None]
    found = np.empty_like(steps)
    for frame in range(steps.shape[-1]):
        found[..., frame] = level = np.maximum(0.0, level + steps[..., frame])
    return found


def calibrate(evidence: ArrayLike, onset: ArrayLike, false_starts: float = 0.03) -> Detector:
    """The detector of each subject that suits its baseline; it is kept for all later sessions.

    The offset is the middle between the mean evidence of frames of noise and of frames with the picture: for two normal
    distributions of equal variance, Page's sum is then the log likelihood ratio but for a factor. This factor is in the
    bound too, so neither has to be known. The bound is the lowest at which

    - no more than that share of trials are false starts, and
    - half of the trials or more take two frames or longer: else no response could be faster than the baseline's.

    Both are order statistics of trials, and the bound lies in the middle between two of them. The first depends on the
    few trials with the most misleading noise: 3 % of 100 trials become 3.5 ± 2.5 % in another session. Below 34 trials
    it allows no false start at all. The second decides where the picture is told from noise at first sight; then about
    half of the trials take one frame in another session, and a mean of 1/rt says more than a median.

    evidence      (..., trials, frames), of the baseline, log odds
    onset         (trials,), the frame at which the picture appears, counted from 0
    false_starts  share of trials
    returns       offset and bound (...); NaN for a subject whose evidence is not finite
    raises        ValueError for shapes that do not match, onsets outside the frames, or none after the first frame
    """
    evidence, onset = _trials(evidence, onset)
    before = np.arange(evidence.shape[-1]) < onset[:, None]
    if not before.any():
        raise ValueError("no frame of noise: every onset is 0")
    offset = (evidence[..., before].mean(-1) + evidence[..., ~before].mean(-1)) / 2
    level = cumulated(evidence, offset)
    until_first = np.arange(evidence.shape[-1]) <= onset[:, None]
    misled = np.where(before, level, 0.0).max(-1)
    at_once = np.where(until_first, level, 0.0).max(-1)
    allowed, fewer_than_half = math.floor(false_starts * onset.size + 1e-9), (onset.size - 1) // 2
    return Detector(offset, np.maximum(_reached_by(misled, allowed), _reached_by(at_once, fewer_than_half)))


def respond(evidence: ArrayLike, onset: ArrayLike, detector: Detector) -> np.ndarray:
    """Reaction time of each trial: the first frame at which the cumulated evidence has reached the bound.

    evidence  (..., trials, frames), log odds
    onset     (trials,), the frame at which the picture appears, counted from 0
    returns   (..., trials), frames, of which 1 is the first with the picture; a false start is negative, frames before
              the onset; NaN is an omission. A network no longer responds once its evidence is not finite
    """
    evidence, onset = _trials(evidence, onset)
    crossed = cumulated(evidence, detector.offset) >= np.asarray(detector.bound)[..., None, None]
    after = crossed.argmax(-1) - onset
    return np.where(crossed.any(-1), np.where(after >= 0, after + 1.0, after), np.nan)


def normalized(evidence: ArrayLike, onset: ArrayLike, reference_evidence: ArrayLike) -> np.ndarray:
    """Evidence on the scale of the baseline: frames of noise get the mean and the standard deviation they had there.

    With the detector of the baseline, it is how an observer responds who adapts to the evidence that noise gives.

    evidence, reference_evidence  (..., trials, frames), now and at baseline, log odds
    onset                         (trials,), of both
    returns                       as evidence; NaN for a subject whose evidence of noise does not vary
    """
    evidence, onset = _trials(evidence, onset)
    reference, _ = _trials(reference_evidence, onset)
    before = np.arange(evidence.shape[-1]) < onset[:, None]
    mean, deviation = _moments(evidence, before)
    reference_mean, reference_deviation = _moments(reference, before)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (evidence - mean) * np.where(deviation > 0, reference_deviation / deviation, np.nan) + reference_mean


def summary(rt: ArrayLike, baseline_median: ArrayLike | None = None) -> dict[str, np.ndarray]:
    """Outcomes of the task for each subject.

    rt               (..., trials), of :func:`respond`
    baseline_median  (...), frames; the `median` of the baseline. Without it, rt is the baseline
    returns          (...) each; the last five are of the trials without a false start, and NaN if there is none

    false_start   share of trials
    lapse         share with no response or a time above twice the baseline median; NaN where that is NaN
    omission      share with no response
    inv_rt        mean of 1/rt, per frame; an omission counts 0
    median        frames; an omission counts as slower than any response, NaN says that the median lies among omissions
    p90_over_p50  90th percentile over the median, likewise
    """
    rt = np.asarray(rt, dtype=float)
    false_start, omission = rt < 0, np.isnan(rt)
    median, late = _quantile(rt, 0.5), _quantile(rt, 0.9)
    limit = SLOW * (median if baseline_median is None else np.asarray(baseline_median, dtype=float))
    slow = omission | (rt > limit[..., None])
    shown = np.maximum((~false_start).sum(-1), np.where(false_start.all(-1), np.nan, 1))
    return {
        "false_start": false_start.mean(-1),
        "lapse": np.where(np.isnan(limit), np.nan, slow.sum(-1) / shown),
        "omission": omission.sum(-1) / shown,
        "inv_rt": np.where(rt > 0, 1 / np.where(rt > 0, rt, 1), 0).sum(-1) / shown,
        "median": median,
        "p90_over_p50": late / median,
    }


def ex_gaussian(rt: ArrayLike) -> tuple[float, float, float]:
    """Normal plus exponential distribution of one subject's reaction times, by maximum likelihood.

    rt       (trials,), frames; false starts and omissions are left out
    returns  mu and sigma of the normal part, mean tau of the exponential part (the slow tail), frames; NaN for fewer
             than ten reaction times, or equal ones
    """
    from scipy.stats import exponnorm, skew

    rt = _responses(rt)
    if not rt.size:
        return float("nan"), float("nan"), float("nan")
    # The start is the method of moments, with the skewness kept to what the distribution can have.
    tau = rt.std() * (np.clip(skew(rt), 0.1, 1.8) / 2) ** (1 / 3)
    sigma = np.sqrt(rt.var() - tau**2)
    k, mu, sigma = exponnorm.fit(rt, tau / sigma, loc=rt.mean() - tau, scale=sigma)
    return float(mu), float(sigma), float(k * sigma)


def one_boundary_diffusion(rt: ArrayLike) -> tuple[float, float]:
    r"""Drift and boundary of a diffusion whose first passage is one subject's reaction time.

    The inverse Gaussian distribution by maximum likelihood. The noise of the diffusion is 1 in a frame, and no time is
    taken for anything but the decision. In people, sleep loss lowers the drift (Ratcliff & Van Dongen 2011).

    .. math:: a^2 = n \Bigl/ \sum_i \left(\frac{1}{t_i} - \frac{1}{\bar t}\right), \qquad v = a / \bar t

    rt       t (trials,), frames; false starts and omissions are left out
    returns  drift v and boundary a; NaN for fewer than ten reaction times, or equal ones
    """
    rt = _responses(rt)
    if not rt.size:
        return float("nan"), float("nan")
    mean = rt.mean()
    boundary = float(1 / np.sqrt((1 / rt - 1 / mean).mean()))
    return boundary / float(mean), boundary


def _responses(rt: ArrayLike) -> np.ndarray:
    """The reaction times of one subject; none where they are too few or equal."""
    rt = np.asarray(rt, dtype=float)
    if rt.ndim != 1:
        raise ValueError(f"needs the trials of one subject, found shape {rt.shape}")
    rt = rt[rt > 0]
    return rt if rt.size >= LEAST_RESPONSES and np.ptp(rt) > 0 else rt[:0]


def _quantile(rt: np.ndarray, share: float) -> np.ndarray:
    """Of trials without a false start, NaN being slower than all; linear between trials as numpy's."""
    ranked = np.sort(np.where(rt < 0, np.inf, rt), -1)  # NaN and infinity come last
    place = share * np.maximum((rt >= 0).sum(-1) + np.isnan(rt).sum(-1) - 1, 0)
    low, high = (
        np.take_along_axis(ranked, one(place).astype(int)[..., None], -1)[..., 0] for one in (np.floor, np.ceil)
    )
    with np.errstate(invalid="ignore"):
        found = low + (place - np.floor(place)) * (high - low)
    return np.where(np.isfinite(found), found, np.nan)


def _reached_by(values: np.ndarray, most: int) -> np.ndarray:
    """The bound (...) that no more than so many of the values (..., trials) reach, in the middle of its range."""
    largest = np.sort(values, -1)[..., -1 - most]
    above = np.where(values > largest[..., None], values, np.inf).min(-1)
    return np.where(np.isinf(above), largest + ABOVE, (largest + above) / 2)


def _moments(evidence: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    of_noise = evidence[..., chosen]
    return of_noise.mean(-1)[..., None, None], of_noise.std(-1)[..., None, None]


def _trials(evidence: ArrayLike, onset: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    evidence, onset = np.asarray(evidence, dtype=float), np.asarray(onset)
    if evidence.ndim < 2 or onset.shape != evidence.shape[-2:-1] or not onset.size:
        raise ValueError(f"evidence {evidence.shape} needs an onset of each trial, found {onset.shape}")
    if onset.min() < 0 or onset.max() >= evidence.shape[-1]:
        raise ValueError(f"onsets lie within {evidence.shape[-1]} frames; found {onset.min()} to {onset.max()}")
    return np.where(np.isfinite(evidence), evidence, np.nan), onset
