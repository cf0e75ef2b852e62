"""How many credits are enough: what a threshold may be, the comparison, and the words for it.

One place, so that a gate, a branch and a log line cannot disagree.
"""

from __future__ import annotations

import math
import numbers
from decimal import Decimal
from typing import Final

from airflow_provider_stability.exceptions import StabilityParameterError

__all__ = [
    "describe",
    "describe_credits",
    "format_number",
    "is_enough",
    "parse_credits",
    "parse_min_credits",
]

_PLAIN_BELOW: Final = 1e15  # above, a float's decimals are noise, and a plain number is hard to read


def parse_min_credits(value: object) -> float:
    """Return the threshold that a task's ``min_credits`` stands for.

    :param value: a number, or the text that a template rendered to; finite, 0 or more.
    :raises StabilityParameterError: for anything else.
    """
    return parse_credits("min_credits", value, ", or a template that renders to one")


def parse_credits(name: str, value: object, or_what: str = "") -> float:
    """Return the number of credits that a parameter stands for.

    :param name: of the parameter, for the error.
    :param or_what: what else it may be, for the error.
    :raises StabilityParameterError: for anything but a finite number of 0 or more, or the text of one.
    """
    must_be = f"it must be a finite number of 0 or more{or_what}"
    # To Python a bool is an int; to everybody else min_credits=True is a mistake.
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real | Decimal):
        raise StabilityParameterError(f"{name} is {value!r}, a {type(value).__name__}; {must_be}")
    try:
        # float() accepts "1_000", which nobody writes into a template on purpose.
        number = math.nan if isinstance(value, str) and "_" in value else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise StabilityParameterError(f"{name} is {value!r}; {must_be}")
    return number


def is_enough(available: float, needed: float) -> bool:
    """Return whether a job that needs ``needed`` credits can start on ``available``."""
    return available >= needed


def describe_credits(available: float) -> str:
    """Return a number of credits in words, such as ``12.5 credits``."""
    return f"{format_number(available)} {'credit' if abs(available) == 1 else 'credits'}"


def describe(available: float, needed: float) -> str:
    """Return a balance and a need in one line, such as ``12.5 credits, need 40, short 27.5``."""
    line = f"{describe_credits(available)}, need {format_number(needed)}"
    return line if is_enough(available, needed) else f"{line}, short {_difference(needed, available)}"


def format_number(number: float) -> str:
    """Write a number out in full: rounding could show 39.99999 credits as the 40 that are needed."""
    if abs(number) >= _PLAIN_BELOW:
        return repr(number)
    text = format(Decimal(repr(float(number))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _difference(needed: float, available: float) -> str:
    # In decimal, as a person would: 40 - 39.9 is 0.1, where floats say 0.10000000000000142.
    return format_number(float(Decimal(repr(needed)) - Decimal(repr(available))))
