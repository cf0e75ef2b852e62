"""The gates that wait on one organization's credits: when to ask for all of them, and whom to wake.

Knows samples and waiters; how to ask, and what is common to a key, is the poller's (``polling``).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_stability.exceptions import StabilityConnectionError, StabilityError
from airflow_provider_stability.gate.credits import is_enough
from airflow_provider_stability.gate.observation import Wait, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.polling.poller import Poller
    from airflow_provider_stability.polling.rate_limiter import Reason

__all__ = ["Failed", "Opened", "Stream", "Waiter"]

log = logging.getLogger(__name__)

FRESH: Final = 5.0
"""Seconds for which a sample that is enough opens a gate that joins. An older one is read anew first, since
another gate's job may have spent it. One that is not enough needs no confirmation before the next poll."""

LINE_EVERY: Final = 60.0
"""Seconds at least between two lines of a gate's log for a balance that goes up and down."""

HEARTBEAT: Final = 600.0
"""Seconds without news after which a gate's log has a line all the same."""

SLICE: Final = 500  # waiters that are woken before the event loop gets a turn
_NEWS_SLICE: Final = 20  # a line of a log costs much more than a wake
_NEWS_GAP: Final = 0.01
_SHORTEST: Final = 0.05  # seconds between two polls, whatever is asked for


@dataclass(frozen=True)
class Opened:
    """There are enough credits."""

    credits: float


@dataclass(frozen=True)
class Failed:
    """An error that waiting cannot mend.

    A value to read: raised by many waiters, one exception would grow a traceback from each of them.
    """

    error: StabilityError


class Waiter:
    """One gate's place in a stream. Made by ``Stream.add``, and to be left with ``leave``.

    :param needed: the credits it waits for.
    :param interval: seconds between two polls, at most.
    :param is_watcher: whether it is woken by every poll, and never settled by a balance.
    """

    __slots__ = (
        "_future",
        "_is_woken",
        "interval",
        "is_watcher",
        "needed",
        "outcome",
        "stream",
        "told_at",
        "told_credits",
        "told_state",
    )

    def __init__(self, stream: Stream, needed: float, interval: float, *, is_watcher: bool) -> None:
        self.stream = stream
        self.needed = needed
        self.interval = interval
        self.is_watcher = is_watcher
        self.outcome: Opened | Failed | None = None
        self.told_at = time.monotonic()
        self.told_state: object = None
        self.told_credits: float | None = None
        self._is_woken = False
        self._future: asyncio.Future[None] | None = None

    @property
    def known(self) -> Wait:
        """What the stream knows."""
        return self.stream.known

    @property
    def is_known(self) -> bool:
        """Whether the last poll brought a balance."""
        return self.stream.is_known

    @property
    def may_still_hear(self) -> bool:
        """Whether a first answer is under way, so that a wait whose time is over may still look once."""
        return self.stream.polled_at is None and not self.stream.poller.is_paused

    @property
    def is_over(self) -> bool:
        """Whether there is an outcome."""
        return self.outcome is not None

    async def wait(self) -> None:
        """Return when there is an outcome, or something new to say."""
        if self.outcome is None and not self._is_woken:
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._is_woken = False

    def settle(self, outcome: Opened | Failed) -> None:
        """Give the outcome, once."""
        if self.outcome is None:
            self.outcome = outcome
            self._wake()

    def tell(self) -> None:
        """Wake the gate, so that it says what is known."""
        self.told_at = time.monotonic()
        self.told_state = self.stream.state
        self.told_credits = self.stream.known.credits
        self._is_woken = True
        self._wake()

    def is_owed_news(self, now: float) -> bool:
        """Whether its log should have a line: at once for another state, now and then for another balance."""
        silent = now - self.told_at
        is_other = self.told_credits != self.stream.known.credits
        return (
            self.told_state != self.stream.state or (is_other and silent >= LINE_EVERY) or silent >= HEARTBEAT
        )

    def leave(self) -> None:
        """Wait no more. The last one to leave takes the stream, and the last stream the poller, with it."""
        self.stream.remove(self)

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Stream:
    """The gates that wait on one organization of one key, and the poll that serves them."""

    def __init__(self, poller: Poller, organization: str | None) -> None:
        self.poller = poller
        self.organization = organization
        self.known = Wait()
        self.waiters: dict[Waiter, None] = {}  # a set that keeps the order in which they came
        self.polled_at: float | None = None
        self.is_known = False  # whether the last poll brought a balance
        self._by_need: list[tuple[float, int, Waiter]] = []
        self._numbers = itertools.count()
        self._intervals: Counter[float] = Counter()
        self._changed = asyncio.Event()
        self._heard: Reason | None = None
        self._is_wanted_now = True
        # In a context of its own: that of the gate which happened to come first would get the log lines of
        # the rest.
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._run(), context=contextvars.Context(), name="stability-poll")

    @property
    def state(self) -> object:
        """That whose change is worth a line at once: whether the balance is known, and if not, why."""
        return "known" if self.is_known else self.known.error_kind

    def add(self, needed: float, interval: float, *, is_watcher: bool) -> Waiter:
        """Let somebody wait here."""
        waiter = Waiter(self, needed, interval, is_watcher=is_watcher)
        self.waiters[waiter] = None
        self._intervals[interval] += 1
        if not is_watcher:
            heapq.heappush(self._by_need, (needed, next(self._numbers), waiter))
            if self.polled_at is not None or self.known.error is not None:
                self._answer_from_sample(waiter)
        self._changed.set()
        return waiter

    def _answer_from_sample(self, waiter: Waiter) -> None:
        available = self.known.credits
        if self.is_known and available is not None and is_enough(available, waiter.needed):
            assert self.polled_at is not None
            if time.monotonic() - self.polled_at <= min(FRESH, waiter.interval):
                waiter.settle(Opened(available))
            else:
                self._is_wanted_now = True
        waiter.tell()

    def remove(self, waiter: Waiter) -> None:
        """Let somebody go."""
        if self.waiters.pop(waiter, self) is self:
            return
        self._intervals[waiter.interval] -= 1
        if not self._intervals[waiter.interval]:
            del self._intervals[waiter.interval]
        if not self.waiters:
            self.poller.drop(self)
        elif len(self._by_need) > 2 * len(self.waiters) + SLICE:
            # Those who left are passed over when they come up; here are many that never would.
            self._by_need = [entry for entry in self._by_need if entry[2] in self.waiters]
            heapq.heapify(self._by_need)

    async def _run(self) -> None:
        try:
            await self._poll()
        except Exception as error:
            # A defect of ours. The gates would wait for a poll that is no more, until their time is over.
            log.exception("The poll for organization %r broke", self.organization)
            said = f"the poll broke: {type(error).__name__}; the triggerer's log has the rest"
            await self.poller.fail(self, StabilityError(said))

    async def _poll(self) -> None:
        while True:
            await self._until_due()
            found = await self.poller.ask(self.organization, self._hear)
            # Those who came while it was asked are answered by it, too.
            self._is_wanted_now = False
            self.polled_at = time.monotonic()
            self.is_known = not isinstance(found, StabilityError)
            if isinstance(found, StabilityError):
                self.known.failed(found)
                if not found.transient:
                    await self.poller.fail(self, found)
                    return
            else:
                self.known.found(found)
                await self._open(found)
            for waiter in [each for each in self.waiters if each.is_watcher]:
                waiter.tell()

    async def _hear(self, reason: Reason) -> None:
        """Take up that nothing is asked for a while, which another's request was told."""
        if reason == self._heard or reason.error == self.known.error:
            return
        self._heard = reason
        said = f"no request before {moment(reason.until)}, as the service has said: {reason.error}"
        self.known.failed(StabilityConnectionError(said))
        self.is_known = False
        to_tell = iter(list(self.waiters))
        while True:
            self._changed.clear()
            await self._tell(to_tell, math.inf)
            if not self._changed.is_set():  # else somebody came meanwhile, and not all have been told
                return

    async def _until_due(self) -> None:
        """Return when the next poll is due; meanwhile, tell the gates what is new."""
        # Once after each poll. Who comes later hears at once, so that all need not be gone through again.
        to_tell = iter(list(self.waiters))
        while not self._is_wanted_now:
            assert self.polled_at is not None
            self._changed.clear()
            due = self.polled_at + max(_SHORTEST, min(self._intervals, default=0.0))
            if time.monotonic() >= due:
                return
            await self._tell(to_tell, due)
            left = due - time.monotonic()
            try:
                async with asyncio.timeout(max(left, 0)):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _open(self, available: float) -> None:
        opened = 0
        while self._by_need and is_enough(available, self._by_need[0][0]):
            _, _, waiter = heapq.heappop(self._by_need)
            if waiter in self.waiters:
                waiter.settle(Opened(available))
                opened += 1
                if opened % SLICE == 0:
                    await asyncio.sleep(0)

    async def _tell(self, waiters: Iterator[Waiter], until: float) -> None:
        """Wake those with news for their logs, a few at a time, until then or until somebody comes."""
        told = 0
        for number, waiter in enumerate(waiters, start=1):
            now = time.monotonic()
            if not waiter.is_watcher and waiter.is_owed_news(now):
                waiter.tell()
                told += 1
                if told % _NEWS_SLICE == 0:
                    await asyncio.sleep(_NEWS_GAP)
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if now >= until or self._changed.is_set():
                return
