"""The state of the simulated service: account, organizations, credits, key, rate limit, faults, requests.

It does not deal with sockets. One condition guards it all, since each connection has its own thread.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator import checks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_stability.simulator.clock import Clock
    from airflow_provider_stability.simulator.fault import Fault
    from airflow_provider_stability.simulator.recorded import RecordedRequest

DEFAULT_ORGANIZATION = "org-default"
"""The organization of requests without an Organization header."""


@dataclass(slots=True)
class _Window:
    """The times of the recent requests with one key, and when its penalty ends, by the monotonic clock."""

    times: deque[float] = field(default_factory=deque)
    penalty_until: float = 0.0


@dataclass(slots=True)
class _ActiveFault:
    """A fault and how many requests it will still affect; None for all."""

    fault: Fault
    remaining: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is decided as soon as a request has been read.

    :param ticket: identifies the request to ``State.record_answer``.
    :param fault: the fault that affects it, if any.
    :param retry_after: remaining whole seconds of the rate limit's penalty; None if the request is within the
        limit.
    """

    ticket: int
    fault: Fault | None
    retry_after: int | None


class State:
    """The state of the service; safe to use from any thread. ``Simulator`` documents its parameters.

    :raises ValueError: if a value is out of range.
    """

    def __init__(
        self,
        *,
        credits: float,  # noqa: A002 - the service's own word
        organizations: Mapping[str, float] | None,
        api_key: str,
        rate_limit: int,
        rate_window: float,
        rate_penalty: float,
        cost_per_image: float,
        email: str,
        profile_picture: str | None,
        clock: Clock,
    ) -> None:
        self.clock = clock
        self._changed = threading.Condition()
        self._credits = {DEFAULT_ORGANIZATION: checks.number("credits", credits)}
        for name, balance in (organizations or {}).items():
            if name == DEFAULT_ORGANIZATION:
                raise ValueError(
                    f"an organization is {name!r}; it must be another one (credits sets the default one's)"
                )
            checks.text("an organization", name, example="org-b")
            self._credits[name] = checks.number(f"balance of organization {name!r}", balance)
        self._key = checks.key(api_key)
        self.rate_limit = checks.whole("rate_limit", rate_limit, low=1)
        self.rate_window = checks.number("rate_window", rate_window, above=0)
        self.rate_penalty = checks.number("rate_penalty", rate_penalty, above=0)
        self.cost_per_image = checks.number("cost_per_image", cost_per_image, low=0)
        self.email = checks.text("email", email, example="ada@example.com")
        self.profile_picture = profile_picture
        self._windows: dict[str, _Window] = {}
        self._faults: list[_ActiveFault] = []
        self._requests: dict[int, RecordedRequest] = {}
        self._arrived = 0

    # Credits

    def balances(self) -> dict[str, float]:
        """Return the credits of each organization, the default first."""
        with self._changed:
            return dict(self._credits)

    def credits(self, organization: str | None = None) -> float:
        """Return the credits of an organization; None is the default one."""
        with self._changed:
            return self._credits[self._checked(organization)]

    def set_credits(self, value: float, organization: str | None = None) -> None:
        """Set the credits of an organization, which may be negative."""
        value = checks.number("credits", value)
        with self._changed:
            self._credits[self._checked(organization)] = value

    def top_up(self, amount: float, organization: str | None = None) -> float:
        """Add credits, more than 0, and return the new balance."""
        amount = checks.number("credits", amount, above=0)
        with self._changed:
            name = self._checked(organization)
            self._credits[name] += amount
            return self._credits[name]

    def charge(self, amount: float, organization: str | None) -> bool:
        """Take credits and return True, or return False if there are too few. This is atomic."""
        with self._changed:
            name = self._checked(organization)
            if self._credits[name] < amount:
                return False
            self._credits[name] -= amount
            return True

    def is_member(self, organization: str | None) -> bool:
        """Return whether the account is a member of the organization; None is the default one."""
        return organization is None or organization in self._credits

    def _checked(self, organization: str | None) -> str:
        name = DEFAULT_ORGANIZATION if organization is None else organization
        if name not in self._credits:
            known = ", ".join(repr(each) for each in self._credits)
            raise ValueError(f"organization is {organization!r}; it must be one of {known}")
        return name

    # Key

    @property
    def api_key(self) -> str:
        """The valid key."""
        with self._changed:
            return self._key

    def rotate_key(self, new: str) -> None:
        """Replace the valid key with ``new``."""
        new = checks.key(new)
        with self._changed:
            self._key = new

    # Faults

    def add_fault(self, fault: Fault) -> None:
        """Add a fault, which comes after those already there."""
        with self._changed:
            if fault.organization is not None:
                self._checked(fault.organization)
            self._faults.append(_ActiveFault(fault, fault.times))

    def heal(self) -> None:
        """Remove all faults, and reset the rate limit with its penalty."""
        with self._changed:
            self._faults.clear()
            self._windows.clear()

    def _next_fault(self, request: RecordedRequest) -> Fault | None:
        for active in self._faults:
            fault = active.fault
            if _matches(request, fault.path, fault.organization):
                if active.remaining is not None:
                    active.remaining -= 1
                    if not active.remaining:
                        self._faults.remove(active)
                return fault
        return None

    # Requests

    def record_arrival(self, request: RecordedRequest, key: str | None) -> Arrival:
        """Record a request, count it against the rate limit of its key, and find its fault.

        :param key: the key of the request. A wrong one is not counted: the limit applies to valid keys, and
            the request is refused anyway.
        """
        with self._changed:
            ticket = self._arrived
            self._arrived += 1
            fault = self._next_fault(request)
            self._requests[ticket] = replace(request, fault=fault)
            self._changed.notify_all()
            return Arrival(ticket, fault, self._count_against_limit() if key == self._key else None)

    def _count_against_limit(self) -> int | None:
        now = self.clock.monotonic()
        window = self._windows.setdefault(self._key, _Window())
        if window.penalty_until <= now:
            while window.times and window.times[0] <= now - self.rate_window:
                window.times.popleft()
            window.times.append(now)
            if len(window.times) <= self.rate_limit:
                return None
            window.times.clear()
            window.penalty_until = now + self.rate_penalty
        # Less one microsecond: otherwise the rounding of floats turns a penalty of 60 s into 61 s.
        return max(1, math.ceil(window.penalty_until - now - 1e-6))

    def record_answer(self, ticket: int, request: RecordedRequest) -> None:
        """Record how a request was answered, unless ``reset_requests`` has removed it."""
        with self._changed:
            if ticket in self._requests:
                self._requests[ticket] = request

    def requests(self) -> list[RecordedRequest]:
        """Return the requests so far, in the order of arrival."""
        with self._changed:
            return list(self._requests.values())

    def paths(self) -> dict[str, int]:
        """Return the number of requests by path."""
        return dict(Counter(request.path for request in self.requests()))

    def count(self, path: str | None = None, organization: str | None = None) -> int:
        """Return the number of requests, of one path and one organization if given."""
        with self._changed:
            return self._count(path, organization)

    def _count(self, path: str | None, organization: str | None) -> int:
        if path is None and organization is None:
            return len(self._requests)
        return sum(_matches(request, path, organization) for request in self._requests.values())

    def wait_for_requests(self, count: int, timeout: float, path: str | None = None) -> None:
        """Wait for ``count`` requests, at most ``timeout`` seconds.

        :raises TimeoutError: if fewer came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(path, None) >= count, timeout):
                what = f"requests of {path}" if path is not None else "requests"
                came = self._count(path, None)
                raise TimeoutError(f"{came} of {count} {what} arrived within {timeout:g} s")

    def reset_requests(self) -> None:
        """Remove the recorded requests; the rate limit still counts them."""
        with self._changed:
            self._requests.clear()


def _matches(request: RecordedRequest, path: str | None, organization: str | None) -> bool:
    if path is not None and request.path != path:
        return False
    return organization is None or (request.organization or DEFAULT_ORGANIZATION) == organization
