"""Checks of the values that callers pass in. Each error names the value and what is allowed."""

from __future__ import annotations

import math


def number(
    name: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> float:
    """Return ``value`` as a finite float.

    :param name: what the value is, for the message.
    :param value: an int or a float; a bool is refused, since it is nearly always a mistake.
    :param low: the smallest value allowed.
    :param high: the largest value allowed; needs ``low``.
    :param above: the value must be greater than this.
    :raises ValueError: for anything else.
    """
    limits = f" above {above:g}" if above is not None else _limits(low, high)
    refusal = ValueError(f"{name} is {value!r}; it must be a finite number{limits}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refusal
    try:
        result = float(value)
    except OverflowError:
        raise refusal from None
    if not math.isfinite(result) or (above is not None and result <= above):
        raise refusal
    if (low is not None and result < low) or (high is not None and result > high):
        raise refusal
    return result


def whole(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int between ``low`` and ``high``, inclusive.

    :raises ValueError: for anything else.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        raise ValueError(f"{name} is {value!r}; it must be a whole number{_limits(low, high)}")
    return value


def of_type(name: str, value: object, types: type | tuple[type, ...], allowed: str) -> None:
    """Accept a ``value`` of one of the ``types``, which ``allowed`` describes.

    :raises ValueError: for anything else; not TypeError, since values also come from JSON.
    """
    refusal = ValueError(f"{name} is {value!r}; it must be {allowed}")
    if not isinstance(value, types):
        raise refusal


def text(name: str, value: object, *, example: str) -> str:
    """Return ``value``, a string that is safe in one header line: not empty, printable Latin-1.

    :param example: a value that is allowed, for the message.
    :raises ValueError: for anything else.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or max(value) > "\xff":
        raise ValueError(f"{name} is {value!r}; it must be printable text on one line, such as {example!r}")
    return value


def key(value: object) -> str:
    """Return an API key that fits into a header. The message of the error leaves the key out.

    :raises ValueError: for an empty key, whitespace or anything but printable ASCII.
    """
    if not isinstance(value, str) or not value or not all("!" <= character <= "~" for character in value):
        raise ValueError("the API key must be printable ASCII without whitespace, and not empty")
    return value


def _limits(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f" of {low:.12g} or more" if high is None else f" from {low:.12g} to {high:.12g}"
