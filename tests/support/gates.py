"""Gates as a worker and a triggerer run them, whole or step by step."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.gate import wait as waits
from airflow_provider_stability.polling.registry import Registry, registries
from airflow_provider_stability.polling.timing import Timing
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

    from airflow_provider_stability.gate.wait import Wait
    from airflow_provider_stability.simulator import Simulator

__all__ = [
    "Store",
    "WallClock",
    "current",
    "events",
    "fire",
    "gate",
    "resume",
    "trigger",
    "use_timing",
    "when",
]


def gate(**kwargs: Any) -> BalanceSensor:
    """Return a gate that needs 40 credits."""
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.05, "timeout": 60}
    return BalanceSensor(task_id="gate", **(given | kwargs))


def trigger(**kwargs: Any) -> BalanceTrigger:
    """Return what such a gate waits as in the triggerer."""
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.05}
    return BalanceTrigger(**(given | kwargs))


def resume(sensor: BalanceSensor, event: object) -> Any:
    """Resume a deferred gate with an event, as a worker does."""
    return sensor.resume_execution("execute_complete", {"event": event}, {})


async def events(waiting: BalanceTrigger) -> list[Any]:
    """Run a trigger to its end, and return its events."""
    return [event async for event in waiting.run()]


async def fire(waiting: BalanceTrigger) -> Any:
    """Run a trigger to its end, and return the payload of its one event."""
    (event,) = await events(waiting)
    return json.loads(json.dumps(event.payload))


@contextmanager
def current(wait: Wait) -> Iterator[Wait]:
    """Make a wait the one that pokes belong to."""
    token = waits._current.set(wait)
    try:
        yield wait
    finally:
        waits._current.reset(token)


def use_timing(**kwargs: Any) -> Registry:
    """Give this event loop polls with other times, and return what has them."""
    registry = Registry(Timing(**kwargs))
    registries[asyncio.get_running_loop()] = registry
    return registry


def when(account: Simulator, requests: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the account has had so many requests."""

    def wait() -> None:
        account.wait_for_requests(requests, timeout=60)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


class Store:
    """Takes the place of Airflow's task state store, which only a worker of 3.3 has.

    :param error: what it raises instead of working.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return what was kept."""
        if self.error is not None:
            raise self.error
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep a value, as JSON does."""
        if self.error is not None:
            raise self.error
        self.kept[key] = json.loads(json.dumps(value))


class WallClock:
    """The wall clock of this process, which can be set. The steady one stays as it is."""

    def __init__(self, mocker: MockerFixture) -> None:
        self._time = time.time
        self._ahead = 0.0
        mocker.patch("time.time", side_effect=self.now)

    def now(self) -> float:
        """Return what it shows, in seconds since the epoch."""
        return self._time() + self._ahead

    def step(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._ahead += seconds
