"""The ``Retry-After`` header: seconds or a date (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["parse_retry_after"]

# The RFC has whole seconds; some services send fractions.
_SECONDS: Final = re.compile(r"\d{1,15}(\.\d*)?", re.ASCII)


def parse_retry_after(
    value: str | None, date: str | None = None, *, now: Callable[[], float] = time.time
) -> float | None:
    """Return the seconds to wait, 0 or more; None if the header is absent or unreadable.

    :param value: the ``Retry-After`` header.
    :param date: the ``Date`` header of the same response. A date in ``Retry-After`` counts from it, so that a
        wrong clock on either side does not change the wait.
    :param now: returns seconds since the epoch, for a date in a response without a readable ``Date``.
    """
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _timestamp(value)
    if until is None:
        return None
    since = _timestamp(date) if date else None
    return max(0.0, until - (now() if since is None else since))


def _timestamp(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        # Every form of an HTTP date is in GMT, even the old one that does not state it.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
