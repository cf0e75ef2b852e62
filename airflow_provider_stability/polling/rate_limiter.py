"""When a request is allowed with one key: the published rate limit, and the pauses that the service wants."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from airflow_provider_stability.polling.timing import Timing

__all__ = ["Pause", "RateLimiter"]


@dataclass(frozen=True)
class Pause:
    """A time without requests: the error that asked for it, and its end in seconds since the epoch."""

    error: str
    until: float


class RateLimiter:
    """The requests and the pause of one API key. May be used from any thread."""

    def __init__(self, timing: Timing | None = None) -> None:
        timing = timing or Timing()
        self._clock = timing.clock
        self._window = timing.window
        self._requests: deque[float] = deque(maxlen=timing.requests)
        self._pause: Pause | None = None
        self._pause_end = 0.0
        self._lock = threading.Lock()

    @property
    def delay(self) -> float:
        """Seconds until a request is allowed; 0 if it is now."""
        is_full = len(self._requests) == self._requests.maxlen
        free_at = self._requests[0] + self._window if is_full else 0.0
        return max(0.0, free_at - self._clock.monotonic(), self._pause_end - self._clock.monotonic())

    @property
    def current_pause(self) -> Pause | None:
        """The pause that the service has asked for, until it is over."""
        return self._pause if self._pause_end > self._clock.monotonic() else None

    def try_acquire(self) -> bool:
        """Count a request if it is allowed now, and return whether it is."""
        with self._lock:
            if self.delay > 0:
                return False
            self._requests.append(self._clock.monotonic())
            return True

    def pause(self, seconds: float, error: str) -> None:
        """Allow no request for so long. The longest of several pauses counts."""
        with self._lock:
            end = self._clock.monotonic() + seconds
            if end > self._pause_end:
                self._pause_end = end
                self._pause = Pause(error, self._clock.time() + seconds)
