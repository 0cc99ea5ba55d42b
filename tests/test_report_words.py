"""Numbers are printed with the digits that they deserve."""

import math

import numpy as np
import pytest

from cortexff.analysis.statistics import Interval, effect
from cortexff.report.words import estimate, number, p_value


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.005, 1, "1.0"),
        (-0.5, 1, "−0.5"),
        (0.0004, 2, "0.0004"),  # too small for two digits, and not 0
        (4e-8, 2, "0.00"),  # rounding of single precision
        (0.0, 2, "0.00"),
        (3.2e9, 0, "3.2e+09"),
        (math.nan, 2, "–"),
        (-math.inf, 2, "−∞"),
    ],
)
def test_numbers_have_a_true_minus_and_enough_digits(value, digits, text):
    """Neither a row of zeros for what is small, nor a row of digits for what is large."""
    assert number(value, digits) == text


def test_a_change_is_signed():
    """Its interval too."""
    assert estimate(Interval(1.0, -0.5, 2.5, 10), 1, signed=True) == "+1.0 [−0.5, +2.5]"


def test_an_effect_brings_its_size_in_standard_deviations():
    """Or says who is lost, where its size is not known."""
    before = np.arange(10.0)
    after = before + np.linspace(0.5, 1.5, 10)
    assert estimate(effect(after, before), 1).startswith("1.0 [0.8, 1.2], d_z ")
    after[0] = np.nan
    assert estimate(effect(after, before)) == "1 of 10 diverged; up in 10, down in 0"


def test_what_is_not_known_is_a_dash():
    """Of one subject there is no interval, of none no number."""
    assert estimate(None) == "–" and estimate(Interval(2.0, math.nan, math.nan, 1), 0) == "2"


def test_small_p_are_not_printed_as_zero():
    """Below a thousandth."""
    assert [p_value(p) for p in (0.0004, 0.0123, math.nan)] == ["< 0.001", "0.012", "–"]
