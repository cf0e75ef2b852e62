"""A connection that goes, comes, changes or hangs while gates wait on it; against the simulator."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.connection import get_async_connection
from support.log_lines import level_and_text, lines_of
from support.polling_gates import (
    CONNECTION,
    are_failed,
    beats,
    gates,
    in_a_loop,
    outcomes,
    pollers,
    until,
)

from airflow_provider_stability.connection import loading as connections
from airflow_provider_stability.exceptions import StabilityConfigurationError
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling import poller as polling

if TYPE_CHECKING:
    from airflow_provider_stability.polling.subscription import Subscription
    from airflow_provider_stability.simulator import RecordedRequest, Simulator

VARIABLE = "AIRFLOW_CONN_STABILITY_DEFAULT"
NOT_FOUND_NOW = (
    "connection 'stability_default' was found before, but is not found now: it was deleted, "
    "or Airflow's secrets backend or API does not answer"
)


@pytest.fixture(autouse=True)
def _read_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_RETRY_DELAYS", (0, 0))


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Future[None]]:
    """Let each read of a connection wait for a future of this list, for as long as there are some."""
    waits: list[asyncio.Future[None]] = []

    async def read_late(connection_id: str) -> Any:
        found = await get_async_connection(connection_id)
        if waits and connection_id == CONNECTION:
            await waits.pop(0)
        return found

    monkeypatch.setattr(connections, "get_async_connection", read_late)
    monkeypatch.setattr(polling, "LONGEST_READ", 0.3)
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.0)
    return waits


def says_not_found(waiters: list[Subscription]) -> bool:
    return all(each.latest.error == NOT_FOUND_NOW for each in waiters)


def key_of(request: RecordedRequest) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


@in_a_loop
async def test_a_connection_that_is_gone_for_now_is_waited_out_without_a_request(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.0)
    with gates(20) as waiting, gates(20, organization="org-b") as also:
        await until(lambda: waiting[0].latest.is_balance_known and also[0].latest.is_balance_known)
        there = os.environ.pop(VARIABLE)
        await until(lambda: says_not_found(waiting + also))
        before = account.count()
        with gates(5) as late:
            await beats(clock)
            assert says_not_found(late)
        assert not any(outcomes(waiting + also))
        assert account.count() == before
        assert waiting[0].latest.credits == 10.0  # the last that was read is still told
        account.top_up(30)
        account.top_up(30, "org-b")
        monkeypatch.setenv(VARIABLE, there)
        await until(lambda: all(outcomes(waiting + also)))
        assert outcomes(waiting + also) == [Opened(40.0)] * 40


@in_a_loop
async def test_a_key_that_is_refused_while_its_connection_is_gone_ends_no_gate(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(5) as waiting:  # the connection is not due to be read for a minute
        await until(lambda: waiting[0].latest.is_balance_known)
        del os.environ[VARIABLE]
        account.rotate_key("sk-next")
        await until(lambda: says_not_found(waiting))
        account.top_up(30)
        monkeypatch.setenv(VARIABLE, account.connection())
        await until(lambda: outcomes(waiting) == [Opened(40.0)] * 5)


@in_a_loop
async def test_a_connection_that_never_was_there_fails_its_gates_while_another_is_waited_for(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.0)
    with gates(3) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        del os.environ[VARIABLE]
        await until(lambda: says_not_found(waiting))
        with gates(3, connection="nowhere") as lost:
            await until(lambda: are_failed(lost, StabilityConfigurationError))
            assert isinstance(lost[0].outcome, Failed)
            said = str(lost[0].outcome.error)
            assert said.startswith("connection 'nowhere': it is not defined; add one of type 'stability'")
            assert said.endswith("(if it exists, Airflow's secrets backend or API did not answer)")
        await beats(clock)
        assert not any(outcomes(waiting))


async def paused(account: Simulator, clock: Simulator, waiter: Subscription) -> int:
    """Let the service ask for a pause, and return how many requests came until it did."""
    account.fail(status=429, retry_after=3)
    await until(lambda: waiter.latest.error_kind == "RateLimitError")
    await beats(clock)  # so that the next poll waits for its end already
    return account.count()


@in_a_loop
async def test_after_a_pause_the_organization_is_asked_for_that_the_connection_names_then(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.2)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        before = await paused(account, clock, waiting[0])
        account.set_credits(1000)  # the organization that the connection does not mean any more
        monkeypatch.setenv(VARIABLE, account.connection(organization="org-b"))
        await until(lambda: account.count() >= before + 2)
        assert {each.organization for each in account.requests[before:]} == {"org-b"}
        assert outcomes(waiting) == [None]


@in_a_loop
async def test_after_a_pause_a_key_that_was_replaced_meanwhile_is_not_used_again(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.2)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        before = await paused(account, clock, waiting[0])
        account.rotate_key("sk-next")
        monkeypatch.setenv(VARIABLE, account.connection())
        account.top_up(30)
        await until(lambda: waiting[0].outcome)
        assert outcomes(waiting) == [Opened(40.0)]
        assert {key_of(each) for each in account.requests[before:]} == {"sk-next"}


@in_a_loop
async def test_a_connection_that_is_taken_away_in_a_pause_is_not_asked_with_after_it(
    account: Simulator, clock: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.2)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        before = await paused(account, clock, waiting[0])
        del os.environ[VARIABLE]
        await beats(clock, 32)  # longer than the pause
        assert says_not_found(waiting)
        assert account.count() == before


@in_a_loop
async def test_a_read_that_never_returns_is_told_and_made_again(
    account: Simulator, hanging: list[asyncio.Future[None]]
) -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    loop = asyncio.get_running_loop()
    hanging.append(loop.create_future())
    hanging.append(loop.create_future())
    with gates(20, needed=5) as waiting:
        await until(lambda: waiting[0].latest.error)
        assert waiting[0].latest.error == (
            "connection 'stability_default' could not be read within 0.3 s: "
            "Airflow or its secrets backend does not answer"
        )
        assert waiting[0].latest.error_kind == "StabilityConfigurationError"
        await until(lambda: all(outcomes(waiting)))
        assert outcomes(waiting) == [Opened(10.0)] * 20
    assert hanging == []
    # Nobody but the package knows the two reads that still hang: let go of, they would break with a line.
    gc.collect()
    await asyncio.sleep(0)
    assert broken == []


@in_a_loop
async def test_a_read_that_never_returns_does_not_stop_a_poll_whose_connection_is_known(
    account: Simulator, hanging: list[asyncio.Future[None]]
) -> None:
    with gates(5) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        hanging.append(asyncio.get_running_loop().create_future())
        await until(lambda: not hanging)
        account.top_up(30)
        with gates(5, needed=20, interval=0.05) as late:
            await until(lambda: all(outcomes(waiting + late)))
        assert outcomes(waiting + late) == [Opened(40.0)] * 10


@in_a_loop
async def test_the_triggerer_s_log_says_that_a_connection_cannot_be_read_and_is_taken_as_it_was(
    account: Simulator, hanging: list[asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        lines_of(polling, monkeypatch, level_and_text) as lines,
        gates() as waiting,
    ):
        await until(lambda: waiting[0].latest.is_balance_known)
        hanging.append(asyncio.get_running_loop().create_future())
        await until(lambda: lines)
        level, line = lines[0]
        assert level == "WARNING"
        assert line.startswith(
            "Going on with the connection as it was: connection 'stability_default' could not"
        )


@in_a_loop
async def test_a_read_that_returns_late_does_not_bring_back_what_was_replaced_since(
    account: Simulator, hanging: list[asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates() as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        late = asyncio.get_running_loop().create_future()
        hanging.append(late)  # a read that has seen the key that follows is replaced
        await until(lambda: not hanging)
        account.rotate_key("sk-next")
        monkeypatch.setenv(VARIABLE, account.connection())
        await until(lambda: key_of(account.requests[-1]) == "sk-next" and account.requests[-1].status == 200)
        monkeypatch.setattr(polling, "SETTINGS_AGE", 60.0)
        before = account.count()
        late.set_result(None)
        await until(lambda: account.count() >= before + 3)
        assert {key_of(each) for each in account.requests[before:]} == {"sk-next"}
        assert outcomes(waiting) == [None]
        assert set(pollers()) == {CONNECTION}
