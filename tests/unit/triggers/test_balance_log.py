"""What a gate in the triggerer writes into its own log, and how often."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.triggers.balance import BalanceTrigger
from support.gates import fire, trigger, use_timing
from support.log_lines import lines_of
from support.polling_gates import in_a_loop, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

SHORT = "12.5 credits, need 40, short 27.5"
DOWN = '{"name": "down", "message": "for now", "id": "1"}'
UNKNOWN = "Still waiting; could not read the balance: GET /v1/user/balance: 503 down: for now [error id 1]"


@asynccontextmanager
async def waiting(**kwargs: Any) -> AsyncIterator[None]:
    """Let a gate wait for as long as the block lasts."""
    task = asyncio.create_task(fire(trigger(poke_interval=0.02, **kwargs)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@in_a_loop
async def test_a_gate_logs_each_balance_and_each_error_that_is_new_and_no_other(
    account: Simulator, lines: list[Line]
) -> None:
    async with waiting():
        await until(lambda: account.count() >= 5)
        account.fail(status=503, times=5, body=DOWN)
        await until(lambda: len(lines) == 3)
        requests = account.count()
        await until(lambda: account.count() >= requests + 3)
    assert lines == [("INFO", SHORT), ("WARNING", UNKNOWN), ("INFO", SHORT)]


@in_a_loop
async def test_a_gate_does_not_log_that_it_opens_as_whoever_ends_the_task_does(
    account: Simulator, lines: list[Line]
) -> None:
    account.top_up(40)
    await fire(trigger())
    assert lines == []


class Clock:
    """The clocks, and the seconds that they are ahead."""

    time = staticmethod(time.time)
    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


async def polls(account: Simulator, number: int = 3) -> None:
    requests = account.count()
    await until(lambda: account.count() >= requests + number)


@pytest.mark.parametrize(
    ("answer", "first", "again"),
    [
        ({}, ("INFO", SHORT), ("INFO", f"{SHORT} (still waiting)")),
        ({"status": 503, "body": DOWN}, ("WARNING", UNKNOWN), ("WARNING", f"{UNKNOWN} (unchanged)")),
    ],
    ids=["balance", "error"],
)
@in_a_loop
async def test_a_gate_without_news_logs_every_ten_minutes_that_it_still_waits(
    account: Simulator, lines: list[Line], answer: dict[str, Any], first: Line, again: Line
) -> None:
    clock = Clock()
    use_timing(clock=clock)
    if answer:
        account.fail(times=None, **answer)
    async with waiting():
        for number in (1, 2, 3):
            await until(lambda number=number: len(lines) == number)  # type: ignore[misc]
            await polls(account)
            assert len(lines) == number
            clock.ahead += 600
    assert lines[:3] == [first, again, again]


@in_a_loop
async def test_a_balance_that_goes_up_and_down_is_logged_once_a_minute(
    account: Simulator, lines: list[Line]
) -> None:
    clock = Clock()
    use_timing(clock=clock)
    async with waiting():
        await until(lambda: len(lines) == 1)
        for credit in (20, 30, 20, 30):
            account.set_credits(credit)
            await polls(account)
        assert lines == [("INFO", SHORT)]
        clock.ahead += 60
        await until(lambda: len(lines) == 2)
    assert lines[1] == ("INFO", "30 credits, need 40, short 10")


@in_a_loop
async def test_a_gate_logs_nothing_while_nothing_is_known(account: Simulator, lines: list[Line]) -> None:
    account.fail(delay=60, times=None)
    async with waiting():
        await until(account.count)
    assert lines == []


gate_name: ContextVar[str] = ContextVar("gate_name")


@in_a_loop
async def test_each_gate_writes_into_its_own_log(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(needed: float) -> None:
        gate_name.set(f"gate {needed}")
        await fire(trigger(min_credits=needed))

    with lines_of(BalanceTrigger, monkeypatch, lambda line: (gate_name.get(), line.getMessage())) as lines:
        tasks = [asyncio.create_task(wait(needed)) for needed in range(40, 90)]
        await until(lambda: len(lines) == 50)
        late = asyncio.create_task(wait(30))  # learns at once what the others know
        await until(lambda: len(lines) == 51)
        account.top_up(100)
        await asyncio.gather(*tasks, late)
    assert all(text.startswith(f"12.5 credits, need {name[5:]}, ") for name, text in lines)
    assert len({name for name, _ in lines}) == len(lines) == 51
