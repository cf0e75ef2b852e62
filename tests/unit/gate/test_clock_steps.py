"""The wall clock is set while gates wait: only the absolute end of a wait may follow it.

The clock is that of this process, as the gates and the simulator read it; the machine's stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_stability.exceptions import RateLimitError
from airflow_provider_stability.gate.observation import waiting
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers import balance
from airflow_provider_stability.triggers.balance import BalanceTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

HOUR: Final = 3600.0
INTERVAL: Final = 0.2
PATIENCE: Final = 60.0  # and still far from the hour by which the clock is set

steps = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


class Clock:
    """The wall clock, and what sets it."""

    def __init__(self, mocker: MockerFixture) -> None:
        self._time = time.time
        self._ahead = 0.0
        mocker.patch("time.time", side_effect=lambda: self._time() + self._ahead)

    def step(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._ahead += seconds


@pytest.fixture
def clock(mocker: MockerFixture) -> Clock:
    return Clock(mocker)


class Account(Simulator):
    """A simulator that knows by the steady clock when it was asked."""

    def __init__(self) -> None:
        super().__init__(credits=12.5, rate_limit=100_000, on_answer=self._answered)
        self.asked: list[float] = []
        self.then: dict[int, Callable[[], object]] = {}
        """What happens with an answer, by the number of the request."""

    def _answered(self, _request: object) -> None:
        self.asked.append(time.monotonic())
        self.then.pop(len(self.asked), lambda: None)()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with Account() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


def in_triggerer(account: Account, **kwargs: Any) -> Any:
    """Wait as a deferrable gate does, and return the event's payload."""

    async def main() -> Any:
        end = time.time() + kwargs.pop("timeout", 2 * HOUR)
        gate = BalanceTrigger(**{"min_credits": 40, "poke_interval": INTERVAL, "end_time": end} | kwargs)
        async with asyncio.timeout(PATIENCE):
            event = await anext(aiter(gate.run()))
        return event.payload

    return asyncio.run(main())


def in_worker(account: Account) -> Any:
    """Wait as a gate that pokes does, and return what a deferrable one would say."""
    # The time of such a wait is the steady clock's.
    gate = BalanceSensor(
        task_id="gate", min_credits=40, deferrable=False, poke_interval=INTERVAL, timeout=PATIENCE
    )
    return {"status": "success", "credits": gate.execute({})}


ways = pytest.mark.parametrize("way", [in_triggerer, in_worker])


@ways
@steps
def test_a_step_neither_opens_a_gate_nor_ends_it_nor_changes_its_interval(
    account: Account, clock: Clock, way: Any, step: float
) -> None:
    account.then = {3: lambda: clock.step(step), 8: lambda: account.top_up(40)}

    assert way(account) == {"status": "success", "credits": 52.5}

    # The eighth answer still had the old balance.
    assert len(account.asked) == 9
    between = [after - before for before, after in zip(account.asked, account.asked[1:], strict=False)]
    # Longer ones are for a machine that is busy: the time limit is what a step would not keep.
    assert min(between) > INTERVAL * 0.5, between


@ways
@steps
def test_a_pause_is_kept_to_its_length_through_a_step(
    account: Account, clock: Clock, way: Any, step: float
) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=2)
    account.then = {1: lambda: later(clock, step)}

    assert way(account) == {"status": "success", "credits": 50.0}

    first, second = account.asked
    assert 2 <= second - first < PATIENCE


def later(clock: Clock, step: float) -> None:
    """Set the clock in the middle of the pause, when the answer has been read."""
    timer = threading.Timer(0.7, clock.step, [step])
    timer.daemon = True
    timer.start()


def test_a_step_beyond_the_end_ends_a_wait_as_a_timeout(
    account: Account, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "_LONGEST_NAP", INTERVAL)
    account.then = {3: lambda: clock.step(3 * HOUR)}

    event = in_triggerer(account)

    assert event["status"] == "timeout"
    assert "12.5 credits, need 40, short 27.5" in event["message"]


def test_a_step_back_moves_the_end_as_far(
    account: Account, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "_LONGEST_NAP", INTERVAL)
    account.then = {
        2: lambda: clock.step(-HOUR),
        4: lambda: clock.step(1.5 * HOUR),  # beyond the end, had there been no step back
        9: lambda: clock.step(HOUR),
    }

    assert in_triggerer(account, timeout=HOUR)["status"] == "timeout"

    assert len(account.asked) >= 9


def test_a_step_that_is_taken_back_leaves_the_end_where_it_was(
    account: Account, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "_LONGEST_NAP", INTERVAL)
    account.then = {2: lambda: clock.step(-HOUR), 4: lambda: clock.step(HOUR)}
    began = time.monotonic()

    assert in_triggerer(account, timeout=2.0)["status"] == "timeout"

    assert time.monotonic() - began > 1.9


class Store:
    """Takes the place of Airflow's task state store, which only a worker of 3.3 has."""

    def __init__(self) -> None:
        self.kept: Any = None

    def get(self, _key: str) -> Any:
        return self.kept

    def set(self, _key: str, value: Any) -> None:
        self.kept = json.loads(json.dumps(value))


class Rescheduled(Exception):  # noqa: N818  # no error, as Airflow's own is none
    """What Airflow ends a process with until the next poke."""


@steps
def test_a_pause_that_goes_from_process_to_process_never_grows(clock: Clock, step: float) -> None:
    store = Store()

    def process(*, is_refused: bool = False) -> float:
        """Be the next process, and return what is left of the pause."""
        context = {"task_state_store": store, "ti": SimpleNamespace(try_number=1)}
        left = -1.0
        with suppress(Rescheduled), waiting(context, rescheduled=True) as wait:
            if is_refused:
                wait.failed(RateLimitError("slow down", status_code=429, retry_after=60))
            left = wait.pause_left
            raise Rescheduled
        return left

    assert process(is_refused=True) == pytest.approx(60, abs=1)
    clock.step(20)
    assert process() == pytest.approx(40, abs=1)
    clock.step(step)
    # Processes have only the clock in common that is set: forward, the pause is taken to be over; back, to
    # have begun anew, once.
    assert process() == pytest.approx(60 if step < 0 else 0, abs=1)
    clock.step(59)
    assert process() <= 1
