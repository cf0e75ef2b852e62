"""The answers to requests with one API key, shared by all connections and names for the same credits."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from airflow_provider_stability.exceptions import StabilityError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_stability.polling.rate_limiter import Pause, RateLimiter
    from airflow_provider_stability.polling.timing import Timing

__all__ = ["Answer", "NotYet", "SharedBalance", "SharedKey"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The result of a request for a balance, and its time on the monotonic clock."""

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
    pause: Pause | None


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
        # The poller keeps a reference for as long as one of its polls uses the balance.
        self._balances: WeakValueDictionary[str | None, SharedBalance] = WeakValueDictionary()
        self._default: str | None = None
        self._default_end = -float("inf")
        self._asking: asyncio.Task[None] | None = None

    def balance(self, organization: str | None) -> SharedBalance:
        """Return the balance of an organization; None is the account's default one."""
        return self._balances.setdefault(organization, SharedBalance())

    async def resolve(
        self, organization: str | None, ask_default: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """Return the name under which an organization is polled.

        Gates that name none and gates that name the account's default organization wait for the same credits.
        Only where there are gates of both kinds, the account is asked which one that is. No gate waits long
        for that.
        """
        names = set(self._balances)
        is_mixed = bool(names - {None}) if organization is None else None in names
        if is_mixed and self._asking is None and not self._is_default_known:
            self._asking = asyncio.create_task(self._learn_default(ask_default))
        if self._asking is not None and organization not in names:
            await asyncio.wait([self._asking], timeout=self._timing.account)
        return self._default if organization is None and self._is_default_known else organization

    @property
    def _is_default_known(self) -> bool:
        return self._timing.clock.monotonic() < self._default_end

    async def _learn_default(self, ask_default: Callable[[], Awaitable[str | None]]) -> None:
        try:
            self._default = await ask_default()
        except Exception:
            # A defect of ours, or no thread was to be had. Without this answer, gates are polled separately.
            log.exception("The account's default organization could not be looked up")
            self._default = None
        finally:
            self._asking = None
        age = self._timing.settings if self._default is None else self._timing.default_organization
        self._default_end = self._timing.clock.monotonic() + age
        if self._default is not None and self._default not in self._balances and None in self._balances:
            # Moved and not copied: the default may be another organization later.
            self._balances[self._default] = self._balances.pop(None)
