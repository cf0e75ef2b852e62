"""Checks of what people hand to the simulator: each refusal names the value and what is allowed."""

from __future__ import annotations

import math


def number(name: str, value: object, *, low: float | None = None, above: float | None = None) -> float:
    """Return ``value`` as a finite float.

    :param name: what the value is, for the message.
    :param value: an int or a float; a bool is refused, since it is nearly always a mistake.
    :param low: the least value allowed, if any.
    :param above: the value has to be greater than this, if given.
    :raises ValueError: for anything else.
    """
    limits = f" of at least {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    refusal = ValueError(f"{name} must be a finite number{limits}, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refusal
    try:
        result = float(value)
    except OverflowError:
        raise refusal from None
    if not math.isfinite(result):
        raise refusal
    if (low is not None and result < low) or (above is not None and result <= above):
        raise refusal
    return result


def of_kind(name: str, value: object, kinds: type | tuple[type, ...], allowed: str) -> None:
    """Let through a ``value`` of one of the types ``kinds``, which ``allowed`` puts into words.

    :raises ValueError: for anything else; not TypeError, since values also come out of JSON.
    """
    refusal = ValueError(f"{name} must be {allowed}, not {value!r}")
    if not isinstance(value, kinds):
        raise refusal


def whole(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int between ``low`` and ``high``, both included.

    :raises ValueError: for anything else.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"between {low} and {high}" if high is not None else f"of at least {low}"
        raise ValueError(f"{name} must be a whole number {allowed}, not {value!r}")
    return value


def text(name: str, value: object, *, example: str) -> str:
    """Return ``value``, a string that is safe in one header line: not empty, printable Latin-1.

    :param example: a value that is allowed, for the message.
    :raises ValueError: for anything else.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or max(value) > "\xff":
        raise ValueError(f"{name} must be printable text on one line, such as {example!r}, not {value!r}")
    return value


def key(value: object) -> str:
    """Return an API key that fits a header; the message of a refusal leaves the key out.

    :raises ValueError: for an empty key, white space or anything beyond printable ASCII.
    """
    if not isinstance(value, str) or not value or not all("!" <= character <= "~" for character in value):
        raise ValueError("the API key must be printable ASCII without white space, and not empty")
    return value
