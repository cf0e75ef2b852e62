"""One poll for every gate: what is common to all that wait with one key.

In a triggerer process there is one ``Poller`` per connection, and in it one ``Stream`` per organization. The
poller keeps what belongs to the key: the settings of the connection, and the rate budget and the pause after
a 429, which it shares with the pollers of other connections with the same key. It hands out errors as values
and leaves nothing behind when the last one leaves. Knows samples and waiters, not triggers.

Airflow's own shared streams (3.3, ``airflow/triggers/shared_stream.py``) exist from 3.3 on only, keep no
sample for those who come late, wake every member at each poll, and raise one exception in all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow_provider_stability.connection.loading import connection_disappeared, load_settings_async
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    as_value,
)
from airflow_provider_stability.metrics import record_poll
from airflow_provider_stability.polling.balance_poll import SLICE, Failed, Stream, Waiter
from airflow_provider_stability.polling.rate_limiter import Budget
from airflow_provider_stability.polling.threads import CallThreads, NoThreadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_stability.api.client import StabilityClient
    from airflow_provider_stability.connection.settings import Settings
    from airflow_provider_stability.polling.rate_limiter import Reason

    Hear = Callable[[Reason], Awaitable[None]]

__all__ = ["Poller", "join"]

log = logging.getLogger(__name__)

SETTINGS_AGE: Final = 60.0
"""Seconds after which the connection is read anew; at once where the service refuses what it says."""

LONGEST_READ: Final = 60.0
"""Seconds after which a read of the connection is given up, and another one started."""

_EVERY: Final = "*"  # no organization: allowed are those without such a character at the service

VERDICT_AGE: Final = 10.0
"""Seconds for which a refusal answers those who come with the same settings, without a request."""


def join(
    connection_id: str, organization: str | None, needed: float, interval: float, *, is_watcher: bool = False
) -> Waiter:
    """Wait for credits together with all who wait on the same connection in this event loop.

    :param connection_id: the Airflow connection.
    :param organization: whose credits; None for the connection's.
    :param needed: the credits that are enough.
    :param interval: seconds between two polls, at most.
    :param is_watcher: whether to be woken by every poll, whatever the balance.
    :returns: the place in the wait; its ``leave`` must be called in the end.
    """
    registry = _registries.setdefault(asyncio.get_running_loop(), _Registry())
    poller = registry.pollers.get(connection_id)
    if poller is None:
        poller = registry.pollers[connection_id] = Poller(connection_id, registry)
    return poller.stream(organization).add(needed, interval, is_watcher=is_watcher)


class _Registry:
    """What one event loop has: its pollers, and what outlives them for a while."""

    def __init__(self) -> None:
        self.pollers: dict[str, Poller] = {}
        self._budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()
        self.verdicts: dict[tuple[str, str | None], tuple[Settings, StabilityError]] = {}
        self.reads: set[asyncio.Task[Settings]] = set()  # the loop itself would let go of one that hangs

    def budget(self, settings: Settings) -> Budget:
        """Return what may be asked with a key, which several connections may have."""
        return self._budgets.setdefault(settings.credential, Budget())

    def keep(self, budget: Budget) -> None:
        """Hold on to a budget until it does not matter any more."""

        def look_again() -> None:
            if budget.is_paused:  # the last answer came after the last gate had left
                self.keep(budget)

        asyncio.get_running_loop().call_later(budget.matters_for, look_again)

    def remember(self, scope: tuple[str, str | None], verdict: tuple[Settings, StabilityError]) -> None:
        """Keep a refusal for a while."""
        self.verdicts[scope] = verdict

        def forget() -> None:
            if self.verdicts.get(scope) is verdict:
                del self.verdicts[scope]

        asyncio.get_running_loop().call_later(VERDICT_AGE, forget)


_registries: WeakKeyDictionary[asyncio.AbstractEventLoop, _Registry] = WeakKeyDictionary()
"""By event loop: tests, ``dag.test()`` and forks each bring their own, and nothing here outlives its loop."""


class Poller:
    """Asks for balances with the key of one connection.

    :param connection_id: the Airflow connection.
    :param registry: where it is registered, and takes itself out of.
    """

    def __init__(self, connection_id: str, registry: _Registry) -> None:
        self._connection_id = connection_id
        self._registry = registry
        self._budget = Budget()  # that of the key, once it is known
        self._streams: dict[str | None, Stream] = {}
        self._settings: Settings | None = None
        self._settings_at = 0.0
        self._read_begun = 0.0
        self._was_read = False
        self._reading: asyncio.Task[Settings] | None = None
        self._threads = CallThreads(_Client, _Client.close)
        self._loop = asyncio.get_running_loop()

    def stream(self, organization: str | None) -> Stream:
        """Return the stream of an organization, a new one where nobody waits on it yet."""
        if organization not in self._streams:
            self._streams[organization] = Stream(self, organization)
        return self._streams[organization]

    def drop(self, stream: Stream) -> None:
        """End a stream on which nobody waits any more."""
        if self._streams.get(stream.organization) is stream:
            self._forget([stream])
            stream.task.cancel()

    @property
    def is_paused(self) -> bool:
        """Whether the service has asked for a pause that is not over."""
        return self._budget.is_paused

    async def ask(self, organization: str | None, hear: Hear) -> float | StabilityError:
        """Return the balance, or what went wrong; nothing is raised but a cancellation.

        :param hear: told of a pause that the service wants first.
        """
        try:
            settings, found = await self._request(organization, hear)
            is_news = found is not self._verdict(settings, organization)
            if isinstance(found, StabilityError) and not found.transient and is_news:
                # Before it is believed: the key may have been rotated, and the connection with it.
                self._settings = None
                if await self._current_settings() == settings:
                    self._remember(settings, organization, found)
                else:
                    _, found = await self._request(organization, hear)
        except NoThreadError as error:
            return StabilityConnectionError(f"this triggerer could not start a thread to ask: {error}")
        except StabilityError as error:
            return as_value(error)
        except Exception as error:
            # A defect of ours. Waiting on without a balance would hide it until the timeout.
            log.exception("The poll of connection %r broke", self._connection_id)
            return StabilityError(f"the poll broke: {type(error).__name__}; the triggerer's log has the rest")
        return found

    async def fail(self, stream: Stream, error: StabilityError) -> None:
        """Tell those who wait that it is over: all with this key where it is refused, else one stream's."""
        is_for_all = isinstance(error, AuthenticationError | StabilityConfigurationError)
        streams = list(self._streams.values()) if is_for_all else [stream]
        # Out of the registry first: who comes meanwhile gets a new poller, and with it a new look.
        self._forget(streams)
        for each in streams:
            if each is not stream:
                each.task.cancel()
        outcome = Failed(error)
        for number, waiter in enumerate([waiter for each in streams for waiter in each.waiters], start=1):
            waiter.settle(outcome)
            if number % SLICE == 0:
                await asyncio.sleep(0)

    async def _request(self, organization: str | None, hear: Hear) -> tuple[Settings, float | StabilityError]:
        """Ask as soon as that is allowed, with the connection as it is then, and return with which it was."""
        while True:
            settings = await self._current_settings()
            if (verdict := self._verdict(settings, organization)) is not None:
                return settings, verdict
            self._budget = budget = self._registry.budget(settings)
            if (wait := budget.wait) > 0:
                if budget.is_paused and budget.reason is not None:
                    await hear(budget.reason)
                # No longer than settings are believed: the connection may have become another meanwhile.
                await asyncio.sleep(min(wait, SETTINGS_AGE))
                continue
            found = await self._threads.call(partial(_ask_in_thread, settings, organization, budget))
            if found is not None:
                record_poll(self._connection_id, organization or settings.organization, found)
                return settings, found

    async def _current_settings(self) -> Settings:
        if self._settings is not None and time.monotonic() - self._settings_at < SETTINGS_AGE:
            return self._settings
        try:
            return await self._read()
        except StabilityConfigurationError as error:
            if error.is_missing and self._was_read:
                # Not with what it said before: it may have been deleted.
                raise connection_disappeared(self._connection_id) from None
            if not error.transient or self._settings is None:
                raise
            log.warning("Going on with the connection as it was: %s", error)
            return self._settings

    async def _read(self) -> Settings:
        """Read the connection, all who ask meanwhile together."""
        if self._reading is None:
            self._reading = self._loop.create_task(load_settings_async(self._connection_id))
            self._registry.reads.add(self._reading)
            self._reading.add_done_callback(partial(self._have_read, time.monotonic()))
        reading = self._reading
        # Never cancelled: a read that is broken off can break the triggerer's channel to Airflow (seen on
        # 3.0.6).
        await asyncio.wait([reading], timeout=LONGEST_READ)
        if reading.done():
            return reading.result()
        if self._reading is reading:
            self._reading = None
        raise StabilityConfigurationError(
            f"connection {self._connection_id!r} could not be read within {LONGEST_READ:g} s: "
            "Airflow or its secrets backend does not answer",
            transient=True,
        )

    def _have_read(self, begun: float, reading: asyncio.Task[Settings]) -> None:
        self._registry.reads.discard(reading)
        if self._reading is reading:
            self._reading = None
        if reading.cancelled() or reading.exception() is not None:
            return
        # One that was given up may return late, with what a later one has found replaced.
        if begun >= self._read_begun:
            self._read_begun = begun
            self._settings, self._settings_at = reading.result(), time.monotonic()
            self._was_read = True

    def _verdict(self, settings: Settings, organization: str | None) -> StabilityError | None:
        for scope in (_EVERY, organization):
            refused = self._registry.verdicts.get((self._connection_id, scope))
            if refused is not None and refused[0] == settings:
                return refused[1]
        return None

    def _remember(self, settings: Settings, organization: str | None, error: StabilityError) -> None:
        scope = _EVERY if isinstance(error, AuthenticationError) else organization
        self._registry.remember((self._connection_id, scope), (settings, error))

    def _forget(self, streams: list[Stream]) -> None:
        for stream in streams:
            self._streams.pop(stream.organization, None)
        if not self._streams and self._registry.pollers.get(self._connection_id) is self:
            del self._registry.pollers[self._connection_id]
            self._registry.keep(self._budget)
            self._threads.close()


class _Client:
    """A thread's client, made anew when the settings change."""

    def __init__(self) -> None:
        self._client: StabilityClient | None = None

    def ask(self, settings: Settings, organization: str | None) -> float | StabilityError:
        from airflow_provider_stability.api.client import StabilityClient

        if self._client is None or self._client.settings != settings:
            self.close()
            # Not repeated: the next poll is the repetition.
            self._client = StabilityClient(settings, max_retries=0)
        try:
            return self._client.get_balance(organization).credits
        except StabilityError as error:
            return as_value(error)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _ask_in_thread(
    settings: Settings, organization: str | None, budget: Budget, client: _Client
) -> float | StabilityError | None:
    """Ask, unless that is not allowed any more since this call waits for a thread; then it has to wait again.

    Counted here, as it is made: behind requests that hang, calls queue for longer than the budget remembers.
    """
    if not budget.take():
        return None
    found = client.ask(settings, organization)
    if isinstance(found, StabilityError) and found.pause:
        # Here, as this thread may take up the next call before the event loop has heard.
        budget.pause(found.pause, str(found))
    return found
