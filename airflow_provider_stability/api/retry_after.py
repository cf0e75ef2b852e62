"""The ``Retry-After`` header: seconds or a date (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["parse_retry_after"]

_SECONDS: Final = re.compile(
    r"\d{1,15}(\.\d*)?", re.ASCII
)  # the RFC has whole seconds; fractions are seen too


def parse_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds to wait, 0 or more; None where the header is absent or says nothing readable.

    :param value: the ``Retry-After`` header.
    :param date: the ``Date`` header of the same answer. A date in ``Retry-After`` counts from it, so that a
        wrong clock on either side does not lengthen or shorten the wait; without it, from this machine's
        clock.
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
    return max(0.0, until - (time.time() if since is None else since))


def _timestamp(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        # Every form of an HTTP date is in GMT, also the old one that does not say so.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
