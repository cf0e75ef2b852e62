"""What the simulated service knows: account, organizations, credits, key, rate limit, faults, requests.

Nothing here knows of sockets. One condition guards all of it, since every request has a thread of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator import checks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_stability.simulator.fault import Fault
    from airflow_provider_stability.simulator.recorded import RecordedRequest

DEFAULT_ORGANIZATION = "org-default"
"""The organization of requests that name none."""


@dataclass(slots=True)
class _Window:
    """The recent requests of one key, and when its time-out ends (``time.monotonic()``)."""

    times: deque[float] = field(default_factory=deque)
    until: float = 0.0


@dataclass(slots=True)
class _Armed:
    """A fault and how often it will still strike; None for always."""

    fault: Fault
    left: int | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is decided the moment a request is read.

    :param ticket: names the request towards ``State.answered``.
    :param fault: the fault that hits it, if any.
    :param retry_after: whole seconds the rate limit keeps its key out; None when it is let in.
    """

    ticket: int
    fault: Fault | None
    retry_after: int | None


class State:
    """All that the service knows; safe to use from any thread.

    :param credits: balance of the default organization, finite; may be negative.
    :param organizations: further organizations with their balances.
    :param api_key: the key that is let in.
    :param rate_limit: requests of one key in ``rate_window`` seconds, at least 1; one more starts a time-out.
    :param rate_penalty: seconds the time-out lasts.
    :param cost_per_image: credits that one generated image takes, 0 or more.
    :param email: of the account.
    :param profile_picture: URL in the account; None leaves the field out, which the specification allows.
    :raises ValueError: for a value outside of these, naming it.
    """

    def __init__(
        self,
        *,
        credits: float,  # noqa: A002 - the service's own word, and part of the public signature
        organizations: Mapping[str, float] | None,
        api_key: str,
        rate_limit: int,
        rate_window: float,
        rate_penalty: float,
        cost_per_image: float,
        email: str,
        profile_picture: str | None,
    ) -> None:
        self._changed = threading.Condition()
        self._credits = {DEFAULT_ORGANIZATION: checks.number("credits", credits)}
        for name, balance in (organizations or {}).items():
            if name == DEFAULT_ORGANIZATION:
                raise ValueError(f"organizations names {name!r}, the default: give its balance as credits")
            checks.text("an organization", name, example="org-b")
            self._credits[name] = checks.number(f"credits of organization {name!r}", balance)
        self._key = checks.key(api_key)
        self.rate_limit = checks.whole("rate_limit", rate_limit, low=1)
        self.rate_window = checks.number("rate_window", rate_window, above=0)
        self.rate_penalty = checks.number("rate_penalty", rate_penalty, above=0)
        self.cost_per_image = checks.number("cost_per_image", cost_per_image, low=0)
        self.email = checks.text("email", email, example="ada@example.com")
        self.profile_picture = profile_picture
        self._windows: dict[str, _Window] = {}
        self._armed: list[_Armed] = []
        self._requests: dict[int, RecordedRequest] = {}
        self._arrived = 0

    # Credits

    def balances(self) -> dict[str, float]:
        """Return the credits of each organization, the default first."""
        with self._changed:
            return dict(self._credits)

    def credits(self, organization: str | None = None) -> float:
        """Return the credits of an organization, None for the default."""
        with self._changed:
            return self._credits[self._known(organization)]

    def set_credits(self, value: float, organization: str | None = None) -> None:
        """Set the credits of an organization; a negative balance is fine."""
        value = checks.number("credits", value)
        with self._changed:
            self._credits[self._known(organization)] = value

    def top_up(self, amount: float, organization: str | None = None) -> float:
        """Add credits, more than 0, and return the balance that makes."""
        amount = checks.number("credits", amount, above=0)
        with self._changed:
            name = self._known(organization)
            self._credits[name] += amount
            return self._credits[name]

    def take(self, amount: float, organization: str | None) -> bool:
        """Take credits if there are enough; two requests at once never share the same ones."""
        with self._changed:
            name = self._known(organization)
            if self._credits[name] < amount:
                return False
            self._credits[name] -= amount
            return True

    def is_member(self, organization: str | None) -> bool:
        """Tell whether the account has a part in the organization; None is the default one."""
        return organization is None or organization in self._credits

    def _known(self, organization: str | None) -> str:
        name = DEFAULT_ORGANIZATION if organization is None else organization
        if name not in self._credits:
            known = ", ".join(repr(each) for each in self._credits)
            raise ValueError(f"organization {organization!r} is not known; there are {known}")
        return name

    # Key

    @property
    def api_key(self) -> str:
        """The key that is let in."""
        with self._changed:
            return self._key

    def rotate_key(self, new: str) -> None:
        """Let in ``new`` from now on, and no other key."""
        new = checks.key(new)
        with self._changed:
            self._key = new

    # Faults

    def arm(self, fault: Fault) -> None:
        """Add a fault behind those that are there."""
        with self._changed:
            if fault.organization is not None:
                self._known(fault.organization)
            self._armed.append(_Armed(fault, fault.times))

    def heal(self) -> None:
        """Drop all faults, the time-out of the rate limit, and the requests it counts."""
        with self._changed:
            self._armed.clear()
            self._windows.clear()

    def _strike(self, request: RecordedRequest) -> Fault | None:
        for armed in self._armed:
            fault = armed.fault
            if _matches(request, fault.path, fault.organization):
                if armed.left is not None:
                    armed.left -= 1
                    if not armed.left:
                        self._armed.remove(armed)
                return fault
        return None

    # Requests

    def arrive(self, request: RecordedRequest, key: str | None) -> Arrival:
        """Record a request, count it against the rate limit of its key, and find its fault.

        :param key: what the request shows as its key. A wrong one is not counted: the limit is per key of the
            service, and the request is refused anyway.
        """
        with self._changed:
            ticket = self._arrived
            self._arrived += 1
            fault = self._strike(request)
            self._requests[ticket] = replace(request, fault=fault)
            self._changed.notify_all()
            return Arrival(ticket, fault, self._admit() if key == self._key else None)

    def _admit(self) -> int | None:
        now = time.monotonic()
        window = self._windows.setdefault(self._key, _Window())
        if window.until <= now:
            while window.times and window.times[0] <= now - self.rate_window:
                window.times.popleft()
            window.times.append(now)
            if len(window.times) <= self.rate_limit:
                return None
            window.times.clear()
            window.until = now + self.rate_penalty
        # A microsecond off, or the rounding of floats would make 61 s of a time-out of 60.
        return max(1, math.ceil(window.until - now - 1e-6))

    def answered(self, ticket: int, request: RecordedRequest) -> None:
        """Keep a request as it was answered, unless it was forgotten meanwhile."""
        with self._changed:
            if ticket in self._requests:
                self._requests[ticket] = request

    def requests(self) -> list[RecordedRequest]:
        """Return the requests so far, in the order they arrived."""
        with self._changed:
            return list(self._requests.values())

    def paths(self) -> dict[str, int]:
        """Return how many requests each path had."""
        return dict(Counter(request.path for request in self.requests()))

    def count(self, path: str | None = None, organization: str | None = None) -> int:
        """Return how many requests there were, of one path and one organization if given."""
        with self._changed:
            return self._count(path, organization)

    def _count(self, path: str | None, organization: str | None) -> int:
        if path is None and organization is None:
            return len(self._requests)
        return sum(_matches(request, path, organization) for request in self._requests.values())

    def wait_for_requests(self, count: int, timeout: float, path: str | None = None) -> None:
        """Return as soon as there are ``count`` requests; TimeoutError after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(path, None) >= count, timeout):
                what = f"requests of {path}" if path is not None else "requests"
                came = self._count(path, None)
                raise TimeoutError(f"{came} of {count} {what} came within {timeout:g} s")

    def reset_requests(self) -> None:
        """Forget the requests so far; the rate limit still counts them."""
        with self._changed:
            self._requests.clear()


def _matches(request: RecordedRequest, path: str | None, organization: str | None) -> bool:
    if path is not None and request.path != path:
        return False
    return organization is None or (request.organization or DEFAULT_ORGANIZATION) == organization
