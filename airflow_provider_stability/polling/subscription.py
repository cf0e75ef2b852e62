"""One gate's, or one watcher's, place in a balance poll."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from airflow_provider_stability.gate.observation import Observation

if TYPE_CHECKING:
    from airflow_provider_stability.gate.outcome import Failed, Opened
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["Subscription"]


class _Poll(Protocol):
    """What a subscription needs of its poll."""

    timing: Timing
    latest: Observation

    def cancel(self, subscription: Subscription) -> None: ...


class Subscription:
    """Made by ``subscribe``; to be ended with ``cancel``.

    :param needed: the credits that the gate waits for.
    :param interval: seconds between two polls, at most.
    :param is_watcher: whether every poll notifies it. No balance resolves a watcher.
    """

    __slots__ = ("_future", "_has_news", "_poll", "interval", "needed", "outcome", "reported", "reported_at")

    def __init__(self, poll: _Poll, needed: float, interval: float, *, is_watcher: bool) -> None:
        self._poll = poll
        self.needed = math.inf if is_watcher else needed
        self.interval = interval
        self.outcome: Opened | Failed | None = None
        self.reported = Observation()  # what it was last notified of
        self.reported_at = poll.timing.clock.monotonic()
        self._has_news = False
        self._future: asyncio.Future[None] | None = None  # an Event would take 0.8 KiB of each gate

    @property
    def is_watcher(self) -> bool:
        """Whether every poll notifies it: a gate's need is finite."""
        return self.needed == math.inf

    @property
    def latest(self) -> Observation:
        """What the poll has found so far."""
        return self._poll.latest

    async def wait(self) -> None:
        """Return when there is an outcome, or something new to log."""
        if not self._has_news:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        self._has_news = False

    def resolve(self, outcome: Opened | Failed) -> None:
        """Give the outcome, once."""
        self.outcome = self.outcome or outcome
        self._wake()

    def notify(self) -> None:
        """Wake the gate, so that it logs what was found."""
        self.reported, self.reported_at = self.latest, self._poll.timing.clock.monotonic()
        self._wake()

    def has_news(self) -> bool:
        """Return whether a log line is due: at once for another state, now and then for another balance."""
        timing, silent = self._poll.timing, self._poll.timing.clock.monotonic() - self.reported_at
        return (
            self.reported.state != self.latest.state
            or (self.reported.credits != self.latest.credits and silent >= timing.log_balance)
            or silent >= timing.log_anything
        )

    def cancel(self) -> None:
        """End the subscription."""
        self._poll.cancel(self)

    def _wake(self) -> None:
        self._has_news = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
