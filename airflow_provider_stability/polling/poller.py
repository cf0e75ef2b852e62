"""Asks for balances with the credentials of one connection, for the polls of all its organizations."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.connection.reader import ConnectionReader
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityError,
    as_value,
)
from airflow_provider_stability.metrics import record_poll
from airflow_provider_stability.polling.balance_poll import BalancePoll
from airflow_provider_stability.polling.shared_key import Answer, NotYet
from airflow_provider_stability.polling.threads import call_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.api.client import StabilityClient
    from airflow_provider_stability.connection.settings import Settings
    from airflow_provider_stability.polling.rate_limiter import RateLimiter
    from airflow_provider_stability.polling.shared_key import SharedBalance, SharedKey
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["Poller"]

_MAX_CALLS: Final = 8  # at once, for one connection


class Poller:
    """The polls that use one connection.

    :param connection_id: the Airflow connection.
    :param shared_key: returns the state shared by connections whose requests are identical.
    :param on_empty: is told that the last poll has ended.
    """

    def __init__(
        self,
        connection_id: str,
        timing: Timing,
        *,
        shared_key: Callable[[Settings], SharedKey],
        on_empty: Callable[[str], None],
    ) -> None:
        self._connection_id = connection_id
        self._timing = timing
        self._shared_key, self._on_empty = shared_key, on_empty
        self._connection = ConnectionReader(
            connection_id, max_age=timing.settings, max_read=timing.read, monotonic=timing.clock.monotonic
        )
        self._polls: dict[str | None, BalancePoll] = {}
        self._key: SharedKey | None = None
        self._balances: dict[str | None, SharedBalance] = {}  # those that the polls read
        self._clients: list[StabilityClient] = []  # idle ones; a session is not for two threads at once
        self._calls = asyncio.Semaphore(_MAX_CALLS)

    def poll(self, organization: str | None) -> BalancePoll:
        """Return the poll for an organization."""
        if organization not in self._polls:
            self._polls[organization] = BalancePoll(
                self._connection_id,
                organization,
                self._timing,
                ask=self._ask,
                on_failed=self._fail,
                on_empty=self._drop,
            )
        return self._polls[organization]

    def _drop(self, poll: BalancePoll) -> None:
        if self._polls.get(poll.organization) is not poll:
            return
        del self._polls[poll.organization]
        self._balances.pop(poll.organization, None)
        if not self._polls:
            self._on_empty(self._connection_id)
            while self._clients:
                self._clients.pop().close()

    async def _fail(self, poll: BalancePoll, error: StabilityError) -> None:
        """Fail every poll if the key or the connection was refused, otherwise only this one."""
        is_for_all = isinstance(error, AuthenticationError | StabilityConfigurationError)
        for each in list(self._polls.values()) if is_for_all else [poll]:
            await each.fail(error)

    async def _ask(self, organization: str | None, since: float) -> Answer | NotYet:
        """Return an answer that is newer than ``since``."""
        try:
            settings = await self._connection.current()
            answer = await self._read(settings, organization, since)
            if isinstance(answer, Answer) and answer.is_refusal:
                # Before it is believed: the key may have been rotated, and the connection with it.
                current = await self._connection.current(anew=self._connection.read_at <= answer.at)
                if current != settings:
                    answer = await self._read(current, organization, since)
        except StabilityError as error:
            return Answer(as_value(error), self._timing.clock.monotonic())
        return answer

    async def _read(self, settings: Settings, organization: str | None, since: float) -> Answer | NotYet:
        key = self._key = self._shared_key(settings)
        tag = organization or settings.organization
        name = await key.resolve(tag, partial(self._default_organization, settings, key.limiter))
        balance = self._balances[organization] = key.balance(name)
        return await balance.read(since, partial(self._request, settings, name, tag, key.limiter))

    async def _request(
        self, settings: Settings, organization: str | None, tag: str | None, limiter: RateLimiter
    ) -> Answer | NotYet:
        result = await self._call(settings, limiter, lambda client: client.get_balance(organization).credits)
        if result is None:
            return NotYet(limiter.delay, limiter.current_pause)
        answer = Answer(*result)
        record_poll(self._connection_id, tag, answer.found)
        return answer

    async def _default_organization(self, settings: Settings, limiter: RateLimiter) -> str | None:
        """Return the id of the account's default organization, None where it cannot be had."""
        result = await self._call(settings, limiter, lambda client: client.get_account().default_organization)
        found = None if result is None else result[0]
        return None if isinstance(found, StabilityError) or found is None else found.id

    async def _call(
        self, settings: Settings, limiter: RateLimiter, function: Callable[[StabilityClient], Any]
    ) -> tuple[Any, float] | None:
        """Return what a function makes of a client, or its error, and when; None if no request is allowed."""

        def call() -> tuple[Any, float] | None:
            # As late as possible: the answer to another call may have forbidden this one a moment ago.
            if not limiter.try_acquire():
                return None
            client = self._client(settings)
            try:
                found = function(client)
            except StabilityError as error:
                if error.pause:
                    limiter.pause(error.pause, str(error))
                found = as_value(error)
            finally:
                self._clients.append(client)
            # Its age counts from here: the event loop may be busy, and take it later.
            return found, self._timing.clock.monotonic()

        if limiter.delay > 0:
            return None
        async with self._calls:
            return await call_in_daemon_thread(call)

    def _client(self, settings: Settings) -> StabilityClient:
        from airflow_provider_stability.api.client import StabilityClient

        with suppress(IndexError):  # not asked first whether there is one: another thread may take it
            while (client := self._clients.pop()).settings != settings:
                client.close()
            return client
        # Without retries: the next poll is one.
        return StabilityClient(settings, max_retries=0)
