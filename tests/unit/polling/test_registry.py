"""How long a poll lives, and what gates find that come one after another."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.exceptions import AuthenticationError, PermissionDeniedError
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling.registry import registries
from support.polling_gates import (
    CONNECTION,
    DEFAULT,
    VARIABLE,
    are_failed,
    gates,
    in_a_loop,
    in_virtual_time,
    opened,
    outcomes,
    pollers,
    until,
)
from support.virtual_time import THREAD_NAME, pass_time

if TYPE_CHECKING:
    import pytest

    from support.polling_gates import Account


@in_virtual_time
async def test_a_hundred_gates_50_ms_apart_make_one_request(account: Account, reads: list[str]) -> None:
    for _ in range(100):
        with gates(needed=10) as (gate,):
            assert await opened(gate) == 10
        await pass_time(0.05)
    assert account.times() == [0]
    assert reads == [CONNECTION]


@in_virtual_time
async def test_fifty_gates_200_ms_apart_make_two_requests(account: Account, reads: list[str]) -> None:
    for _ in range(50):
        with gates(needed=10) as (gate,):
            assert await opened(gate) == 10
        await pass_time(0.2)
    assert len(account.times()) == 2
    assert reads == [CONNECTION]


@in_virtual_time
async def test_without_gates_a_poll_makes_no_request_and_reads_no_connection(
    account: Account, reads: list[str]
) -> None:
    with gates(interval=1):
        await pass_time(1.5)
    await pass_time(9.9)
    assert list(pollers()) == [CONNECTION]
    assert account.times() == [0, 1]
    assert reads == [CONNECTION]


@in_virtual_time
async def test_ten_seconds_after_its_last_gate_nothing_is_left_of_a_poll(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients: list[StabilityClient] = []
    closed: list[StabilityClient] = []
    make, close = StabilityClient.__init__, StabilityClient.close

    def note_start(client: StabilityClient, *args: object, **kwargs: object) -> None:
        clients.append(client)
        make(client, *args, **kwargs)  # type: ignore[arg-type]

    def note_end(client: StabilityClient) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(StabilityClient, "__init__", note_start)
    monkeypatch.setattr(StabilityClient, "close", note_end)
    with gates(10), gates(10, organization="org-b"):
        await pass_time(1)
        names = [each.get_name() for each in asyncio.all_tasks()]
        assert names.count("stability-poll") == 2
    await pass_time(9.9)
    assert closed == []
    await pass_time(0.2)
    assert pollers() == {}
    assert {id(each) for each in closed} == {id(each) for each in clients} != set()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [each for each in threading.enumerate() if each.name == THREAD_NAME]


@in_virtual_time
async def test_an_organization_without_gates_ends_alone(account: Account) -> None:
    with gates() as (gate,):
        with gates(organization="org-b"):
            await pass_time(1)
        await pass_time(15)
        with gates(organization="org-b"):
            await pass_time(1)
        account.top_up(30)
        assert await opened(gate) == 40
    assert account.times("org-b") == [0, 16]


@in_virtual_time
async def test_a_gate_that_comes_back_finds_what_was_read_within_five_seconds(account: Account) -> None:
    with gates():
        await pass_time(1)
    await pass_time(4)
    with gates() as (back,):
        assert back.latest.credits == 10
        await pass_time(1)
    assert account.times() == [0]
    await pass_time(4)
    with gates() as (late,):
        before = late.latest.credits
        await pass_time(1)
        assert (before, late.latest.credits) == (None, 10)
    assert account.times() == [0, 10]


@in_virtual_time
async def test_a_refused_organization_is_asked_again_after_five_seconds(account: Account) -> None:
    account.fail(status=403, organization="org-b")
    with gates(organization="org-b") as refused:
        await pass_time(5)
        with gates(organization="org-b") as late:
            assert are_failed([*refused, *late], PermissionDeniedError)
    await pass_time(0.1)
    for _ in range(2):
        with gates(needed=10, organization="org-b") as (later,):
            assert await opened(later) == 10
    assert account.times("org-b") == [0, 5.1]


@in_virtual_time
async def test_a_refused_key_fails_gates_that_come_within_five_seconds_without_a_request(
    account: Account,
) -> None:
    account.fail(status=401, times=None)
    for _ in range(10):
        with gates(5) as waiting:
            await until(lambda: all(outcomes(waiting)))
        assert are_failed(waiting, AuthenticationError)
        await pass_time(0.4)
    assert account.count() == 1


@in_virtual_time
async def test_a_new_key_in_the_connection_is_used_after_a_refusal(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.rotate_key("sk-next")
    with gates() as refused:
        await pass_time(1)
        assert are_failed(refused, AuthenticationError)
    monkeypatch.setenv(VARIABLE, account.connection())
    await pass_time(5)
    with gates(needed=10) as (late,):
        assert await opened(late) == 10


@in_virtual_time
async def test_a_gate_that_cancels_twice_takes_no_other_along(account: Account) -> None:
    with gates(2) as (twice, other):
        twice.cancel()
        twice.cancel()
        account.top_up(30)
        assert await opened(other) == 40
        assert twice.outcome is None


def test_event_loops_share_nothing_and_leave_nothing_behind(account: Account) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    together = threading.Barrier(2, timeout=30)

    @in_a_loop
    async def wait(*, is_alone: bool) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        # The account's default organization by both names: what they share must not keep the loop either.
        with gates(needed=5) as (gate,), gates(organization=DEFAULT), gates(organization="org-b") as (last,):
            if not is_alone:
                together.wait()
            assert await opened(gate) == 10
            await until(lambda: last.latest.is_balance_known)
            if not is_alone:
                together.wait()

    threads = [threading.Thread(target=wait, kwargs={"is_alone": False}) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert account.count(organization="org-b") == 2
    wait(is_alone=True)  # asgiref keeps the last one
    gc.collect()
    assert [each() for each in loops[:2]] == [None, None]
    assert not any(each.pollers for each in registries.values())


@in_virtual_time
async def test_a_gate_opens_on_an_answer_to_a_request_that_was_made_for_another(account: Account) -> None:
    with gates(needed=10) as first, gates(50, needed=5) as others:
        await pass_time(1)
        assert outcomes([*first, *others]) == [Opened(10.0)] * 51
    assert account.times() == [0]
