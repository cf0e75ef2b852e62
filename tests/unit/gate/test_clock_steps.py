"""The wall clock is set while gates wait: only the absolute end of a wait may follow it.

The clock is that of this process, as the gates and the simulator read it; the machine's stays as it is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers import balance
from support.gates import fire, gate, trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.gates import WallClock

HOUR: Final = 3600.0
INTERVAL: Final = 0.1
PATIENCE: Final = 60.0  # and still far from the hour by which the clock is set
OPENED: Final = {"status": "success", "credits": 52.5}

steps = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


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
        # The longest that a gate sleeps without a look at the clock.
        monkeypatch.setattr(balance, "_MAX_SLEEP", INTERVAL)
        yield simulator


def in_triggerer(timeout: float = 2 * HOUR) -> Any:
    """Wait as a deferrable gate does, and return the event's payload."""

    async def main() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await fire(trigger(poke_interval=INTERVAL, end_time=time.time() + timeout))

    return asyncio.run(main())


def in_worker() -> Any:
    """Wait as a gate that pokes does, and return what a deferrable one would say."""
    # The time of such a wait is the steady clock's.
    found = gate(poke_interval=INTERVAL, timeout=PATIENCE).execute({})
    return {"status": "success", "credits": found}


ways = pytest.mark.parametrize("way", [in_triggerer, in_worker])


@ways
@steps
def test_a_step_neither_opens_a_gate_nor_ends_it_nor_changes_its_interval(
    account: Account, wall_clock: WallClock, way: Callable[[], Any], step: float
) -> None:
    account.then = {3: lambda: wall_clock.step(step), 8: lambda: account.top_up(40)}

    assert way() == OPENED

    # The eighth answer still had the old balance.
    assert len(account.asked) == 9
    between = [after - before for before, after in zip(account.asked, account.asked[1:], strict=False)]
    assert min(between) > INTERVAL * 0.5, between


@ways
@steps
def test_a_step_does_not_change_the_length_of_a_pause(
    account: Account, wall_clock: WallClock, way: Callable[[], Any], step: float
) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=1)
    # In the middle of the pause, when the answer has been read.
    timer = threading.Timer(0.4, wall_clock.step, [step])
    account.then = {1: timer.start}
    try:
        assert way() == {"status": "success", "credits": 50.0}
    finally:
        timer.cancel()
    first, second = account.asked
    assert second - first >= 1


def test_a_step_beyond_the_end_of_a_wait_ends_it_as_a_timeout(
    account: Account, wall_clock: WallClock
) -> None:
    account.then = {3: lambda: wall_clock.step(3 * HOUR)}
    event = in_triggerer()
    assert event["status"] == "timeout"
    assert "12.5 credits, need 40, short 27.5" in event["message"]


def test_a_step_back_moves_the_end_of_a_wait_as_far(account: Account, wall_clock: WallClock) -> None:
    account.then = {
        2: lambda: wall_clock.step(-HOUR),
        4: lambda: wall_clock.step(1.5 * HOUR),  # beyond the end, had there been no step back
        9: lambda: wall_clock.step(HOUR),
    }
    assert in_triggerer(timeout=HOUR)["status"] == "timeout"
    assert len(account.asked) >= 9


def test_a_step_that_is_taken_back_leaves_the_end_of_a_wait_where_it_was(
    account: Account, wall_clock: WallClock
) -> None:
    account.then = {
        2: lambda: wall_clock.step(-HOUR),
        4: lambda: wall_clock.step(HOUR),
        8: lambda: wall_clock.step(HOUR),
    }
    assert in_triggerer(timeout=HOUR)["status"] == "timeout"
    assert len(account.asked) >= 8
