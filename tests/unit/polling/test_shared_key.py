"""An organization is polled once, however gates and connections name it."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.exceptions import PermissionDeniedError
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling.rate_limiter import RateLimiter
from airflow_provider_stability.polling.shared_key import SharedKey
from airflow_provider_stability.polling.timing import Timing
from support.polling_gates import (
    ACCOUNT,
    DEFAULT,
    VARIABLE,
    Account,
    are_failed,
    gates,
    in_a_loop,
    in_virtual_time,
    opened,
    outcomes,
    until,
)
from support.virtual_time import pass_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from airflow_provider_stability.polling.subscription import Subscription


@pytest.fixture
def other(account: Account, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return another connection with the same key, which also names an organization."""
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", account.connection(organization="org-b", max_retries=9))
    return "other"


def together(*each: AbstractContextManager[list[Subscription]]) -> AbstractContextManager[ExitStack]:
    """Enter several groups of gates."""
    stack = ExitStack()
    for one in each:
        stack.enter_context(one)
    return stack


@in_virtual_time
async def test_the_connections_organization_is_polled_once_by_name_and_without(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, account.connection(organization="org-b"))
    with together(gates(), gates(organization="org-b")):
        await pass_time(130)
    assert account.times("org-b") == [0, 60, 120]
    assert account.count(ACCOUNT) == 0


@in_virtual_time
async def test_two_connections_with_one_key_poll_an_organization_once(account: Account, other: str) -> None:
    with together(gates(organization="org-b"), gates(connection=other), gates(connection=other, interval=90)):
        await pass_time(130)
    assert account.times("org-b") == [0, 60, 120]


@in_virtual_time
async def test_gates_of_another_connection_open_on_an_answer_of_the_last_five_seconds(
    account: Account, other: str
) -> None:
    with gates(organization="org-b"):
        await pass_time(4.9)
        with gates(connection=other, needed=10) as (gate,):
            assert await opened(gate) == 10
        assert account.times("org-b") == [0]
        await pass_time(15)
        with gates(connection=other, needed=10) as (gate,):
            assert await opened(gate) == 10
    assert account.times("org-b") == [0, 19.9]


@in_virtual_time
async def test_the_accounts_default_organization_is_polled_once_by_name_and_without(account: Account) -> None:
    with gates(organization=DEFAULT) as named, gates() as unnamed:
        await pass_time(130)
        assert account.times() == [0, 60, 120]
        assert account.count(ACCOUNT) == 1
        account.top_up(30)
        await pass_time(60)
        assert outcomes(named + unnamed) == [Opened(40)] * 2
    assert account.times() == [0, 60, 120, 180]


@in_virtual_time
async def test_the_account_is_asked_once_for_two_connections(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECOND", account.connection())
    with together(gates(organization=DEFAULT), gates(), gates(connection="second")):
        await pass_time(70)
    assert account.times() == [0, 60]
    assert account.count(ACCOUNT) == 1


@in_virtual_time
async def test_a_refusal_that_another_connection_met_fails_gates_for_five_seconds_only(
    account: Account, other: str
) -> None:
    account.fail(status=403, organization="org-b")
    with gates(organization="org-b") as first:
        await pass_time(4)
        with gates(connection=other) as second:
            await pass_time(0.5)
            assert are_failed(first + second, PermissionDeniedError)
    await pass_time(4)
    with gates(connection=other, organization="org-b", needed=5) as (late,):
        assert await opened(late) == 10
    assert account.times("org-b") == [0, 8.5]


@in_virtual_time
async def test_a_gate_that_names_the_default_organization_joins_the_poll_of_those_that_do_not(
    account: Account,
) -> None:
    with gates():
        await pass_time(30)
        with gates(organization=DEFAULT):
            await pass_time(215)
    assert account.times() == [0, 60, 120, 180, 240]
    assert account.count(ACCOUNT) == 1


@pytest.mark.parametrize("organizations", [[None], ["org-b", "org-c", DEFAULT]])
@in_virtual_time
async def test_the_account_is_not_asked_where_all_gates_or_none_name_an_organization(
    account: Account, organizations: list[str | None]
) -> None:
    with together(*(gates(organization=each) for each in organizations)):
        await pass_time(130)
    assert account.count(ACCOUNT) == 0


@in_virtual_time
async def test_the_default_organization_is_believed_for_ten_minutes(account: Account) -> None:
    with together(gates(), gates(organization="org-b")):
        await pass_time(599)
        assert account.count(ACCOUNT) == 1
        await pass_time(2)  # the poll at 600 s asks anew
        assert account.count(ACCOUNT) == 2
    assert len(account.times()) == 11


@in_virtual_time
async def test_without_a_known_default_organization_the_two_are_polled_separately(account: Account) -> None:
    account.fail(status=500, path=ACCOUNT)
    with gates(organization=DEFAULT, needed=5) as (named,), gates(needed=5) as (unnamed,):
        assert await opened(named) == 10
        assert await opened(unnamed) == 10
    assert account.times() == [0, 0]
    assert account.count(ACCOUNT) == 1


@in_a_loop
async def test_a_request_for_the_account_that_hangs_holds_up_no_gate_with_an_organization(
    account: Account,
) -> None:
    account.fail(delay=60, path=ACCOUNT)
    with gates(organization="org-b"), gates():
        await until(lambda: account.count(ACCOUNT) == 1)
        with (
            gates(organization="org-c", needed=5) as (gate,),
            gates(organization=DEFAULT, needed=5) as (same,),
        ):
            async with asyncio.timeout(20):  # the request takes until the connection's timeout, 30 s
                assert await opened(gate) == 10
                assert await opened(same) == 10


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Serve another account with the same key, for the connection ``elsewhere``."""
    with Account() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", simulator.connection())
        yield simulator


@in_virtual_time
async def test_connections_to_different_hosts_share_no_answer(account: Account, elsewhere: Account) -> None:
    elsewhere.set_credits(20)
    with gates(needed=5) as (here,), gates(connection="elsewhere", needed=5) as (there,):
        assert (await opened(here), await opened(there)) == (10, 20)


@in_virtual_time
async def test_gates_without_an_organization_follow_a_default_that_changes(
    account: Account,
) -> None:
    with gates(needed=1000) as (unnamed,), gates(organization=DEFAULT, needed=1000):
        await pass_time(1)
        organizations = [
            {"id": each, "name": each, "role": "MEMBER", "is_default": each == "org-b"}
            for each in (DEFAULT, "org-b")
        ]
        answer = {"id": "user-1", "email": "a@b.example", "organizations": organizations}
        account.fail(status=200, body=json.dumps(answer), path=ACCOUNT, times=None)
        account.set_credits(2000)
        account.set_credits(7, "org-b")
        account.set_credits(10)
        await pass_time(700)
        assert unnamed.latest.credits == 7
    assert account.count(ACCOUNT) == 2


@in_a_loop
async def test_a_defect_in_the_look_up_of_the_default_organization_does_not_stop_the_next_one() -> None:
    key = SharedKey(Timing(settings=0.0), RateLimiter())
    held = key.balance("org-b")
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return DEFAULT

    assert await key.resolve(None, ask) is None
    assert await key.resolve(None, ask) == DEFAULT
    assert (asked, held.latest) == (2, None)
