"""What a threshold may be, when credits are enough, and the words for both."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.credits import (
    describe,
    describe_credits,
    is_enough,
    parse_min_credits,
)

REFUSED = [
    "",
    " ",
    "forty",
    "4 0",
    "40,5",
    "1_000",
    "0x10",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "-1",
    "None",
    -1,
    -0.001,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal(-1),
    Fraction(-1, 2),
    True,
    False,
    None,
    b"40",
    1j,
    [40],
    (40,),
    {"credits": 40},
    object(),
]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0.0),
        (40, 40.0),
        (12.5, 12.5),
        (1e300, 1e300),
        ("40", 40.0),
        (" 40\n", 40.0),
        ("+40", 40.0),
        ("12.5", 12.5),
        (".5", 0.5),
        ("4e1", 40.0),
        ("0", 0.0),
        (Decimal("0.1"), 0.1),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_number_or_its_text_is_accepted_as_a_threshold(value: object, number: float) -> None:
    parsed = parse_min_credits(value)
    assert type(parsed) is float
    assert parsed == number


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: repr(value)[:20])
def test_anything_but_a_finite_number_of_0_or_more_is_refused(value: object) -> None:
    with pytest.raises(StabilityParameterError) as caught:
        parse_min_credits(value)
    assert str(caught.value).startswith(f"min_credits is {value!r}")
    assert "it must be a finite number of 0 or more" in str(caught.value)
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("available", "needed", "enough"),
    [
        (40.0, 40.0, True),
        (40.1, 40.0, True),
        (39.99999999999999, 40.0, False),
        (0.0, 0.0, True),
        (-0.0, 0.0, True),
        (-0.1, 0.0, False),
        (-100.0, 40.0, False),
        (1e308, 1e307, True),
    ],
)
def test_a_balance_of_at_least_the_threshold_is_enough(
    available: float, needed: float, *, enough: bool
) -> None:
    assert is_enough(available, needed) is enough


@pytest.mark.parametrize(
    ("available", "words"),
    [
        (12.5, "12.5 credits"),
        (40.0, "40 credits"),
        (0.0, "0 credits"),
        (1.0, "1 credit"),
        (-1.0, "-1 credit"),
        (1.5, "1.5 credits"),
        (0.9999999999999999, "0.9999999999999999 credits"),
        (-3.25, "-3.25 credits"),
        (100.0, "100 credits"),
        (39.99999, "39.99999 credits"),
        (39.99999999999999, "39.99999999999999 credits"),
        (0.6336833840314097, "0.6336833840314097 credits"),
        (1e-7, "0.0000001 credits"),
        (123456789.25, "123456789.25 credits"),
        (1e15, "1000000000000000.0 credits"),
        (1e300, "1e+300 credits"),
    ],
)
def test_credits_are_written_out_in_full(available: float, words: str) -> None:
    assert describe_credits(available) == words


@pytest.mark.parametrize(
    ("available", "needed", "words"),
    [
        (12.5, 40.0, "12.5 credits, need 40, short 27.5"),
        (39.9, 40.0, "39.9 credits, need 40, short 0.1"),
        (1.0, 40.0, "1 credit, need 40, short 39"),
        (0.1, 0.3, "0.1 credits, need 0.3, short 0.2"),
        (-5.0, 10.0, "-5 credits, need 10, short 15"),
        (39.99999999999999, 40.0, "39.99999999999999 credits, need 40, short 0.00000000000001"),
        (0.0, 1e300, "0 credits, need 1e+300, short 1e+300"),
        (40.0, 40.0, "40 credits, need 40"),
        (50.25, 40.0, "50.25 credits, need 40"),
    ],
)
def test_a_balance_is_described_with_what_is_needed_and_what_is_missing(
    available: float, needed: float, words: str
) -> None:
    assert describe(available, needed) == words


def test_a_shortage_is_never_described_as_nothing() -> None:
    needed = 40.0
    available = math.nextafter(needed, 0)
    shown = describe(available, needed)
    assert not shown.startswith("40 credits")
    assert not shown.endswith("short 0")
