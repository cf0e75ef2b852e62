"""The service asks for a pause: nobody is asked for in it, and the gates log it once."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.connection import reader
from airflow_provider_stability.connection.loading import load_settings_async
from airflow_provider_stability.gate.outcome import Opened
from support.polling_gates import (
    CONNECTION,
    DEFAULT,
    OTHERS,
    VARIABLE,
    gates,
    in_virtual_time,
    install,
    key_of,
    opened,
    outcomes,
)
from support.virtual_time import pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.connection.settings import Settings
    from airflow_provider_stability.polling.subscription import Subscription
    from support.polling_gates import Account

PAUSED = "no request until 2026-01-31 12:05:00 UTC, as the service asked: "


def knows_of_pause(gate: Subscription, message: str = PAUSED) -> bool:
    return str(gate.reported.error).startswith(message) and not gate.reported.is_balance_known


@asynccontextmanager
async def listening(gate: Subscription) -> AsyncIterator[list[str | None]]:
    """List what a gate is notified of."""
    found: list[str | None] = []

    async def listen() -> None:
        while gate.outcome is None:
            await gate.wait()
            found.append(gate.latest.state)

    task = asyncio.create_task(listen())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait([task])


@in_virtual_time
async def test_a_gate_that_comes_alone_in_a_pause_is_asked_for_when_it_is_over(
    account: Account,
) -> None:
    with gates():
        await pass_time(30)
        account.fail(status=429, retry_after=60)
        with gates(organization="org-b"):
            await pass_time(35)  # the pause from 30 to 90 is known from 60 on
    account.set_credits(100)
    with gates(interval=3600) as (late,):
        assert await opened(late) == 100
    assert account.times() == [0, 90]


@in_virtual_time
async def test_no_organization_of_the_key_is_asked_for_until_the_pause_is_over(account: Account) -> None:
    with gates(interval=1), gates(interval=1, organization="org-b") as waiting:
        await pass_time(10.5)
        account.fail(status=429, retry_after=300, organization=DEFAULT)
        await pass_time(1)
        before = len(account.asked)
        with gates(20, organization="org-c") as late:
            await pass_time(299)
            assert len(account.asked) == before
            account.top_up(30, "org-b")
            account.top_up(30, "org-c")
            await pass_time(2)
            assert outcomes(waiting + late) == [Opened(40)] * 21
    assert account.times("org-c") == [311]


@in_virtual_time
async def test_a_pause_is_longer_than_the_life_of_the_poll_that_was_told_of_it(account: Account) -> None:
    account.fail(status=429, retry_after=300)
    with gates():
        await pass_time(1)
    await pass_time(60)
    with gates(5) as late:
        await pass_time(200)
        assert all(map(knows_of_pause, late))
    assert account.times() == [0]


@in_virtual_time
async def test_calls_that_have_not_begun_are_not_made_in_a_pause(account: Account) -> None:
    account.fail(status=429, retry_after=300, times=None)
    with ExitStack() as stack:
        for name in OTHERS:
            stack.enter_context(gates(organization=name))
        await pass_time(299)
    assert len(account.asked) <= 8  # calls at once


@in_virtual_time
async def test_gates_that_come_in_a_pause_are_told_at_once(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection(timeout=9))
    account.fail(status=429, retry_after=300)
    with gates() as told:
        await pass_time(1)
        assert told[0].latest.error_kind == "RateLimitError"
        with gates(20, organization="org-b") as others, gates(connection="second") as same_key:
            await pass_time(0.5)
            assert all(map(knows_of_pause, others + same_key))
            assert str(others[0].latest.error).removeprefix(PAUSED) == told[0].latest.error
            with gates(organization="org-b") as (late,):
                assert knows_of_pause(late)


@in_virtual_time
async def test_gates_are_told_once_of_a_pause_that_another_request_met(account: Account) -> None:
    with (
        gates(organization="org-b", interval=10) as (gate,),
        gates(organization="org-c", interval=900) as idle,
    ):
        async with listening(gate) as heard, listening(idle[0]) as heard_by_idle:
            await pass_time(0.5)
            account.fail(status=429, retry_after=300)
            with gates(interval=600):
                await pass_time(299)
            assert heard == ["known", "StabilityConnectionError"]
            assert heard_by_idle == ["known"]  # no request of its own was due


@in_virtual_time
async def test_a_gate_whose_own_request_met_the_pause_is_told_of_nothing_else(account: Account) -> None:
    account.fail(status=429, retry_after=300)
    with gates(interval=1) as (gate,):
        async with listening(gate) as heard:
            await pass_time(299)
            assert heard == ["RateLimitError"]


@in_virtual_time
async def test_a_second_pause_in_the_words_of_the_first_is_told_as_well(account: Account) -> None:
    fault = {"status": 429, "retry_after": 300, "body": '{"id": "1", "name": "slow", "message": "down"}'}
    account.fail(**fault)  # type: ignore[arg-type]
    with gates(organization="org-b", interval=10) as (gate,):
        async with listening(gate) as heard:
            await pass_time(405)
            assert heard == ["RateLimitError", "known"]
            account.fail(**fault)  # type: ignore[arg-type]
            with gates(organization="org-c"):
                await pass_time(60)
            assert heard == ["RateLimitError", "known", "StabilityConnectionError"]


@in_virtual_time
async def test_a_full_rate_limit_is_not_told_as_a_pause_that_is_over(account: Account) -> None:
    install(requests=1, window=60.0)
    account.fail(status=429, retry_after=1)
    with gates(interval=60):
        await pass_time(65)
        with gates(organization="org-b") as (gate,):
            await pass_time(5)
            assert gate.latest.error is None
    assert account.times("org-b") == []


@pytest.mark.parametrize("header", ["999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
@pytest.mark.parametrize("status", [429, 503])
@in_virtual_time
async def test_a_pause_takes_an_hour_at_most(account: Account, status: int, header: str) -> None:
    account.fail(status=status, retry_after=header)
    with gates(interval=1):
        await pass_time(3600.5)
    assert account.times() == [0, 3600]


@in_virtual_time
async def test_a_key_that_is_replaced_in_a_pause_is_used_within_a_minute_for_all_organizations(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.fail(status=429, retry_after=3000, times=None)
    with ExitStack() as stack:
        waiting = [stack.enter_context(gates(organization=name))[0] for name in OTHERS]
        await pass_time(1)
        account.rotate_key("sk-next")
        account.heal()
        before = account.count()
        monkeypatch.setenv(VARIABLE, account.connection())
        await pass_time(60)
        assert all(each.latest.is_balance_known for each in waiting)
    assert {key_of(each) for each in account.requests[before:]} == {"sk-next"}


@in_virtual_time
async def test_a_key_that_replaces_a_refused_one_brings_its_pause_along(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(connection_id: str) -> Settings:
        """Replace the key right after the connection was read for the first time."""
        found = await load_settings_async(connection_id)
        if connection_id == CONNECTION:
            monkeypatch.setenv(VARIABLE, account.connection())
        return found

    account.rotate_key("sk-next")
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection())
    monkeypatch.setattr(reader, "load_settings_async", read)
    account.fail(status=429, retry_after=300)
    with gates(connection="second"):
        await pass_time(1)
        with gates(organization="org-b") as (gate,):
            await pass_time(1)
            assert knows_of_pause(gate)
    assert [each.status for each in account.requests] == [429, 401]


@in_virtual_time
async def test_after_a_pause_the_organization_that_the_connection_names_then_is_asked_for(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.fail(status=429, retry_after=300)
    with gates() as waiting:
        await pass_time(1)
        account.set_credits(1000)  # the organization that the connection does not mean any more
        monkeypatch.setenv(VARIABLE, account.connection(organization="org-b"))
        await pass_time(400)
        assert outcomes(waiting) == [None]
    assert account.times() == [0]
    assert account.times("org-b")[0] == 300


@in_virtual_time
async def test_without_a_connection_no_request_is_made_after_a_pause(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.fail(status=429, retry_after=300)
    with gates() as (gate,):
        await pass_time(1)
        monkeypatch.delenv(VARIABLE)
        await pass_time(400)
        assert "was found before, but is not found now" in str(gate.latest.error)
    assert account.times() == [0]
