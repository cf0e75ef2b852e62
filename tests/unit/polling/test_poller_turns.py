"""Many gates at once leave the event loop its turns; and what a poll leaves behind when it goes wrong."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from support.polling_gates import DEFAULT, are_failed, gates, in_a_loop, outcomes, until

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.exceptions import (
    PermissionDeniedError,
    StabilityConfigurationError,
    StabilityError,
)
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling import balance_poll as streams
from airflow_provider_stability.polling import poller as polling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import Simulator


@asynccontextmanager
async def counted(count: Callable[[], int]) -> AsyncIterator[list[int]]:
    """Count at each turn of the event loop, and list what the count was, whenever it was another."""
    seen: list[int] = []
    turns: list[int] = []

    async def look() -> None:
        while True:
            now = count()
            if not seen or seen[-1] != now:
                seen.append(now)
                turns.append(0)
            turns[-1] += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
    # Between the first and the last, nothing is slept on: another turn follows at once.
    assert max(turns[1:-1], default=0) <= 3


def over(waiters: list[Subscription]) -> int:
    return sum(each.is_over for each in waiters)


@in_a_loop
async def test_gates_that_fail_together_leave_the_loop_a_turn_after_every_tenth(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SLICE", 10)
    account.fail(status=403, times=None)
    with gates(35) as waiting:
        async with counted(lambda: over(waiting)) as seen:
            await until(lambda: over(waiting) == 35)
        assert are_failed(waiting, PermissionDeniedError)
        assert seen == [0, 10, 20, 30, 35]


@in_a_loop
async def test_gates_that_open_together_leave_the_loop_a_turn_after_every_tenth(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLICE", 10)
    with gates(35, needed=5) as waiting:
        async with counted(lambda: over(waiting)) as seen:
            await until(lambda: over(waiting) == 35)
        assert outcomes(waiting) == [Opened(10.0)] * 35
        assert seen == [0, 10, 20, 30, 35]


@in_a_loop
async def test_gates_are_told_a_few_at_a_time_with_a_pause_between_and_each_is_told(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_NEWS_SLICE", 10)
    monkeypatch.setattr(streams, "_NEWS_GAP", 0.05)
    with gates(35, interval=60) as waiting:
        seen: list[int] = []
        times: list[float] = []

        def told() -> int:
            return sum(each.told_state == "known" for each in waiting)

        async with asyncio.timeout(30):
            while not seen or seen[-1] < 35:
                if not seen or seen[-1] != told():
                    seen.append(told())
                    times.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0)
        assert seen == [0, 10, 20, 30, 35]
        assert min(late - early for early, late in itertools.pairwise(times[1:])) > 0.04


@in_a_loop
async def test_gates_without_news_leave_the_loop_a_turn_after_every_tenth(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SLICE", 10)
    looked: list[float] = []
    is_owed = streams.Subscription.is_owed_news
    with gates(35, interval=60) as waiting:
        await until(lambda: all(each.told_state == "known" for each in waiting))

        def look(waiter: Subscription, now: float) -> bool:
            looked.append(now)
            return is_owed(waiter, now)

        monkeypatch.setattr(streams.Subscription, "is_owed_news", look)
        async with counted(lambda: len(looked)) as seen:
            with gates(interval=0.05):  # after each poll it is looked who is to be told
                await until(lambda: len(looked) >= 35)
        assert max(late - early for early, late in itertools.pairwise(seen)) == 10
        assert len(seen) <= 6


@in_a_loop
async def test_a_gate_that_is_busy_when_it_is_told_holds_up_nobody(account: Simulator) -> None:
    with gates(2, interval=0.05) as (busy, other):
        await busy.wait()
        account.fail(status=503, times=3)
        await until(lambda: busy.told_state == "ServerError")
        await until(lambda: busy.told_state == "known")
        async with asyncio.timeout(30):
            await busy.wait()  # it was told meanwhile
        account.top_up(30)
        await until(lambda: other.outcome)
        async with asyncio.timeout(30):
            await busy.wait()
        assert outcomes([busy, other]) == [Opened(40.0)] * 2


@in_a_loop
async def test_a_key_that_is_rotated_is_taken_up_for_the_same_organization(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(organization="org-b") as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        account.rotate_key("sk-next")
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection())
        account.top_up(30, "org-b")
        await until(lambda: waiting[0].outcome)
        assert waiting[0].outcome == Opened(40.0)
    assert account.count(organization=DEFAULT) == 0


@in_a_loop
async def test_a_defect_of_ours_is_logged_with_the_connection(account: Simulator, mocker: Any) -> None:
    said: list[str] = []
    mocker.patch.object(polling.log, "exception", lambda line, *args: said.append(line % args))
    mocker.patch.object(polling._Client, "ask", side_effect=ZeroDivisionError)
    with gates() as waiting:
        await until(lambda: are_failed(waiting, StabilityError))
    assert said == ["The poll of connection 'stability_default' broke"]
    assert polling.log.name == polling.__name__


@in_a_loop
async def test_a_poll_that_breaks_by_a_defect_of_ours_fails_its_gates_and_no_others(
    account: Simulator, mocker: Any
) -> None:
    said: list[str] = []
    mocker.patch.object(streams.log, "exception", lambda line, *args: said.append(line % args))
    with gates(interval=0.05) as others:
        await until(lambda: others[0].latest.is_balance_known)
        opened = mocker.patch.object(streams.Stream, "_open", side_effect=ZeroDivisionError)
        account.fail(status=503, times=None, organization=DEFAULT)  # so that nothing is to be opened there
        await until(lambda: others[0].latest.error)
        with gates(3, organization="org-b") as waiting:
            await until(lambda: are_failed(waiting, StabilityError))
        mocker.stop(opened)
        assert isinstance(waiting[0].outcome, Failed)
        words = "the poll broke: ZeroDivisionError; the triggerer's log has the rest"
        assert str(waiting[0].outcome.error) == words
        assert said == ["The poll for organization 'org-b' broke"]
        account.heal()
        account.top_up(30)
        await until(lambda: others[0].outcome == Opened(40.0))
    assert streams.log.name == streams.__name__


@in_a_loop
async def test_a_connection_that_cannot_be_read_fails_its_gates_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_stability.connection.loading._RETRY_DELAYS", (0, 0))
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    with gates(3, connection="nowhere") as lost:
        await until(lambda: are_failed(lost, StabilityConfigurationError))
    await asyncio.sleep(0)
    assert broken == []


@in_a_loop
async def test_the_last_one_to_leave_has_the_service_hung_up(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[StabilityClient] = []
    close = StabilityClient.close

    def note(client: StabilityClient) -> None:
        close(client)
        closed.append(client)

    monkeypatch.setattr(StabilityClient, "close", note)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        assert closed == []
    await until(lambda: len(closed) == 1)
