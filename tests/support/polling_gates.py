"""Gates that wait together in an event loop, for the tests of the polls, and an account to wait on."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling.registry import Registry, registries, subscribe
from airflow_provider_stability.polling.timing import Timing
from airflow_provider_stability.simulator import Simulator
from support.virtual_time import VirtualClock, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from airflow_provider_stability.polling.poller import Poller
    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import RecordedRequest

__all__ = [
    "ACCOUNT",
    "BALANCE",
    "CONNECTION",
    "DEFAULT",
    "OTHERS",
    "VARIABLE",
    "Account",
    "are_failed",
    "gates",
    "in_a_loop",
    "in_virtual_time",
    "install",
    "key_of",
    "opened",
    "outcomes",
    "pollers",
    "until",
]

_Parameters = ParamSpec("_Parameters")

CONNECTION: Final = "stability_default"
VARIABLE: Final = "AIRFLOW_CONN_STABILITY_DEFAULT"
DEFAULT: Final = "org-default"
OTHERS: Final = {f"org-{number}": 10.0 for number in range(20)}
ACCOUNT: Final = "/v1/user/account"
BALANCE: Final = "/v1/user/balance"


class Account(Simulator):
    """A simulator with 10 credits in each organization that knows by a virtual clock when it was asked."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.asked: list[tuple[str, float]] = []
        """Whose balance was asked for and when, rounded to milliseconds."""
        organizations = {"org-b": 10.0, "org-c": 10.0, **OTHERS}
        super().__init__(credits=10, organizations=organizations, rate_limit=100_000, on_answer=self._note)

    def _note(self, request: RecordedRequest) -> None:
        if request.path == BALANCE:
            self.asked.append((request.organization or DEFAULT, round(self.clock.now, 3)))

    def times(self, organization: str = DEFAULT) -> list[float]:
        """Return when the balance of an organization was asked for."""
        return [at for each, at in self.asked if each == organization]


def in_a_loop(test: Callable[_Parameters, Coroutine[Any, Any, None]]) -> Callable[_Parameters, None]:
    """Run a test in an event loop of its own, in real time."""

    @functools.wraps(test)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def in_virtual_time(test: Callable[_Parameters, Coroutine[Any, Any, None]]) -> Callable[_Parameters, None]:
    """Run a test with an ``account`` in an event loop of its own that goes by the account's clock."""

    async def main(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        install()
        await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        account = kwargs["account"]
        assert isinstance(account, Account)
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(account.clock)) as runner:
            runner.run(main(*args, **kwargs))

    return run


def install(**changes: Any) -> None:
    """Let the polls of this event loop go by its clock, and by other constants where some are given."""
    loop = asyncio.get_running_loop()
    clock = loop.clock if isinstance(loop, VirtualLoop) else time
    registries[loop] = Registry(Timing(clock=clock, **changes))


@contextmanager
def gates(
    count: int = 1,
    *,
    needed: float = 40.0,
    interval: float = 60.0,
    organization: str | None = None,
    connection: str = CONNECTION,
) -> Iterator[list[Subscription]]:
    """Let gates wait for as long as the block lasts."""
    waiting = [subscribe(connection, organization, needed, interval) for _ in range(count)]
    try:
        yield waiting
    finally:
        for each in waiting:
            each.cancel()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return as soon as a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a server, which knows no loop
            await asyncio.sleep(0.005)


async def opened(subscription: Subscription) -> float:
    """Wait as a trigger does, and return the credits with which a gate opened."""
    async with asyncio.timeout(3600):
        while subscription.outcome is None:
            await subscription.wait()
    assert isinstance(subscription.outcome, Opened)
    return subscription.outcome.credits


def outcomes(waiting: list[Subscription]) -> list[Opened | Failed | None]:
    """Return the outcomes of gates; None for one that waits."""
    return [each.outcome for each in waiting]


def are_failed(waiting: list[Subscription], kind: type[Exception]) -> bool:
    """Tell whether all gates failed with errors of a class."""
    return all(isinstance(each.outcome, Failed) and type(each.outcome.error) is kind for each in waiting)


def pollers() -> dict[str, Poller]:
    """Return the pollers of this event loop, by connection."""
    return registries[asyncio.get_running_loop()].pollers


def key_of(request: RecordedRequest) -> str:
    """Return the key that a request was made with."""
    return request.headers["Authorization"].removeprefix("Bearer ")
