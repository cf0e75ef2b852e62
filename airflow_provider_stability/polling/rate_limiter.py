"""What may be asked with one key, and when: the published limit, and the pauses the service asks for."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["BUDGET", "WINDOW", "Budget", "Reason"]

BUDGET: Final = 120
WINDOW: Final = 10.0
"""So many requests in so many seconds with one key, of the 150 in 10 s that Stability AI publishes."""


@dataclass(frozen=True)
class Reason:
    """Why the service is left alone.

    :param error: what it said.
    :param until: seconds since the epoch.
    """

    error: str
    until: float


class Budget:
    """What the service was asked with one key, and how long it wants to be left alone.

    Outlives its poller for as long as it matters: who joins after the last one has left is no new customer.
    """

    def __init__(self) -> None:
        self._requests: deque[float] = deque(maxlen=BUDGET)
        self._pause_end = 0.0
        self.reason: Reason | None = None
        """That of the pause, while there is one."""
        self._lock = threading.Lock()

    @property
    def wait(self) -> float:
        """Seconds until a request may be made; 0 where it may now. May be read from any thread."""
        now = time.monotonic()
        is_full = len(self._requests) == BUDGET
        free_at = max(self._pause_end, self._requests[0] + WINDOW if is_full else now)
        return max(0.0, free_at - now)

    @property
    def is_paused(self) -> bool:
        """Whether the service has asked for a pause that is not over."""
        return self._pause_end > time.monotonic()

    @property
    def matters_for(self) -> float:
        """Seconds until all this is over."""
        return max(WINDOW, self._pause_end - time.monotonic())

    def take(self) -> bool:
        """Count a request if it may be made now, and return whether it may. From any thread."""
        with self._lock:
            if self.wait > 0:
                return False
            self.count()
            return True

    def count(self) -> None:
        """Count a request."""
        self._requests.append(time.monotonic())

    def pause(self, seconds: float, why: str = "") -> None:
        """Allow none for so long."""
        end = time.monotonic() + seconds
        if end > self._pause_end:
            self._pause_end = end
            self.reason = Reason(why, time.time() + seconds)
