"""Numbers as they are printed: with their interval, a true minus sign, and no more digits than they deserve."""

from __future__ import annotations

import math

from cortexff.analysis.statistics import Effect, Interval

UNKNOWN = "–"


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number, a dash where there is none; large ones in powers of ten."""
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1e7:
        return f"{value:{'+' if signed else ''}.1e}".replace("-", "−")
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    # Too small for the usual digits, though not for what single precision tells from 0.
    if digits and float(text) == 0 and abs(value) > 10.0 ** -(digits + 3):
        text = f"{value:{'+' if signed else ''}.1g}"
    return text.replace("-", "−")


def three_digits(value: float) -> str:
    """A number below a million with three digits that count, and zeros for the others."""
    return f"{float(f'{value:.3g}'):g}".replace("-", "−")


def p_value(p: float) -> str:
    """A probability of a test."""
    return UNKNOWN if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def estimate(found: Interval | Effect | None, digits: int = 2, signed: bool = False) -> str:
    """A mean and its interval; of an effect its d_z too."""
    if found is None:
        return UNKNOWN
    if math.isnan(found.mean):
        if isinstance(found, Effect):
            return f"{found.lost} of {found.n} diverged; up in {found.up}, down in {found.down}"
        return UNKNOWN
    text = number(found.mean, digits, signed)
    if not math.isnan(found.low):
        text += f" [{number(found.low, digits, signed)}, {number(found.high, digits, signed)}]"
    if isinstance(found, Effect) and math.isfinite(found.d_z):
        text += f", d_z {number(found.d_z, 1)}"
    return text
