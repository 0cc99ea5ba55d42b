"""Numbers, lists and names as they are printed; a number with its interval and no more digits than it deserves."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from cortexff.analysis.statistics import Effect, Interval
from cortexff.protocol.schedule import Protocol

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


def span(values: Sequence[float], signed: bool = False) -> str:
    """The least and the greatest; once where they are alike."""
    return " to ".join(dict.fromkeys(number(one, 1, signed) for one in (min(values), max(values))))


def listed(texts: Sequence[str]) -> str:
    """a, b and c."""
    return ", ".join(texts[:-1]) + f" and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def one_of(values: Collection[int | str]) -> str:
    """a or b."""
    return " or ".join(map(str, sorted(values)))


def in_words(name: str) -> str:
    """A name without its underlines."""
    return name.replace("_", " ")


def named(protocol: Protocol) -> str:
    """The image set as it is spelled in a sentence."""
    return {"digits": "the digits"}.get(protocol.stimuli.images, protocol.stimuli.images.upper())


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their heads, in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
