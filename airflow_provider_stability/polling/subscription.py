"""One gate's, or one watcher's, place in a balance poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from airflow_provider_stability.gate.observation import Observation

if TYPE_CHECKING:
    from airflow_provider_stability.gate.outcome import Failed, Opened
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["Subscription"]


class _Source(Protocol):
    """What a subscription needs of its poll."""

    timing: Timing
    latest: Observation

    @property
    def is_first_answer_due(self) -> bool: ...

    def cancel(self, subscription: Subscription) -> None: ...


class Subscription:
    """Made by ``subscribe``; to be ended with ``cancel``.

    :param needed: the credits that the gate waits for.
    :param interval: seconds between two polls, at most.
    :param is_watcher: whether every poll notifies it. No balance resolves a watcher.
    """

    __slots__ = (
        "_future",
        "_is_notified",
        "_source",
        "interval",
        "is_watcher",
        "needed",
        "outcome",
        "reported",
    )

    def __init__(self, source: _Source, needed: float, interval: float, *, is_watcher: bool) -> None:
        self._source = source
        self.needed = needed
        self.interval = interval
        self.is_watcher = is_watcher
        self.outcome: Opened | Failed | None = None
        self.reported = (Observation(), source.timing.clock.monotonic())
        """What it was last notified of, and when."""
        self._is_notified = False
        self._future: asyncio.Future[None] | None = None

    @property
    def latest(self) -> Observation:
        """What the poll has found so far."""
        return self._source.latest

    @property
    def is_first_answer_due(self) -> bool:
        """Whether the first answer is under way, so that a wait whose time is over may still look once."""
        return self._source.is_first_answer_due

    async def wait(self) -> None:
        """Return when there is an outcome, or something new to log."""
        if self.outcome is None and not self._is_notified:
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._is_notified = False

    def resolve(self, outcome: Opened | Failed) -> None:
        """Give the outcome, once."""
        if self.outcome is None:
            self.outcome = outcome
            self._wake()

    def notify(self) -> None:
        """Wake the gate, so that it logs what was found."""
        self.reported = (self.latest, self._source.timing.clock.monotonic())
        self._is_notified = True
        self._wake()

    def has_news(self) -> bool:
        """Return whether a log line is due: at once for another state, now and then for another balance."""
        timing, (reported, at) = self._source.timing, self.reported
        silent = timing.clock.monotonic() - at
        is_other_balance = reported.credits != self.latest.credits
        return (
            reported.state != self.latest.state
            or (is_other_balance and silent >= timing.log_balance)
            or silent >= timing.log_anything
        )

    def cancel(self) -> None:
        """End the subscription."""
        self._source.cancel(self)

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
