"""The poller: one poll for all who wait with a key, against the simulator, in real event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from support.polling_gates import (
    CONNECTION,
    DEFAULT,
    OTHERS,
    are_failed,
    beats,
    gaps,
    gates,
    in_a_loop,
    outcomes,
    pollers,
    until,
)

from airflow_provider_stability.exceptions import NotFoundError, PermissionDeniedError
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.polling import rate_limiter as budget
from airflow_provider_stability.polling.registry import subscribe

if TYPE_CHECKING:
    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import Simulator

ORGANIZATIONS = (None, "org-b", "org-c")


@in_a_loop
async def test_three_hundred_gates_make_one_request_an_interval(account: Simulator) -> None:
    with gates(300, interval=0.15) as waiting:
        await until(lambda: account.count() >= 6)
        assert not any(outcomes(waiting))
    assert min(gaps(account)) >= 0.14


@in_a_loop
async def test_gates_on_three_organizations_make_three_requests_an_interval(account: Simulator) -> None:
    names = (DEFAULT, "org-b", "org-c")
    with ExitStack() as stack:
        for name in ORGANIZATIONS:
            stack.enter_context(gates(100, interval=0.15, organization=name))
        await until(lambda: all(account.count(organization=name) >= 5 for name in names))
    assert all(min(gaps(account, name)) >= 0.14 for name in names)


@in_a_loop
async def test_only_the_gates_with_enough_are_opened_and_the_others_wait_on(account: Simulator) -> None:
    waiting = [subscribe(CONNECTION, None, needed, 0.15) for needed in (50.0, 20.0, 40.0, 20.0, 30.0)]
    woken: list[float] = []

    async def wait(waiter: Subscription) -> None:
        while waiter.outcome is None:
            await waiter.wait()
            woken.append(waiter.needed)
        waiter.cancel()

    tasks = [asyncio.create_task(wait(each)) for each in waiting]
    await until(lambda: len(woken) == 5)  # each hears of the first balance
    steps: list[tuple[float, list[float]]] = [(5, []), (10, [20.0, 20.0]), (7, [30.0])]
    for amount, opened in steps:
        woken.clear()
        account.top_up(amount)
        polls = account.count()
        await until(lambda polls=polls: account.count() >= polls + 3)  # type: ignore[misc]
        assert woken == opened
    assert outcomes(waiting) == [None, Opened(25.0), None, Opened(25.0), Opened(32.0)]
    assert min(gaps(account)) >= 0.14

    for task in tasks:
        task.cancel()
    for each in waiting:
        each.cancel()


@in_a_loop
async def test_a_joiner_with_enough_opens_on_a_fresh_sample_without_a_request(account: Simulator) -> None:
    with gates(interval=60):
        await until(lambda: pollers()[CONNECTION].stream(None).latest.is_balance_known)
        with gates(50, needed=10, interval=60) as joiners:
            assert outcomes(joiners) == [Opened(10.0)] * 50
    assert account.count() == 1


@in_a_loop
async def test_a_joiner_is_answered_anew_where_the_sample_is_old(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_stability.polling.balance_poll.FRESH", -1.0)
    with gates(interval=60) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        account.set_credits(5)  # somebody has spent what the sample shows
        with gates(50, needed=10, interval=60) as joiners:
            await until(lambda: joiners[0].latest.credits == 5)
            assert not any(outcomes(joiners))
        account.set_credits(20)
        with gates(50, needed=5, interval=60) as joiners:
            await until(lambda: all(outcomes(joiners)))
            assert outcomes(joiners) == [Opened(20.0)] * 50
    assert account.count() == 3


@in_a_loop
async def test_a_joiner_whom_a_request_under_way_answers_makes_none_of_its_own(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_stability.polling.balance_poll.FRESH", -1.0)
    with gates(interval=60) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        account.fail(delay=0.3)
        with gates(needed=5, interval=60) as first:
            await until(lambda: account.count() == 2)
            with gates(needed=5, interval=60) as second:
                await until(lambda: first[0].outcome and second[0].outcome)
        await beats(clock)
    assert account.count() == 2


@in_a_loop
async def test_a_joiner_for_whom_the_sample_is_not_enough_makes_no_request(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_stability.polling.balance_poll.FRESH", -1.0)
    with gates(interval=60) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        with gates(200, interval=60) as joiners:
            assert joiners[0].latest.credits == 10
            await beats(clock)
            assert not any(outcomes(joiners))
    assert account.count() == 1


@in_a_loop
async def test_a_joiner_with_a_shorter_interval_speeds_up_the_poll_until_it_leaves(
    account: Simulator, clock: Simulator
) -> None:
    with gates(20, interval=60) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        await beats(clock)
        assert account.count() == 1
        with gates(interval=0.05):
            await until(lambda: account.count() >= 6)
        under_way = account.count() + 1
        await beats(clock)
        assert account.count() <= under_way


@in_a_loop
async def test_more_requests_than_the_budget_are_never_made(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "BUDGET", 5)
    monkeypatch.setattr(budget, "WINDOW", 0.5)
    with ExitStack() as stack:
        for name in ORGANIZATIONS:
            stack.enter_context(gates(interval=0.01, organization=name))
        await until(lambda: account.count() >= 31)
    times = [each.at for each in account.requests]
    assert times[30] - times[1] >= 2.2  # six windows; without a budget it takes 0.3 s
    assert all(account.count(organization=name) >= 5 for name in (DEFAULT, "org-b", "org-c"))


@in_a_loop
async def test_requests_that_have_queued_behind_slow_ones_are_not_made_all_at_once(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "BUDGET", 20)
    monkeypatch.setattr(budget, "WINDOW", 1.0)
    account.fail(delay=1.1, times=None)
    with ExitStack() as stack:
        for name in OTHERS:
            stack.enter_context(gates(interval=0.01, organization=name))
        await until(lambda: account.count() >= 10)
        account.heal()
        await until(lambda: account.count() >= 80)
    times = [each.at for each in account.requests]
    # A little less than the window: a request is counted before it arrives.
    assert all(later - earlier >= 0.8 for earlier, later in zip(times, times[20:], strict=False))


@in_a_loop
async def test_the_budget_also_counts_the_requests_of_those_who_have_left(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "BUDGET", 5)
    monkeypatch.setattr(budget, "WINDOW", 2.0)
    for _ in range(12):  # a DAG after the other, each alone when it comes
        with gates(needed=5) as alone:
            await until(lambda alone=alone: alone[0].outcome)  # type: ignore[misc]
    times = [each.at for each in account.requests]
    assert all(later - earlier >= 1.5 for earlier, later in zip(times, times[5:], strict=False))


@in_a_loop
async def test_connections_with_the_same_key_share_its_budget_and_its_pause(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "BUDGET", 5)
    monkeypatch.setattr(budget, "WINDOW", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection(organization="org-b"))
    with gates(interval=0.01), gates(connection="second", interval=0.01):
        await until(lambda: account.count() >= 31)
        times = [each.at for each in account.requests]
        account.fail(status=429, retry_after=2)
        await until(lambda: any(each.status == 429 for each in account.requests))
        refused = next(each for each in account.requests if each.status == 429)
        await until(lambda: account.requests[-1].at >= refused.at + 2)
    assert times[30] - times[1] >= 2.2
    assert account.count(organization="org-b") >= 5
    # One that was on its way when the refusal came does not count.
    assert len([each for each in account.requests if refused.at + 0.2 < each.at < refused.at + 1.9]) == 0


@in_a_loop
async def test_a_budget_is_kept_for_no_longer_than_it_matters(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WINDOW", 0.2)
    with gates(needed=5) as alone:
        await until(lambda: alone[0].outcome)
        kept = weakref.ref(pollers()[CONNECTION]._budget)
    alone.clear()  # a waiter knows its poller
    gc.collect()
    assert kept() is not None
    await until(lambda: gc.collect() is not None and kept() is None)


@in_a_loop
async def test_the_last_one_to_leave_takes_everything_along(account: Simulator, clock: Simulator) -> None:
    with gates(10) as waiting, gates(10, organization="org-b"):
        await until(lambda: waiting[0].latest.is_balance_known)
        assert set(pollers()) == {CONNECTION}
    assert pollers() == {}
    under_way = account.count() + 2
    await beats(clock)
    assert account.count() <= under_way
    await until(lambda: not [each for each in threading.enumerate() if each.name == "stability-poll"])
    tasks = [each.get_name() for each in asyncio.all_tasks()]
    assert "stability-poll" not in tasks


@in_a_loop
async def test_a_gate_that_leaves_twice_takes_nobody_else_along(account: Simulator) -> None:
    with gates(2) as waiting:
        waiting[0].cancel()
        waiting[0].cancel()
        account.top_up(30)
        await until(lambda: waiting[1].outcome)
        assert waiting[0].outcome is None


@in_a_loop
async def test_a_newcomer_after_the_last_one_has_a_poller_of_its_own(account: Simulator) -> None:
    with gates() as waiting:
        first = pollers()[CONNECTION]
        await until(lambda: waiting[0].latest.is_balance_known)
    with gates(needed=5) as newcomer:
        assert pollers()[CONNECTION] is not first
        await until(lambda: newcomer[0].outcome)


@in_a_loop
async def test_an_organization_that_is_left_leaves_the_others_alone(
    account: Simulator, clock: Simulator
) -> None:
    with gates() as waiting:
        with gates(organization="org-b") as others:
            await until(lambda: waiting[0].latest.is_balance_known and others[0].latest.is_balance_known)
        under_way = account.count(organization="org-b") + 1
        await beats(clock)
        assert account.count(organization="org-b") <= under_way
        account.top_up(30)
        await until(lambda: waiting[0].outcome)


def test_event_loops_do_not_share_and_leave_nothing_behind(account: Simulator) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    barrier = threading.Barrier(2, timeout=30)

    async def wait(*, at_once: bool) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with gates(needed=5) as waiting:
            if at_once:
                barrier.wait()
            await until(lambda: waiting[0].outcome)
            if at_once:
                barrier.wait()

    def run(*, at_once: bool) -> None:
        asyncio.run(wait(at_once=at_once))

    for number in (1, 2):
        run(at_once=False)
        assert account.count() == number
    threads = [threading.Thread(target=run, kwargs={"at_once": True}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert account.count() == 4
    assert not any(each.pollers for each in polling._registries.values())
    gc.collect()
    assert loops[0]() is None  # the last one, asgiref keeps


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionDeniedError), (404, NotFoundError)])
@in_a_loop
async def test_an_error_of_one_organization_fails_its_gates_alone(
    account: Simulator, status: int, kind: type[Exception]
) -> None:
    account.fail(status=status, organization="org-b", times=None)
    with gates(20) as waiting, gates(20, organization="org-b") as refused:
        await until(lambda: are_failed(refused, kind))
        polls = account.count()
        await until(lambda: account.count() >= polls + 3)
        assert account.count(organization="org-b") == 1
        account.top_up(30)
        await until(lambda: outcomes(waiting) == [Opened(40.0)] * 20)
