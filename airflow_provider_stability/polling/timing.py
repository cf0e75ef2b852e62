"""How often the polls ask, how long they believe an answer, and which clock they go by, all in one place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Clock", "Timing"]


class Clock(Protocol):
    """What the polls need of the ``time`` module, which is one."""

    def time(self) -> float:
        """Return the seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow, even if somebody sets the clock."""
        ...


@dataclass(frozen=True)
class Timing:
    """All in seconds, unless the name says otherwise.

    :param requests: so many requests in a ``window`` with one key. Stability AI publishes 150 in 10 s.
    :param min_interval: between two polls, whatever a gate asks for.
    :param fresh: so long an answer opens a gate that comes later. If it is older, another gate's job may have
        spent the credits, and the service is asked first.
    :param linger: so long a poll outlives its last gate, without a request.
    :param settings: so long the settings of a connection are believed.
    :param read: so long a read of the connection may take before another one is started.
    :param default_organization: so long it is believed which organization is an account's default.
    :param log_balance: between two log lines of a gate for a balance that goes up and down.
    :param log_anything: after so long without news, a gate logs a line all the same.
    :param notify_pause: between two groups of gates that log a line, so that the event loop gets its turns.
    :param notify_gates: so many gates are such a group: a log line costs much more than a wake-up.
    :param wake_gates: so many gates are woken before the event loop gets a turn.
    """

    clock: Clock = time
    requests: int = 120
    window: float = 10.0
    min_interval: float = 0.05
    fresh: float = 5.0
    linger: float = 10.0
    settings: float = 60.0
    read: float = 60.0
    default_organization: float = 600.0
    log_balance: float = 60.0
    log_anything: float = 600.0
    notify_pause: float = 0.01
    notify_gates: int = 20
    wake_gates: int = 500
