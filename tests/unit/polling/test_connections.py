"""A connection that goes, comes, changes or hangs while gates wait on it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.connection import get_async_connection

from airflow_provider_stability.connection import loading, reader
from airflow_provider_stability.connection.loading import load_settings_async
from airflow_provider_stability.exceptions import AuthenticationError, StabilityConfigurationError
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.simulator import Simulator
from support.log_lines import level_and_text, lines_of
from support.polling_gates import (
    CONNECTION,
    VARIABLE,
    Account,
    are_failed,
    gates,
    in_virtual_time,
    key_of,
    opened,
    outcomes,
    pollers,
)
from support.virtual_time import pass_time

if TYPE_CHECKING:
    from airflow_provider_stability.polling.subscription import Subscription

DISAPPEARED = "connection 'stability_default' was found before, but is not found now: "
HTTP = '{"conn_type": "http", "host": "http://127.0.0.1:9", "password": "x"}'


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Future[None]]:
    """Let each read of a connection wait for a future of this list, for as long as there are some."""
    waits: list[asyncio.Future[None]] = []

    async def read_late(connection_id: str) -> Any:
        found = await get_async_connection(connection_id)
        if waits:
            await waits.pop(0)
        return found

    monkeypatch.setattr(loading, "get_async_connection", read_late)
    return waits


def hang(hanging: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    """Let the next read hang, and return what ends that."""
    hanging.append(asyncio.get_running_loop().create_future())
    return hanging[-1]


def know_of_disappearance(waiting: list[Subscription]) -> bool:
    return all(str(each.latest.error).startswith(DISAPPEARED) for each in waiting)


@in_virtual_time
async def test_the_connection_is_read_once_a_minute_for_all_organizations(
    account: Account, reads: list[str]
) -> None:
    with gates(20, interval=1), gates(20, organization="org-b", interval=1):
        await pass_time(59.5)
        assert reads == [CONNECTION]
        await pass_time(120)
        assert reads == [CONNECTION] * 3


@in_virtual_time
async def test_a_changed_connection_is_used_within_a_minute(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(interval=1) as (gate,), Simulator(credits=60) as moved:
        await pass_time(1)
        monkeypatch.setenv(VARIABLE, moved.connection())
        await pass_time(60)
        assert gate.outcome == Opened(60)


@in_virtual_time
async def test_a_connection_that_becomes_wrong_fails_all_its_gates_within_a_minute(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(5, interval=1) as waiting, gates(5, organization="org-b", interval=3600) as others:
        await pass_time(1)
        monkeypatch.setenv(VARIABLE, HTTP)
        await pass_time(60)
        assert are_failed(waiting + others, StabilityConfigurationError)


@in_virtual_time
async def test_a_rotated_key_is_taken_from_the_connection_before_a_gate_fails(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(50, interval=10) as waiting, gates(50, organization="org-b", interval=10) as others:
        await pass_time(1)
        account.rotate_key("sk-next")
        monkeypatch.setenv(VARIABLE, account.connection())
        before = account.count()
        await pass_time(15)
        assert not any(outcomes(waiting + others))
        assert {key_of(each) for each in account.requests[before:] if each.status == 200} == {"sk-next"}
        account.top_up(30)
        account.top_up(30, "org-b")
        await pass_time(10)
        assert outcomes(waiting + others) == [Opened(40)] * 100


@in_virtual_time
async def test_gates_keep_waiting_without_a_request_while_the_connection_is_gone(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(20) as waiting, gates(20, organization="org-b") as others:
        await pass_time(1)
        monkeypatch.delenv(VARIABLE)
        await pass_time(69)
        before = account.count()
        assert know_of_disappearance(waiting + others)
        assert waiting[0].latest.credits == 10  # the last balance stays known
        with gates(5) as late:
            assert know_of_disappearance(late)
            await pass_time(300)
        assert account.count() == before
        assert not any(outcomes(waiting + others + late))
        monkeypatch.setenv(VARIABLE, account.connection())
        account.top_up(30)
        await pass_time(70)
        assert outcomes(waiting) == [Opened(40)] * 20


@in_virtual_time
async def test_a_refused_key_fails_no_gate_while_its_connection_is_gone(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(5, interval=1) as waiting:  # the connection is not due to be read for a minute
        await pass_time(1)
        monkeypatch.delenv(VARIABLE)
        account.rotate_key("sk-next")
        await pass_time(20)
        assert know_of_disappearance(waiting)
        assert [each.status for each in account.requests].count(401) == 1  # the old key is not tried again
        monkeypatch.setenv(VARIABLE, account.connection())
        account.top_up(30)
        await pass_time(10)
        assert outcomes(waiting) == [Opened(40)] * 5


@in_virtual_time
async def test_a_connection_that_was_never_found_fails_its_gates_and_no_others(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(3, interval=1) as waiting, gates(3, connection="nowhere") as lost:
        await pass_time(10)
        assert are_failed(lost, StabilityConfigurationError)
        assert isinstance(lost[0].outcome, Failed)
        assert str(lost[0].outcome.error).startswith("connection 'nowhere'")
        assert waiting[0].latest.is_balance_known
        assert not any(outcomes(waiting))
        await pass_time(6)  # a poll that never had a balance comes to its end as well
        assert list(pollers()) == [CONNECTION]


@in_virtual_time
async def test_a_refused_gate_gets_what_is_known_of_the_organization_that_its_connection_has_now(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", account.connection())
    monkeypatch.setenv(VARIABLE, account.connection(organization="org-b"))
    account.fail(status=403, organization="org-b")

    async def read_before_the_change(connection_id: str) -> Any:
        found = await load_settings_async(connection_id)
        monkeypatch.setenv(VARIABLE, account.connection(organization="org-c"))
        return found

    with gates(connection="other", organization="org-c"):
        await pass_time(1)
        monkeypatch.setattr(reader, "load_settings_async", read_before_the_change)
        with gates(needed=10) as (gate,):
            assert await opened(gate) == 10
    assert (account.times("org-b"), account.times("org-c")) == ([1], [0])


@in_virtual_time
async def test_a_poll_whose_gates_leave_before_it_can_ask_lives_on_for_the_next_gate(
    account: Account, hanging: list[asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", account.connection())
    with gates(connection="other"):
        await pass_time(1)
        late = hang(hanging)
        with gates():
            await pass_time(1)
        late.set_result(None)
        await pass_time(1)
        assert list(pollers()) == ["other", CONNECTION]
        with gates(needed=10) as (gate,):
            assert await opened(gate) == 10
    assert account.times() == [0]


@in_virtual_time
async def test_a_read_that_fails_for_now_is_made_again(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError("first"), OSError("second")]

    async def read(connection_id: str) -> Any:
        if failures:
            raise failures.pop(0)
        return await get_async_connection(connection_id)

    monkeypatch.setattr(loading, "get_async_connection", read)
    with gates(20, needed=5) as waiting:
        await pass_time(60)
        assert "'stability_default' could not be read: OSError" in str(waiting[0].latest.error)
        assert not any(outcomes(waiting))
        await pass_time(61)
        assert outcomes(waiting) == [Opened(10)] * 20


@in_virtual_time
async def test_a_read_that_never_returns_is_made_again_after_a_minute(
    account: Account, hanging: list[asyncio.Future[None]]
) -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    hang(hanging)
    with gates(20, needed=5) as waiting:
        await pass_time(61)
        assert waiting[0].latest.error == (
            "connection 'stability_default' could not be read within 60 s: "
            "Airflow or its secrets backend does not answer"
        )
        assert waiting[0].latest.error_kind == "StabilityConfigurationError"
        await pass_time(60)
        assert outcomes(waiting) == [Opened(10)] * 20
    gc.collect()  # nobody but the package holds the read that still hangs
    await pass_time(1)
    assert broken == []


@in_virtual_time
async def test_while_a_read_hangs_gates_wait_on_the_connection_as_it_was(
    account: Account, hanging: list[asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with lines_of(reader, monkeypatch, level_and_text) as lines, gates(interval=1) as (gate,):
        await pass_time(59.5)
        hang(hanging)
        account.top_up(30)
        await pass_time(61)
        assert gate.outcome == Opened(40)
        ((level, line),) = lines
        assert level == "WARNING"
        assert line.startswith("Using the connection as it was before: connection 'stability_default' could")


@in_virtual_time
async def test_a_late_read_does_not_bring_back_what_was_replaced_meanwhile(
    account: Account, hanging: list[asyncio.Future[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(interval=1):
        await pass_time(59.5)
        late = hang(hanging)  # a read that has found the connection as it was
        await pass_time(30)
        with gates(organization="org-b", needed=10) as (gate,):  # waits for the same read, but for longer
            await pass_time(10)
            monkeypatch.setenv(VARIABLE, account.connection(organization="org-c"))
            await pass_time(30)
            late.set_result(None)
            assert await opened(gate) == 10
        await pass_time(30)
    assert account.times("org-c") == list(range(121, 160))
    assert account.times()[-1] == 120


@in_virtual_time
async def test_a_read_that_fails_after_it_was_given_up_is_nobodys_error(
    account: Account, hanging: list[asyncio.Future[None]]
) -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    late = hang(hanging)
    with gates(needed=5) as (gate,):
        await pass_time(61)
        late.set_exception(OSError("late"))
        assert await opened(gate) == 10
    gc.collect()
    await pass_time(1)
    assert broken == []


@pytest.mark.parametrize(("seconds", "interval"), [(6.0, 60.0), (2.0, 1.0)])
@in_virtual_time
async def test_a_refusal_is_believed_however_long_the_connection_takes_to_be_read_again(
    account: Account, monkeypatch: pytest.MonkeyPatch, seconds: float, interval: float
) -> None:
    account.fail(status=401, times=None)

    async def read_slowly(connection_id: str) -> Any:
        await asyncio.sleep(seconds)
        return await load_settings_async(connection_id)

    monkeypatch.setattr(reader, "load_settings_async", read_slowly)
    with gates(interval=interval) as refused:
        await pass_time(3 * seconds)
        assert are_failed(refused, AuthenticationError)
    assert account.times() == [seconds]
