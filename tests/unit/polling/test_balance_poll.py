"""One poll for all gates of an organization: when it asks, and which gates an answer wakes."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.exceptions import StabilityError
from airflow_provider_stability.gate.observation import Observation
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling import balance_poll
from airflow_provider_stability.polling.registry import subscribe
from support.polling_gates import (
    CONNECTION,
    DEFAULT,
    are_failed,
    gates,
    in_a_loop,
    in_virtual_time,
    opened,
    outcomes,
)
from support.virtual_time import pass_time

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_stability.polling.subscription import Subscription
    from support.polling_gates import Account


@in_virtual_time
async def test_three_hundred_gates_make_one_request_an_interval(account: Account) -> None:
    with gates(300) as waiting:
        await pass_time(200)
        assert not any(outcomes(waiting))
    assert account.times() == [0, 60, 120, 180]


@in_virtual_time
async def test_each_organization_is_polled_at_its_own_shortest_interval(account: Account) -> None:
    with ExitStack() as stack:
        for name, interval in ((DEFAULT, 60), ("org-b", 20), ("org-b", 60), ("org-c", 40)):
            stack.enter_context(gates(100, interval=interval, organization=name))
        await pass_time(70)
    assert account.times() == [0, 60]
    assert account.times("org-b") == [0, 20, 40, 60]
    assert account.times("org-c") == [0, 40]


@in_virtual_time
async def test_an_answer_wakes_only_the_gates_for_which_it_is_enough(account: Account) -> None:
    waiting = [subscribe(CONNECTION, None, needed, 1) for needed in (50.0, 20.0, 40.0, 20.0, 30.0)]
    woken: list[float] = []

    async def wait(gate: Subscription) -> None:
        try:
            while gate.outcome is None:
                await gate.wait()
                woken.append(gate.needed)
        finally:
            gate.cancel()

    tasks = [asyncio.create_task(wait(each)) for each in waiting]
    await pass_time(0.5)
    assert woken == [50, 20, 40, 20, 30]  # each logs the first balance
    steps: list[tuple[float, list[float]]] = [(5, []), (10, [20, 20]), (7, [30])]
    for amount, expected in steps:
        woken.clear()
        account.top_up(amount)
        await pass_time(3)
        assert woken == expected
    assert outcomes(waiting) == [None, Opened(25), None, Opened(25), Opened(32)]
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    ("age", "interval", "requests"), [(5, 60, 1), (5.5, 60, 2), (1.9, 2, 1), (2.5, 2, 2)]
)
@in_virtual_time
async def test_an_answer_opens_gates_for_five_seconds_or_their_interval_and_then_is_confirmed(
    account: Account, age: float, interval: float, requests: int
) -> None:
    with gates():
        await pass_time(age)
        with gates(20, needed=10, interval=interval) as late:
            assert outcomes(late) == [Opened(10) if requests == 1 else None] * 20
            await pass_time(0.1)
            assert outcomes(late) == [Opened(10)] * 20
    assert len(account.times()) == requests


@in_virtual_time
async def test_an_older_answer_whose_credits_are_spent_opens_no_gate(account: Account) -> None:
    with gates():
        await pass_time(10)
        account.set_credits(5)
        with gates(20, needed=10) as late:
            await pass_time(1)
            assert not any(outcomes(late))
            assert late[0].latest.credits == 5


@in_virtual_time
async def test_a_gate_that_comes_during_a_request_is_answered_by_it(account: Account) -> None:
    with gates():
        await pass_time(10)
        account.fail(delay=0.2)
        with gates(needed=5) as first:
            while account.count() < 2:  # noqa: ASYNC110  # virtual time stands still meanwhile
                await asyncio.sleep(0)
            with gates(needed=5) as second:
                await pass_time(1)
                assert outcomes(first + second) == [Opened(10)] * 2
    assert account.times() == [0, 10]


@in_virtual_time
async def test_a_gate_for_which_the_last_balance_is_not_enough_makes_no_request(account: Account) -> None:
    with gates():
        await pass_time(10)
        with gates(200) as late:
            assert late[0].latest.credits == 10
            await pass_time(1)
    assert account.times() == [0]


@in_virtual_time
async def test_a_gate_with_a_shorter_interval_speeds_up_the_poll_until_it_leaves(account: Account) -> None:
    with gates(20):
        await pass_time(10)
        with gates(3, interval=1) as fast:
            fast[0].cancel()
            fast[0].cancel()
            fast[1].cancel()
            await pass_time(3.5)
        await pass_time(100)
    assert account.times() == [0, 10, 11, 12, 13, 73]


@in_virtual_time
async def test_an_organization_is_asked_twenty_times_a_second_at_most(account: Account) -> None:
    with gates(interval=0):
        await pass_time(0.99)
    assert len(account.times()) == 20


@pytest.mark.parametrize("interval", [0, 0.0001])
@in_a_loop
async def test_a_gate_with_hardly_any_interval_opens(account: Account, interval: float) -> None:
    with gates(needed=5, interval=interval) as (gate,):
        assert await opened(gate) == 10
    assert account.count() == 1


@in_virtual_time
async def test_every_answer_wakes_a_watcher_and_no_balance_resolves_it(account: Account) -> None:
    watcher = subscribe(CONNECTION, None, 5, 60, is_watcher=True)
    with gates():
        for number in range(3):
            await watcher.wait()
            assert watcher.latest.credits == 10
            assert account.times()[-1] == 60 * number
        late = subscribe(CONNECTION, None, 5, 60, is_watcher=True)
        await late.wait()
        assert account.times()[-1] == 180
        assert (watcher.outcome, late.outcome) == (None, None)
        late.cancel()
    watcher.cancel()


@in_virtual_time
async def test_a_poll_that_breaks_fails_its_gates_and_no_others(
    account: Account, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    with gates(organization="org-b") as others:
        await pass_time(1)
        broken = mocker.patch.object(Observation, "with_credits", side_effect=ZeroDivisionError)
        with gates(3, needed=10, organization="org-c") as waiting:
            await pass_time(1)
            assert are_failed(waiting, StabilityError)
            assert isinstance(waiting[0].outcome, Failed)
            message = "the poll broke: ZeroDivisionError; see the triggerer's log"
            assert str(waiting[0].outcome.error) == message
        mocker.stop(broken)
        logged = [each for each in caplog.records if each.name == balance_poll.__name__]
        assert [(each.levelname, each.exc_info is not None) for each in logged] == [("ERROR", True)]
        assert [each.getMessage() for each in logged] == [
            "The poll of 'stability_default', organization 'org-c' broke"
        ]
        account.top_up(30, "org-b")
        await pass_time(60)
        assert outcomes(others) == [Opened(40)]
        with gates(needed=10, organization="org-c") as (again,):
            assert await opened(again) == 10
