"""The poll for one organization: when a request is due, and which gates its answer wakes. Its poller asks."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from airflow_provider_stability.exceptions import StabilityConnectionError, StabilityError
from airflow_provider_stability.gate.credits import is_enough
from airflow_provider_stability.gate.observation import Observation, format_utc
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling.shared_key import NotYet
from airflow_provider_stability.polling.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from airflow_provider_stability.polling.rate_limiter import Pause
    from airflow_provider_stability.polling.shared_key import Answer
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["BalancePoll"]

log = logging.getLogger(__name__)

_NEVER: Final = -math.inf


class BalancePoll:
    """One poll for all subscriptions to an organization. It lives some seconds longer than the last of them.

    :param organization: as the gates name it; with the ``connection_id``, for the log.
    :param ask: returns an answer that is newer than a point in time. Errors are answers; what it raises is a
        defect.
    :param on_failed: is told of a permanent error, to make this poll and perhaps others ``fail``.
    :param on_empty: is told that the poll has ended.
    """

    def __init__(
        self,
        connection_id: str,
        organization: str | None,
        timing: Timing,
        *,
        ask: Callable[[str | None, float], Awaitable[Answer | NotYet]],
        on_failed: Callable[[BalancePoll, StabilityError], Awaitable[None]],
        on_empty: Callable[[BalancePoll], None],
    ) -> None:
        self._connection_id, self.organization = connection_id, organization
        self.timing = timing
        self.latest = Observation()
        self._ask, self._on_failed, self._on_empty = ask, on_failed, on_empty
        self._subscriptions: dict[Subscription, None] = {}  # a set that keeps the order in which they came
        self._intervals: Counter[float] = Counter()
        self._refusal: StabilityError | None = None
        self._answered_at = _NEVER
        self._allowed_at = _NEVER
        self._empty_at = timing.clock.monotonic()
        self._is_wanted_now = True
        self._changed = asyncio.Event()
        # In a context of its own: in that of the gate that happens to come first, it would log into that
        # gate's log.
        self._task = asyncio.get_running_loop().create_task(
            self._run(), context=contextvars.Context(), name="stability-poll"
        )

    @property
    def _is_fresh(self) -> bool:
        """Whether the last answer may still open a gate, or fail it."""
        return self.timing.clock.monotonic() - self._answered_at <= min(self.timing.fresh, self._interval)

    @property
    def _interval(self) -> float:
        return max(self.timing.min_interval, min(self._intervals, default=math.inf))

    def subscribe(self, needed: float, interval: float, *, is_watcher: bool) -> Subscription:
        """Let a gate or a watcher wait here."""
        is_first = not self._subscriptions
        subscription = Subscription(self, needed, interval, is_watcher=is_watcher)
        self._subscriptions[subscription] = None
        self._intervals[interval] += 1
        if is_first and (is_watcher or not self._is_fresh):
            # The last answer went to gates that have left. It is too old now, or a watcher needs a new one to
            # start from: begin like a new poll, but for a pause that is not over.
            self._is_wanted_now = True
            if self.timing.clock.monotonic() >= self._allowed_at:
                self.latest, self._refusal = Observation(), None
        if self._refusal is not None:
            self._answer(subscription, Failed(self._refusal))
        elif self.latest.state is not None and not is_watcher:
            available = self.latest.credits
            if self.latest.is_balance_known and available is not None and is_enough(available, needed):
                self._answer(subscription, Opened(available))
            subscription.notify()
        self._changed.set()
        return subscription

    def _answer(self, subscription: Subscription, outcome: Opened | Failed) -> None:
        """Resolve a latecomer with the last answer if it is fresh; otherwise request a new one."""
        if self._is_fresh:
            subscription.resolve(outcome)
        else:
            self._is_wanted_now = True

    def cancel(self, subscription: Subscription) -> None:
        """End a subscription; twice is once."""
        if self._subscriptions.pop(subscription, self) is self:
            return
        self._intervals[subscription.interval] -= 1
        if not self._intervals[subscription.interval]:
            del self._intervals[subscription.interval]
        if not self._subscriptions:
            self._empty_at = self.timing.clock.monotonic()
            self._changed.set()

    async def fail(self, error: StabilityError) -> None:
        """Resolve all subscriptions with a permanent error."""
        self._refusal, self._answered_at = error, self.timing.clock.monotonic()
        await self._resolve(list(self._subscriptions), Failed(error))

    async def _run(self) -> None:
        try:
            while await self._until_due():
                await self._poll()
        except Exception as error:
            # A defect of ours. Without this, the gates would wait for a poll that has ended.
            log.exception("The poll of %r, organization %r broke", self._connection_id, self.organization)
            self._on_empty(self)  # first, so that gates that come from here on get a new poll
            broken = StabilityError(f"the poll broke: {type(error).__name__}; see the triggerer's log")
            await self.fail(broken)
        finally:
            self._on_empty(self)

    async def _poll(self) -> None:
        clock = self.timing.clock
        asked_at = clock.monotonic()
        # The answer to another poll of the same credits counts too, if a gate may wait that long for one.
        answer = await self._ask(self.organization, max(self._answered_at, asked_at - self._interval))
        if isinstance(answer, NotYet):
            # No longer than settings are believed: meanwhile, the connection may have got another key.
            self._allowed_at = clock.monotonic() + min(answer.delay, self.timing.settings)
            if answer.pause is not None:
                self._take_pause(answer.pause)
            return
        # Gates that came meanwhile are answered as well.
        self._is_wanted_now = False
        self._answered_at, self._refusal = answer.at, None
        # What was asked for just now counts, however long the answer took to get here.
        is_recent = answer.at >= asked_at or self._is_fresh
        at = clock.time() - (clock.monotonic() - answer.at)
        if isinstance(answer.found, StabilityError):
            self.latest = self.latest.with_error(answer.found, at)
            if answer.is_refusal and is_recent:
                await self._on_failed(self, answer.found)
            elif answer.is_refusal:
                self._is_wanted_now = True
        else:
            self.latest = self.latest.with_credits(answer.found, at)
            enough = [each for each in self._subscriptions if is_enough(answer.found, each.needed)]
            if is_recent:
                await self._resolve(enough, Opened(answer.found))
            elif enough:
                self._is_wanted_now = True
        for subscription in [each for each in self._subscriptions if each.is_watcher]:
            subscription.notify()

    def _take_pause(self, pause: Pause) -> None:
        """Tell the gates that no request is allowed, unless they know it from the answer that said so."""
        message = f"no request until {format_utc(pause.until)}, as the service asked: {pause.error}"
        if self.latest.is_balance_known or self.latest.error not in (message, pause.error):
            self.latest = self.latest.with_error(StabilityConnectionError(message), self.timing.clock.time())

    async def _resolve(self, subscriptions: list[Subscription], outcome: Opened | Failed) -> None:
        """End subscriptions, and give the event loop its turns meanwhile."""
        for number, subscription in enumerate(subscriptions, start=1):
            if subscription in self._subscriptions:  # else its gate has gone meanwhile
                self.cancel(subscription)
                subscription.resolve(outcome)
                if number % self.timing.wake_gates == 0:
                    await asyncio.sleep(0)

    async def _until_due(self) -> bool:
        """Return True when a request is due, and False when nobody has subscribed for some time."""
        # Go through all gates once per answer. A gate that comes later is notified when it subscribes.
        to_notify = iter(list(self._subscriptions))
        while True:
            self._changed.clear()
            is_empty = not self._subscriptions
            due = self._empty_at + self.timing.linger if is_empty else self._due_at()
            if self.timing.clock.monotonic() >= due:
                return not is_empty
            await self._notify(to_notify, due)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self.timing.clock.monotonic())):
                    await self._changed.wait()

    def _due_at(self) -> float:
        return max(self._allowed_at, _NEVER if self._is_wanted_now else self._answered_at + self._interval)

    async def _notify(self, subscriptions: Iterator[Subscription], until: float) -> None:
        """Notify gates that have something new to log, in batches, until then or until a gate subscribes."""
        notified = 0
        for number, subscription in enumerate(subscriptions, start=1):
            if not subscription.is_watcher and subscription.has_news():
                subscription.notify()
                notified += 1
                if notified % self.timing.notify_gates == 0:
                    await asyncio.sleep(self.timing.notify_pause)
            if number % self.timing.wake_gates == 0:
                await asyncio.sleep(0)
            if self._changed.is_set() or self.timing.clock.monotonic() >= until:
                return
