"""When a gate is notified of what its poll has found, and that many gates leave the event loop its turns."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from airflow_provider_stability.exceptions import PermissionDeniedError
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling.subscription import Subscription
from support.polling_gates import are_failed, gates, in_virtual_time, install, opened, outcomes
from support.virtual_time import pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from support.polling_gates import Account


@asynccontextmanager
async def counted(count: Callable[[], int]) -> AsyncIterator[list[int]]:
    """Count at each turn of the event loop, and list each new count."""
    counts: list[int] = []

    async def look() -> None:
        while True:
            if counts[-1:] != [count()]:
                counts.append(count())
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    try:
        yield counts
    finally:
        looking.cancel()


async def turns(condition: Callable[[], object]) -> None:
    """Let the event loop turn until a condition holds, without any virtual time."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a thread
            await asyncio.sleep(0)


def resolved(waiting: list[Subscription]) -> int:
    return sum(each.outcome is not None for each in waiting)


@in_virtual_time
async def test_a_gate_is_notified_of_the_first_balance_and_not_of_the_same_again(account: Account) -> None:
    with gates(interval=1) as (gate,):
        await gate.wait()
        assert gate.latest.credits == 10
        woken = asyncio.create_task(gate.wait())
        await pass_time(599)
        assert not woken.done()
        await pass_time(2)
        assert woken.done()
    assert gate.reported_at == 600


@in_virtual_time
async def test_another_balance_is_reported_after_a_minute_and_the_same_after_ten(account: Account) -> None:
    with gates(interval=1) as (gate,):
        await pass_time(0.5)
        account.set_credits(11)
        await pass_time(59)
        assert (gate.reported.credits, gate.reported_at) == (10, 0)
        await pass_time(1)
        assert (gate.reported.credits, gate.reported_at) == (11, 60)
        await pass_time(599)
        assert gate.reported_at == 60
        await pass_time(1)
        assert gate.reported_at == 660


@in_virtual_time
async def test_an_error_is_reported_at_once_and_so_is_its_end(account: Account) -> None:
    with gates(interval=1) as (gate,):
        await pass_time(0.5)
        account.fail(status=503, times=3)
        await pass_time(2)
        assert (gate.reported.error_kind, gate.reported_at) == ("ServerError", 1)
        assert (gate.latest.is_balance_known, gate.latest.credits) == (False, 10)
        await pass_time(2)
        assert (gate.reported.state, gate.reported_at) == ("known", 4)


@in_virtual_time
async def test_a_gate_that_is_busy_when_it_is_notified_holds_up_no_other(account: Account) -> None:
    with gates(2, interval=1) as (busy, other):
        await busy.wait()
        account.fail(status=503, times=3)
        await pass_time(10)
        async with asyncio.timeout(0.001):
            await busy.wait()  # it was notified meanwhile
        account.top_up(30)
        assert await opened(other) == 40
        assert await opened(busy) == 40


@in_virtual_time
async def test_notifying_many_gates_does_not_hold_up_the_next_request(account: Account) -> None:
    install(notify_gates=1, notify_pause=0.05)
    with gates(200, interval=0.2) as waiting:  # to notify them all takes 10 s
        await pass_time(1.01)
        assert len(account.times()) >= 5
        assert waiting[0].reported.state == "known"
        assert waiting[-1].reported.state is None


@in_virtual_time
async def test_gates_are_notified_in_groups_with_a_pause_between(account: Account) -> None:
    install(notify_gates=10, notify_pause=0.05)
    with gates(35) as waiting:
        await pass_time(1)
        times = [round(each.reported_at, 3) for each in waiting]
        assert times == [0.0] * 10 + [0.05] * 10 + [0.1] * 10 + [0.15] * 5


@in_virtual_time
async def test_gates_that_fail_together_leave_the_loop_a_turn_after_each_group(account: Account) -> None:
    install(wake_gates=10)
    account.fail(status=403)
    with gates(35) as waiting:
        async with counted(lambda: resolved(waiting)) as counts:
            await turns(lambda: resolved(waiting) == 35)
        assert are_failed(waiting, PermissionDeniedError)
        assert counts == [0, 10, 20, 30, 35]


@in_virtual_time
async def test_gates_that_open_together_leave_the_loop_a_turn_after_each_group(account: Account) -> None:
    install(wake_gates=10)
    with gates(35, needed=5) as waiting:
        async with counted(lambda: resolved(waiting)) as counts:
            await turns(lambda: resolved(waiting) == 35)
        assert outcomes(waiting) == [Opened(10)] * 35
        assert counts == [0, 10, 20, 30, 35]


@in_virtual_time
async def test_gates_without_news_leave_the_loop_a_turn_after_each_group(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(wake_gates=10)
    looks = 0
    has_news = Subscription.has_news

    def count(gate: Subscription) -> bool:
        nonlocal looks
        looks += 1
        return has_news(gate)

    with gates(35):
        await pass_time(59)
        monkeypatch.setattr(Subscription, "has_news", count)
        async with counted(lambda: looks) as counts:
            with gates(interval=1):  # speeds up the poll
                await turns(lambda: looks >= 35)
    assert max(later - earlier for earlier, later in itertools.pairwise(counts)) == 10
