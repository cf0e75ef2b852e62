"""Those who wait on one organization: who comes, who goes, and how often it is asked meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.polling_gates import CONNECTION, beats, gates, in_a_loop, outcomes, pollers, until

from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling import balance_poll as streams
from airflow_provider_stability.polling.registry import subscribe

if TYPE_CHECKING:
    import pytest

    from airflow_provider_stability.simulator import Simulator


def stream() -> Any:
    return pollers()[CONNECTION].stream(None)


@in_a_loop
async def test_a_watcher_is_woken_by_every_poll_and_settled_by_no_balance(account: Simulator) -> None:
    watcher = subscribe(CONNECTION, None, 5.0, 0.05, is_watcher=True)
    with gates(interval=0.05):
        for polls in range(1, 4):
            await watcher.wait()
            assert account.count() >= polls
            assert watcher.latest.credits == 10
        late = subscribe(CONNECTION, None, 5.0, 0.05, is_watcher=True)  # it comes to a sample that is known
        await late.wait()
        assert (watcher.outcome, late.outcome) == (None, None)
        late.cancel()
    watcher.cancel()


@in_a_loop
async def test_a_gate_that_knows_no_balance_hears_of_the_first_and_then_of_changes_only(
    account: Simulator,
) -> None:
    with gates(interval=0.05) as (gate,):
        assert (gate.latest.is_balance_known, gate.latest.credits, gate.is_first_answer_due) == (
            False,
            None,
            True,
        )
        await gate.wait()
        assert (gate.latest.is_balance_known, gate.latest.credits, gate.is_first_answer_due) == (
            True,
            10,
            False,
        )
        woken = asyncio.create_task(gate.wait())
        before = account.count()
        await until(lambda: account.count() >= before + 5)
        assert not woken.done()
        account.fail(status=503, times=None)
        await woken
        assert (gate.latest.is_balance_known, gate.latest.credits) == (False, 10)


@in_a_loop
async def test_telling_many_gates_what_is_new_does_not_hold_up_the_next_poll(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_NEWS_SLICE", 1)
    monkeypatch.setattr(streams, "_NEWS_GAP", 0.05)
    with gates(200, interval=0.2) as waiting:  # to tell them all takes 10 s
        await until(lambda: account.count() == 2)
        assert waiting[0].told_state == "known"
        assert waiting[-1].told_state is None


@in_a_loop
async def test_those_who_come_and_go_leave_nothing_behind_with_those_who_stay(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLICE", 10)
    with gates(3, needed=30, interval=60) as stay, gates(needed=20, interval=60) as less:
        await until(lambda: stay[0].latest.is_balance_known)
        for number in range(300):
            with gates(needed=1000 - number, interval=60):
                pass
            assert len(stream()._by_need) <= 2 * 4 + 10 + 1
        account.set_credits(25)
        with gates(interval=0.05) as fast:
            await until(lambda: less[0].outcome)
            assert outcomes(stay) == [None] * 3
            account.set_credits(30)
            await until(lambda: stay[2].outcome)
            assert outcomes([*stay, *less, *fast]) == [*[Opened(30.0)] * 3, Opened(25.0), None]


@in_a_loop
async def test_as_long_as_one_wants_to_know_often_it_is_asked_often(
    account: Simulator, clock: Simulator
) -> None:
    with gates(interval=60):
        with gates(3, interval=0.05) as often:
            often[0].cancel()
            often[1].cancel()
            before = account.count()
            await until(lambda: account.count() >= before + 5)
        under_way = account.count() + 1
        await beats(clock)
        assert account.count() <= under_way


@in_a_loop
async def test_a_gate_that_leaves_twice_makes_no_polls_for_the_others(
    account: Simulator, clock: Simulator
) -> None:
    with gates(2, interval=60) as waiting:
        await until(lambda: waiting[1].latest.is_balance_known)
        waiting[0].cancel()
        waiting[0].cancel()
        with gates(interval=60):
            await beats(clock)
        assert account.count() == 1


@in_a_loop
async def test_nobody_is_asked_for_more_often_than_twenty_times_a_second(account: Simulator) -> None:
    with gates(interval=0.0001):
        await until(lambda: account.count() >= 12)
    times = [each.at for each in account.requests]
    assert times[11] - times[1] >= 0.45


@in_a_loop
async def test_a_poll_can_be_told_from_other_tasks_by_its_name(account: Simulator) -> None:
    with gates() as waiting, gates(organization="org-b"):
        await until(lambda: waiting[0].latest.is_balance_known)
        names = [each.get_name() for each in asyncio.all_tasks()]
        assert names.count("stability-poll") == 2
