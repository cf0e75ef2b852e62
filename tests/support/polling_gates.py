"""Gates that wait with one key in an event loop, for the tests of the poller, and an account to wait on."""

from __future__ import annotations

import asyncio
import functools
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.polling.registry import subscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import Simulator

__all__ = [
    "CONNECTION",
    "DEFAULT",
    "OTHERS",
    "are_failed",
    "beats",
    "gaps",
    "gates",
    "in_a_loop",
    "outcomes",
    "pollers",
    "until",
]

_Parameters = ParamSpec("_Parameters")

CONNECTION = "stability_default"
DEFAULT = "org-default"
OTHERS = {f"org-{number}": 10.0 for number in range(20)}


def in_a_loop(
    test: Callable[_Parameters, Coroutine[Any, Any, None]],
) -> Callable[_Parameters, None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@contextmanager
def gates(
    count: int = 1,
    *,
    needed: float = 40.0,
    interval: float = 0.1,
    organization: str | None = None,
    connection: str = CONNECTION,
) -> Iterator[list[Subscription]]:
    """Let gates wait for as long as the block lasts."""
    waiters = [subscribe(connection, organization, needed, interval) for _ in range(count)]
    try:
        yield waiters
    finally:
        for each in waiters:
            each.cancel()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return as soon as a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a server, which knows no loop
            await asyncio.sleep(0.005)


async def beats(clock: Simulator, number: int = 6) -> None:
    """Let the time of so many intervals of 0.1 s pass."""
    before = clock.count()
    with gates(connection="clock", needed=1000):
        await until(lambda: clock.count() >= before + number)


def gaps(account: Simulator, organization: str = DEFAULT) -> list[float]:
    """Return the seconds between two requests for an organization each."""
    times = [each.at for each in account.requests if (each.organization or DEFAULT) == organization]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def outcomes(waiters: list[Subscription]) -> list[Opened | Failed | None]:
    """Return what the gates came to; None for one that waits."""
    return [each.outcome for each in waiters]


def are_failed(waiters: list[Subscription], kind: type[Exception]) -> bool:
    """Tell whether all gates failed with errors of a class."""
    return all(isinstance(each.outcome, Failed) and type(each.outcome.error) is kind for each in waiters)


def pollers() -> dict[str, Any]:
    """Return the pollers of this event loop, by connection."""
    return polling._registries[asyncio.get_running_loop()].pollers
