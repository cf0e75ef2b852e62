"""How often the polls ask, how long they believe an answer, and which clock they go by, all in one place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "Timing"]


class Clock(Protocol):
    """The wall clock, and a clock that nobody can set. The ``time`` module has both."""

    time: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """All in seconds, unless the name says otherwise.

    :param requests: so many requests in a ``window`` with one key. Stability AI publishes 150 in 10 s.
    :param min_interval: between two polls, whatever a gate asks for.
    :param fresh: how long an answer opens a gate that comes later. After that, a job may have spent the
        credits.
    :param linger: how long a poll outlives its last gate, without a request.
    :param settings: how long the settings of a connection are believed.
    :param read: how long a read of the connection may take before another one is started.
    :param default_organization: how long it is believed which organization is an account's default.
    :param account: how long a poll waits to learn that, before it asks on its own.
    :param log_balance: between two log lines of a gate for a balance that goes up and down.
    :param log_anything: after so long without news, a gate logs a line all the same.
    :param wake_gates: the number of gates to wake before the event loop gets a turn.
    :param notify_gates: the same for gates that log, which is slower; ``notify_pause`` follows each batch.
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
    account: float = 2.0
    log_balance: float = 60.0
    log_anything: float = 600.0
    wake_gates: int = 500
    notify_gates: int = 20
    notify_pause: float = 0.01
