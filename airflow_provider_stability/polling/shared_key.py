"""The answers to requests with one API key, shared by all connections and names for the same credits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from airflow_provider_stability.exceptions import StabilityError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_stability.polling.rate_limiter import Pause, RateLimiter
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["Answer", "NotYet", "SharedBalance", "SharedKey"]


@dataclass(frozen=True)
class Answer:
    """What a request for a balance came to, and when by the monotonic clock."""

    found: float | StabilityError
    at: float

    @property
    def is_refusal(self) -> bool:
        """Whether it is a permanent error."""
        return isinstance(self.found, StabilityError) and not self.found.transient


@dataclass(frozen=True)
class NotYet:
    """No request is allowed for so many seconds; with the pause, if the service has asked for one."""

    delay: float
    pause: Pause | None = None


class SharedBalance:
    """The latest answer for one organization."""

    def __init__(self) -> None:
        self.latest: Answer | None = None
        self._lock = asyncio.Lock()

    async def read(self, since: float, request: Callable[[], Awaitable[Answer | NotYet]]) -> Answer | NotYet:
        """Return an answer that is newer than ``since``: the latest, or else that of a new request.

        Whoever comes while a request is under way waits for its answer.
        """
        async with self._lock:
            if self.latest is not None and self.latest.at > since:
                return self.latest
            answer = await request()
            if isinstance(answer, Answer):
                self.latest = answer
            return answer


class SharedKey:
    """What is common to all connections whose requests are the same but for the organization."""

    def __init__(self, timing: Timing, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self._timing = timing
        # A poll holds the balance that it reads, for as long as it lives.
        self._balances: WeakValueDictionary[str | None, SharedBalance] = WeakValueDictionary()
        self._default: str | None = None
        self._default_end = -float("inf")
        self._lock = asyncio.Lock()

    def balance(self, organization: str | None) -> SharedBalance:
        """Return the balance of an organization; None is the account's default one."""
        return self._balances.setdefault(organization, SharedBalance())

    async def resolve(
        self, organization: str | None, ask_default: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """Return the name under which an organization is polled.

        Gates that name none and gates that name the account's default organization wait for the same credits.
        Only where there are gates of both kinds, the account is asked which one that is.
        """
        if organization is not None:
            return organization
        async with self._lock:
            is_mixed = bool(set(self._balances) - {None})
            if is_mixed and self._timing.clock.monotonic() >= self._default_end:
                self._default = await ask_default()
                self._default_end = self._timing.clock.monotonic() + self._timing.default_organization
        return self._default if self._timing.clock.monotonic() < self._default_end else None
