"""While the service wants to be left alone: whom that holds up, and what those hear who wait meanwhile."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.polling_gates import CONNECTION, OTHERS, beats, gates, in_a_loop, outcomes, pollers, until

from airflow_provider_stability.connection.loading import load_settings_async
from airflow_provider_stability.exceptions import (
    MAX_PAUSE,
    RateLimitError,
    ServerError,
    StabilityStatusError,
)
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.polling.rate_limiter import BUDGET
from airflow_provider_stability.triggers.balance import BalanceTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.connection.settings import Settings
    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import Simulator

VARIABLE = "AIRFLOW_CONN_STABILITY_DEFAULT"
# The service's words for a 429, after ours.
WHY = re.compile(
    r"no request before \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, as the service has said: "
    r".*balance: 429 too_many_requests.* \(retry after 300 s\).*"
)


def has_heard_why(waiter: Subscription) -> bool:
    return waiter.told_state == "StabilityConnectionError" and bool(WHY.fullmatch(waiter.latest.error or ""))


@asynccontextmanager
async def hearing(waiter: Subscription) -> AsyncIterator[list[str | None]]:
    """List what a gate hears, as its trigger would."""
    heard: list[str | None] = []

    async def listen() -> None:
        while not waiter.is_over:
            await waiter.wait()
            heard.append(waiter.latest.error_kind)

    listening = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listening.cancel()
        await asyncio.wait([listening])


@in_a_loop
async def test_a_key_that_is_replaced_in_a_pause_is_asked_with_for_all_organizations_that_wait(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.3)
    account.fail(status=429, retry_after=300, times=None)
    with ExitStack() as stack:
        # Many more than there are threads, and the pause longer than this test may take.
        waiting = [stack.enter_context(gates(organization=name))[0] for name in OTHERS]
        await until(lambda: all(each.latest.error for each in waiting))
        account.rotate_key("sk-next")
        account.heal()
        monkeypatch.setenv(VARIABLE, account.connection())
        await until(lambda: all(each.latest.is_balance_known for each in waiting))
        account.top_up(30, "org-7")
        await until(lambda: waiting[7].outcome)
        assert waiting[7].outcome == Opened(40.0)


@in_a_loop
async def test_who_comes_in_a_pause_hears_at_once_why_nothing_is_asked(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection())
    account.fail(status=429, retry_after=300)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.error)
        with gates(20, organization="org-b") as joined, gates(connection="second") as same_key:
            await until(lambda: all(map(has_heard_why, joined + same_key)))
            with gates(organization="org-b") as late:
                assert has_heard_why(late[0])  # without a turn of the loop
        assert account.count() == 1


@in_a_loop
async def test_gates_that_wait_already_hear_of_a_pause_once_and_not_at_each_look(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.05)  # looks that often whether the key is another
    with gates(organization="org-b", interval=60) as told, gates(organization="org-c") as other:
        await until(lambda: told[0].latest.is_balance_known and other[0].latest.is_balance_known)
        async with hearing(told[0]) as told_heard, hearing(other[0]) as other_heard:
            await until(lambda: told_heard and other_heard)  # of the balance
            account.fail(status=429, retry_after=300)
            with gates(interval=0.05) as third:
                await until(lambda: has_heard_why(other[0]) and third[0].latest.error)
                await beats(clock, 12)
            assert other_heard == [None, "StabilityConnectionError"]
            assert told_heard == [None]  # its poll was not due


@in_a_loop
async def test_the_gate_that_was_told_of_the_pause_itself_hears_nothing_else(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.05)
    account.fail(status=429, retry_after=300)
    with gates() as waiting:
        async with hearing(waiting[0]) as heard:
            await until(lambda: heard)
            await beats(clock)
            assert heard == ["RateLimitError"]


@in_a_loop
async def test_a_key_that_takes_the_place_of_a_refused_one_brings_its_pause_along(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.rotate_key("sk-next")
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection())
    account.fail(status=429, retry_after=300)

    async def read(connection_id: str) -> Settings:
        """Let the connection be mended right after it was read for the first time."""
        found = await load_settings_async(connection_id)
        if connection_id == CONNECTION:
            monkeypatch.setenv(VARIABLE, account.connection())
        return found

    monkeypatch.setattr(polling, "load_settings_async", read)
    with gates(connection="second") as paused:
        await until(lambda: paused[0].latest.error)
        with gates() as waiting:
            await until(lambda: waiting[0].latest.error)
            assert has_heard_why(waiting[0])
            assert [each.status for each in account.requests] == [429, 401]


@in_a_loop
async def test_who_waits_because_much_was_asked_hears_nothing_of_a_pause_that_is_over(
    account: Simulator, clock: Simulator
) -> None:
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        key = pollers()[CONNECTION]._budget
        key.pause(0.01, "leave me alone")
        await until(lambda: not key.is_paused)
        for _ in range(BUDGET):
            key.count()
        with gates(organization="org-b") as joined:
            await beats(clock)
            assert joined[0].latest.error is None
            assert account.count(organization="org-b") == 0


@in_a_loop
async def test_a_wait_that_ends_in_a_pause_says_that_in_its_event(account: Simulator) -> None:
    account.fail(status=429, retry_after=300)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.error)
        trigger = BalanceTrigger(min_credits=40, organization="org-b", end_time=time.time() + 1)
        (event,) = [each async for each in trigger.run()]
        assert event.payload["status"] == "timeout"
        known = "No balance was read. Last error, at "
        assert event.payload["message"].startswith(known)
        said = event.payload["message"].removeprefix(known).partition(" UTC: ")[2].removesuffix(".")
        assert WHY.fullmatch(said)
        assert account.count() == 1


@in_a_loop
async def test_those_who_heard_of_a_pause_are_polled_for_after_it(account: Simulator) -> None:
    account.fail(status=429, retry_after=2)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.error)
        with gates(20, organization="org-b") as joined:
            await until(lambda: joined[0].latest.error)
            account.top_up(30, "org-b")
            await until(lambda: all(outcomes(joined)))
            assert outcomes(joined) == [Opened(40.0)] * 20
    refused, *others = account.requests
    assert all(each.at >= refused.at + 1.9 for each in others)


@pytest.mark.parametrize(("kind", "status"), [(RateLimitError, 429), (ServerError, 503)], ids=["429", "503"])
@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(3599.0, 3599.0), (3600.0, 3600.0), (3601.0, 3600.0), (1e15, 3600.0), (0.0, 0.0)],
)
def test_a_pause_beyond_an_hour_counts_as_an_hour(
    kind: type[StabilityStatusError], status: int, retry_after: float, pause: float
) -> None:
    assert kind("no", status_code=status, retry_after=retry_after).pause == pause
    assert MAX_PAUSE == 3600.0


@pytest.mark.parametrize("header", ["999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
@pytest.mark.parametrize("status", [429, 503])
@in_a_loop
async def test_a_poll_sits_out_an_hour_of_a_pause_at_most(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, status: int, header: str
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float, *args: Any) -> None:
        if seconds > 60:
            slept.append(seconds)
        await sleep(seconds, *args)

    monkeypatch.setattr(polling, "SETTINGS_AGE", 1e9)  # so that a pause is slept in one piece
    account.fail(status=status, retry_after=header)
    with gates(interval=0.1) as waiting:
        monkeypatch.setattr(asyncio, "sleep", note)
        await until(lambda: waiting[0].latest.error and slept)
        assert 3500 < slept[0] <= 3600
        assert pollers()[CONNECTION].is_paused
    assert account.count() == 1
