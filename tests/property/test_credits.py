"""Thresholds, and the words for them: what a gate says is what it decided, to the last digit."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.credits import describe, describe_credits, is_enough, parse_credits
from support.properties import EVERY_RUN_THE_SAME, JSON, attempt

AMOUNTS = st.floats(-1e18, 1e18) | st.integers(-(10**6), 10**6).map(float) | st.floats(-100, 100)
THRESHOLDS = AMOUNTS.map(abs)
ANYTHING = (
    JSON
    | st.binary()
    | st.decimals()
    | st.fractions()
    | st.complex_numbers()
    | st.text("0123456789.eE+-_ \t\u0663")
    | st.builds(object)
)
SHORT = re.compile(r"(\S+) credits?, need (\S+)(?:, short (\S+))?")


def said(available: float, needed: float) -> tuple[float, float, Decimal | None]:
    """Return the numbers in the line about a balance."""
    found = SHORT.fullmatch(describe(available, needed))
    assert found is not None
    return float(found[1]), float(found[2]), Decimal(found[3]) if found[3] is not None else None


@EVERY_RUN_THE_SAME
@given(ANYTHING)
@example("1_000")
@example(value=True)
@example(10**400)
@example(Decimal("sNaN"))
def test_threshold_is_a_finite_number_of_0_or_more_or_refused(value: object) -> None:
    found = attempt(lambda: parse_credits("rearm_band", value), StabilityParameterError)
    if isinstance(found, StabilityParameterError):
        assert str(found).startswith("rearm_band is ")
        assert "; it must be a finite number of 0 or more" in str(found)
    else:
        assert type(found) is float
        assert math.isfinite(found)
        assert found >= 0


@EVERY_RUN_THE_SAME
@given(THRESHOLDS)
def test_every_form_of_a_threshold_is_the_same_number(number: float) -> None:
    forms = (number, repr(number), f" {number!r}\n", Decimal(number), Fraction(number))
    assert {parse_credits("x", each) for each in forms} == {number}


@EVERY_RUN_THE_SAME
@given(st.floats(max_value=0, exclude_max=True) | st.sampled_from((math.nan, math.inf)))
def test_invalid_threshold_is_refused_as_text_too(number: float) -> None:
    for form in (number, repr(number)):
        with pytest.raises(StabilityParameterError):
            parse_credits("x", form)


@EVERY_RUN_THE_SAME
@given(AMOUNTS, THRESHOLDS)
@example(39.99999999999999, 40.0)
@example(0.0, 5e-324)
@example(1e15 - 0.125, 1e15)
def test_message_agrees_with_the_decision(available: float, needed: float) -> None:
    shown, need, short = said(available, needed)
    assert (shown, need) == (available, needed)
    assert is_enough(shown, need) == is_enough(available, needed) == (short is None)


@EVERY_RUN_THE_SAME
@given(THRESHOLDS, st.integers(1, 5))
def test_smallest_shortage_is_not_shown_as_0_and_does_not_open(needed: float, steps: int) -> None:
    available = needed
    for _ in range(steps):
        available = math.nextafter(available, -math.inf)
    assert not is_enough(available, needed)
    short = said(available, needed)[2]
    assert short is not None
    assert short > 0


@EVERY_RUN_THE_SAME
@given(st.integers(-(10**7), 10**7), st.integers(0, 10**7))
def test_shortage_in_hundredths_is_exact(available: int, needed: int) -> None:
    short = said(available / 100, needed / 100)[2]
    assert (short or 0) == max(Decimal(needed - available) / 100, Decimal(0))


@EVERY_RUN_THE_SAME
@given(AMOUNTS, THRESHOLDS, THRESHOLDS)
def test_enough_for_more_is_enough_for_less(available: float, one: float, other: float) -> None:
    if is_enough(available, max(one, other)):
        assert is_enough(available, min(one, other))


@EVERY_RUN_THE_SAME
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shown_balance_reads_back_as_the_same_number(available: float) -> None:
    assert float(describe_credits(available).split()[0]) == available
