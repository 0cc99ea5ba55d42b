"""Dose-response curves: how a metric grows with the dose, as the updates of a deprivation, and which law says it best.

Every model is ``a + b g(D)``, with a g that is 0 without any dose; a is the metric at rest, b scales the rise, and
some g have a scale of their own. Lapses of sleep-deprived people are linear beyond a threshold (Van Dongen 2003).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 1000  # of subjects, for the frequency of winners
RESAMPLE_SEED = 0  # the same data always give the same frequencies
SCALES = 200  # tried before the best is refined
REFINEMENTS = 10  # each makes the steps a quarter as long
CHUNK = 2**22  # numbers held at once


@dataclass(frozen=True)
class Model:
    """A law ``a + b g(D)``.

    formula     in the symbols of ``parameters``
    parameters  names: a, b and, where g has a scale, the scale
    rise        g of dose and scale; 0 at dose 0
    dose        the inverse of g, of a rise above 0 and the scale; NaN where g never gets there
    scales      doses above 0 to the least and largest scale that is tried; none where g has no scale
    """

    formula: str
    parameters: tuple[str, ...]
    rise: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dose: Callable[[np.ndarray, np.ndarray], np.ndarray]
    scales: Callable[[np.ndarray], tuple[float, float]] | None = None


def _wide(doses: np.ndarray) -> tuple[float, float]:
    return doses[0] / 100, 100 * doses[-1]


def _no_overflow(doses: np.ndarray) -> tuple[float, float]:
    return doses[-1] / 50, 100 * doses[-1]


def _before_the_last_two(doses: np.ndarray) -> tuple[float, float]:
    return doses[0] / 100, doses[max(0, doses.size - 2)]


def _below_one(rise: np.ndarray) -> np.ndarray:
    return np.where(rise < 1, rise, np.nan)


MODELS = {
    "linear": Model("a + b D", ("a", "b"), lambda dose, _: dose, lambda rise, _: rise),
    "logarithmic": Model(
        "a + b ln(1 + D/τ)",
        ("a", "b", "tau"),
        lambda dose, tau: np.log1p(dose / tau),
        lambda rise, tau: tau * np.expm1(rise),
        _wide,
    ),
    "saturating": Model(
        "a + b (1 − exp(−D/τ))",
        ("a", "b", "tau"),
        lambda dose, tau: -np.expm1(-dose / tau),
        lambda rise, tau: -tau * np.log1p(-_below_one(rise)),
        _wide,
    ),
    "hill": Model(
        "a + b D/(D + τ)",
        ("a", "b", "tau"),
        lambda dose, tau: dose / (dose + tau),
        lambda rise, tau: tau * rise / (1 - _below_one(rise)),
        _wide,
    ),
    "threshold_linear": Model(
        "a + b max(0, D − D₀)",
        ("a", "b", "d0"),
        lambda dose, d0: np.maximum(0, dose - d0),
        lambda rise, d0: d0 + rise,
        _before_the_last_two,  # beyond, one dose would decide b and D₀ alone
    ),
    "exponential": Model(
        "a + b (exp(D/τ) − 1)",
        ("a", "b", "tau"),
        lambda dose, tau: np.expm1(dose / tau),
        lambda rise, tau: tau * np.log1p(rise),
        _no_overflow,
    ),
}


@dataclass(frozen=True)
class Fit:
    """A model fitted to one curve, or to each of many.

    parameters  (..., parameters), in the order of the model's names. A scale at an end of what is tried (a hundredth of
                the least dose above 0, 100 times the largest; see ``Model.scales``) is not known, but for the end
    rss         (...), residual sum of squares
    aicc        (...), Akaike's criterion; infinite where there are too few doses
    """

    parameters: np.ndarray
    rss: np.ndarray
    aicc: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Which model describes a metric best.

    mean       of each model, its fit to the mean over subjects
    subjects   of each model, its fits to each subject: parameters (subjects, parameters)
    winner     the model of least AICc on the mean; None where doses are too few for every model
    frequency  of each model, the share of resamples of the subjects in which it wins; NaN where none can
    left_out   of each model, root mean square error at a dose that the fit to the mean did not see, over all doses (at
               the first and the last it extrapolates); NaN where the other doses are fewer than the parameters
    """

    mean: dict[str, Fit]
    subjects: dict[str, Fit]
    winner: str | None
    frequency: dict[str, float]
    left_out: dict[str, float]


def predict(model: str, parameters: ArrayLike, doses: ArrayLike) -> np.ndarray:
    """The metric at some doses.

    parameters  (..., parameters)
    doses       (doses,), 0 or above
    returns     (..., doses)
    """
    parameters, doses = np.asarray(parameters, dtype=float), np.asarray(doses, dtype=float)
    return parameters[..., :1] + parameters[..., 1:2] * _model(model).rise(doses, parameters[..., 2:3])


def fit(model: str, doses: ArrayLike, values: ArrayLike) -> Fit:
    """Least squares: a and b exactly, for each of many scales; the best of these is then refined.

    doses    (doses,), 0 or above, not all equal
    values   (..., doses)
    raises   ValueError for an unknown model, other doses, shapes that do not match, or values that are not finite
    """
    doses, values = _checked(doses, values)
    rows = values.reshape(-1, doses.size)
    law = _model(model)
    scale = _best_scale(law, doses, rows) if law.scales else np.zeros((len(rows), 0))
    basis = np.broadcast_to(law.rise(doses, scale), rows.shape)
    slope = (_centred(basis) * _centred(rows)).sum(-1) / np.maximum((_centred(basis) ** 2).sum(-1), 1e-300)
    rest = rows.mean(-1) - slope * basis.mean(-1)
    parameters = np.column_stack([rest, slope, scale])
    rss = ((rows - predict(model, parameters, doses)) ** 2).sum(-1)
    criterion = aicc(rss, doses.size, len(law.parameters), np.abs(rows).max(-1))
    shape = values.shape[:-1]
    return Fit(parameters.reshape(*shape, -1), rss.reshape(shape), criterion.reshape(shape))


def aicc(rss: np.ndarray, n: int, parameters: int, size: np.ndarray) -> np.ndarray:
    r"""Akaike's information criterion for few values, of a least squares fit (Hurvich & Tsai 1989).

    .. math:: n \ln(\text{RSS} / n) + 2 K + \frac{2 K (K + 1)}{n - K - 1}, \qquad K = k + 1

    rss      residual sum of squares
    n        values
    k        parameters; the variance is one more
    size     largest value; residuals below a billionth of it count as that, so perfect fits differ by K alone
    returns  infinite for n ≤ K + 1: a line needs five doses, the other models six
    """
    count = parameters + 1
    if n <= count + 1:
        return np.full_like(rss, np.inf)
    least = np.maximum(n * (1e-9 * size) ** 2, 1e-300)
    return n * np.log(np.maximum(rss, least) / n) + 2 * count + 2 * count * (count + 1) / (n - count - 1)


def compare(doses: ArrayLike, values: ArrayLike) -> Comparison:
    """Fit every model to the mean over subjects, to each subject, and to the means of 1000 resamples of subjects.

    doses    (doses,), 0 or above, not all equal
    values   (subjects, doses)
    raises   ValueError as `fit`: a subject without a finite value is not dropped
    """
    doses, values = _checked(doses, values)
    if values.ndim != 2:
        raise ValueError(f"needs values (subjects, doses), found shape {values.shape}")
    mean = values.mean(0)
    of_mean = {name: fit(name, doses, mean) for name in MODELS}
    drawn = np.random.default_rng(RESAMPLE_SEED).integers(0, len(values), size=(RESAMPLES, len(values)))
    criteria = np.stack([fit(name, doses, values[drawn].mean(1)).aicc for name in MODELS])
    known = np.isfinite(criteria[0]).all()  # the line has the fewest parameters
    share = np.bincount(criteria.argmin(0), minlength=len(MODELS)) / RESAMPLES
    return Comparison(
        of_mean,
        {name: fit(name, doses, values) for name in MODELS},
        min(MODELS, key=lambda name: of_mean[name].aicc) if known else None,
        {name: float(one) if known else float("nan") for name, one in zip(MODELS, share, strict=True)},
        {name: _left_out(name, doses, mean) for name in MODELS},
    )


def dose_at(model: str, fit: Fit, level: float) -> np.ndarray:
    """The dose at which a metric has risen by so much from what it is at dose 0.

    level    in the unit of the metric; below 0 for a metric that falls
    returns  (...), one dose for each curve of the fit; NaN where its model never gets there
    """
    slope, scale = fit.parameters[..., 1], fit.parameters[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = level / slope
    rise = np.where((rise > 0) & (rise < np.inf), rise, np.nan) if level else np.zeros_like(slope)
    return _model(model).dose(rise, scale[..., 0] if scale.size else scale)


def _left_out(model: str, doses: np.ndarray, mean: np.ndarray) -> float:
    errors = []
    for left_out in range(doses.size):
        others = np.delete(doses, left_out)
        if others.size < len(MODELS[model].parameters) or np.ptp(others) == 0:
            return float("nan")
        found = fit(model, others, np.delete(mean, left_out))
        errors.append(predict(model, found.parameters, doses[left_out : left_out + 1])[0] - mean[left_out])
    return float(np.sqrt(np.mean(np.square(errors))))


def _best_scale(law: Model, doses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The scale of least RSS for each row, (rows, 1): a search on the logarithm, ever narrower around the best."""
    low, high = law.scales(np.unique(doses[doses > 0]))
    logs = np.linspace(np.log(low), np.log(high), SCALES)[None]
    size = max(1, CHUNK // (SCALES * doses.size))
    found = []
    for some in (rows[first : first + size] for first in range(0, len(rows), size)):
        tried = np.broadcast_to(logs, (len(some), SCALES))
        step = logs[0, 1] - logs[0, 0]
        for _ in range(REFINEMENTS + 1):
            explained = _explained(law.rise(doses, np.exp(tried)[..., None]), some)
            best = np.take_along_axis(tried, explained.argmax(-1)[:, None], axis=-1)
            around = best + step * np.linspace(-1, 1, 9)
            tried, step = np.clip(around, np.log(low), np.log(high)), step / 4
        found.append(np.exp(best))
    return np.concatenate(found)


def _explained(basis: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum of squares that a and b take away: basis (rows, scales, doses), rows (rows, doses) to (rows, scales)."""
    basis = _centred(basis)
    products = np.einsum("rsd,rd->rs", basis, _centred(rows))
    return products**2 / np.maximum((basis**2).sum(-1), 1e-300)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


def _model(name: str) -> Model:
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def _checked(doses: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    doses, values = np.asarray(doses, dtype=float), np.asarray(values, dtype=float)
    if doses.ndim != 1 or values.shape[-1:] != doses.shape:
        raise ValueError(f"values {values.shape} must agree with doses {doses.shape} in their last axis")
    if not doses.size or not np.isfinite(doses).all() or doses.min() < 0 or np.ptp(doses) == 0:
        raise ValueError(f"doses are 0 or above and not all equal; found {doses}")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are not finite")
    return doses, values
