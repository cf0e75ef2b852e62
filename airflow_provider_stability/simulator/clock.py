"""Where the simulator gets the time from, so that a test can set it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A clock like the standard library's module ``time``, which is one."""

    def time(self) -> float:
        """Return the seconds since the epoch."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes backwards."""
