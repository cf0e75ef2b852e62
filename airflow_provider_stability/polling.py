"""One poll for every gate: what is common to all that wait with one key.

In a triggerer process there is one ``Poller`` per connection, and in it one ``Stream`` per organization. The
poller keeps what belongs to the key: the settings of the connection, one rate budget, one pause after a 429.
It hands out errors as values and leaves nothing behind when the last one leaves. Knows samples and waiters,
not triggers.

Airflow's own shared streams (3.3, ``airflow/triggers/shared_stream.py``) exist from 3.3 on only, keep no
sample for those who come late, wake every member at each poll, and raise one exception in all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from airflow_provider_stability.call_threads import CallThreads
from airflow_provider_stability.connections import read_settings
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityError,
)
from airflow_provider_stability.metrics import record_poll
from airflow_provider_stability.streams import SLICE, Failed, Stream, Waiter

if TYPE_CHECKING:
    from airflow_provider_stability.client import StabilityClient
    from airflow_provider_stability.settings import Settings

    _Scope = tuple[str, str | None]  # connection and organization
    _Verdict = tuple[Settings, StabilityError]

__all__ = ["Poller", "join"]

log = logging.getLogger(__name__)

SETTINGS_AGE: Final = 60.0
"""Seconds after which the connection is read anew; at once where the service refuses what it says."""

BUDGET: Final = 120
WINDOW: Final = 10.0
"""So many requests in so many seconds with one key, of the 150 in 10 s that Stability AI publishes."""

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
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(connection_id)
    if poller is None:
        poller = pollers[connection_id] = Poller(connection_id, pollers)
    return poller.stream(organization).add(needed, interval, is_watcher=is_watcher)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()
"""By event loop: tests, ``dag.test()`` and forks each bring their own, and nothing here outlives its loop."""

_verdicts: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Scope, _Verdict]] = WeakKeyDictionary()


class Poller:
    """Asks for balances with the key of one connection.

    :param connection_id: the Airflow connection.
    :param pollers: where it is registered, and takes itself out of.
    """

    def __init__(self, connection_id: str, pollers: dict[str, Poller]) -> None:
        self._connection_id = connection_id
        self._pollers = pollers
        self._streams: dict[str | None, Stream] = {}
        self._settings: Settings | None = None
        self._settings_at = 0.0
        self._reading: asyncio.Task[Settings] | None = None
        self._threads = CallThreads(_Client, _Client.close)
        self._requests: deque[float] = deque(maxlen=BUDGET)
        self._pause_end = 0.0
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

    def pause(self, seconds: float) -> None:
        """Make no request with this key for so long."""
        self._pause_end = max(self._pause_end, time.monotonic() + seconds)

    async def admission(self) -> None:
        """Return when another request may be made, and count it."""
        while True:
            now = time.monotonic()
            is_full = len(self._requests) == BUDGET
            free_at = max(self._pause_end, self._requests[0] + WINDOW if is_full else now)
            if free_at <= now:
                self._requests.append(now)
                return
            await asyncio.sleep(free_at - now)

    async def ask(self, organization: str | None) -> float | StabilityError:
        """Return the balance, or what went wrong; nothing is raised but a cancellation."""
        try:
            settings = await self._current_settings()
            verdict = self._verdict(settings, organization)
            if verdict is not None:
                return verdict
            found = await self._request(settings, organization)
            if isinstance(found, StabilityError) and not found.transient:
                # Before it is believed: the key may have been rotated, and the connection with it.
                self._settings = None
                fresh = await self._current_settings()
                if fresh == settings:
                    self._remember(settings, organization, found)
                else:
                    found = await self._request(fresh, organization)
        except StabilityError as error:
            return error
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

    async def _request(self, settings: Settings, organization: str | None) -> float | StabilityError:
        found: float | StabilityError = await self._threads.call(
            lambda client: client.ask(settings, organization)
        )
        record_poll(self._connection_id, organization or settings.organization, found)
        return found

    async def _current_settings(self) -> Settings:
        if self._settings is not None and time.monotonic() - self._settings_at < SETTINGS_AGE:
            return self._settings
        if self._reading is None:
            self._reading = self._loop.create_task(read_settings(self._connection_id))
            self._reading.add_done_callback(self._have_read)
        # Shielded: a read that is cancelled half way can break the triggerer's channel to Airflow (seen on
        # 3.0.6).
        try:
            return await asyncio.shield(self._reading)
        except StabilityError as error:
            if error.transient and self._settings is not None:
                return self._settings
            raise

    def _have_read(self, reading: asyncio.Task[Settings]) -> None:
        self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            self._settings, self._settings_at = reading.result(), time.monotonic()

    def _verdict(self, settings: Settings, organization: str | None) -> StabilityError | None:
        verdicts = _verdicts.get(self._loop, {})
        for scope in (_EVERY, organization):
            refused = verdicts.get((self._connection_id, scope))
            if refused is not None and refused[0] == settings:
                return refused[1]
        return None

    def _remember(self, settings: Settings, organization: str | None, error: StabilityError) -> None:
        verdicts = _verdicts.setdefault(self._loop, {})
        scope = (self._connection_id, _EVERY if isinstance(error, AuthenticationError) else organization)
        verdicts[scope] = (settings, error)
        self._loop.call_later(VERDICT_AGE, verdicts.pop, scope, None)

    def _forget(self, streams: list[Stream]) -> None:
        for stream in streams:
            self._streams.pop(stream.organization, None)
        if not self._streams:
            if self._pollers.get(self._connection_id) is self:
                del self._pollers[self._connection_id]
            self._threads.close()


class _Client:
    """A thread's client, made anew when the settings change."""

    def __init__(self) -> None:
        self._client: StabilityClient | None = None

    def ask(self, settings: Settings, organization: str | None) -> float | StabilityError:
        from airflow_provider_stability.client import StabilityClient

        if self._client is None or self._client.settings != settings:
            self.close()
            # Not repeated: the next poll is the repetition.
            self._client = StabilityClient(settings, max_retries=0)
        try:
            return self._client.get_balance(organization).credits
        except StabilityError as error:
            return error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
