"""What a poll makes of calls that fail, hang, or are more than can be made at once."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    StabilityError,
)
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling.balance_poll import log
from airflow_provider_stability.simulator import Simulator
from support.polling_gates import (
    CONNECTION,
    DEFAULT,
    OTHERS,
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
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from support.polling_gates import Account


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "body": b"<html>bad gateway</html>", "content_type": "text/html"},
        {"status": 429, "retry_after": 0},
        {"reset": True},
        {"cut_body": True},
        {"body": b"<html>sign in</html>", "content_type": "text/html"},
        {"body": b'{"credits": NaN}'},
        {"delay": 30},
    ],
    ids=str,
)
@in_virtual_time
async def test_a_transient_error_keeps_gates_waiting_with_one_request_an_interval(
    account: Account, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setenv(VARIABLE, account.connection(timeout=0.2))
    account.set_credits(50)
    account.fail(times=2, **fault)
    with gates(50) as waiting:
        await pass_time(119)
        assert not any(outcomes(waiting))
        assert account.count() == 2
        await pass_time(2)
        assert outcomes(waiting) == [Opened(50)] * 50
    assert account.count() == 3


@in_virtual_time
async def test_gates_wait_for_a_service_that_is_down(account: Account) -> None:
    account.__exit__(None, None, None)
    with gates(50) as waiting:
        await pass_time(1)
        assert waiting[0].latest.error_kind == "StabilityConnectionError"
        with Simulator(credits=77, port=account.port):
            await pass_time(60)
        assert outcomes(waiting) == [Opened(77)] * 50


@in_virtual_time
async def test_a_refused_key_fails_all_gates_of_the_connection_with_one_request(account: Account) -> None:
    with gates(50, interval=10) as waiting, gates(50, organization="org-b") as others:
        await pass_time(1)
        account.fail(status=401, times=None)
        await pass_time(10)
        assert are_failed(waiting + others, AuthenticationError)
        assert isinstance(waiting[0].outcome, Failed)
        assert waiting[0].outcome.error.__traceback__ is None  # it would keep what its frames hold
    assert sorted(account.asked) == [("org-b", 0), (DEFAULT, 0), (DEFAULT, 10)]


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionDeniedError), (404, NotFoundError)])
@in_virtual_time
async def test_another_permanent_error_fails_the_gates_of_its_organization_alone(
    account: Account, status: int, kind: type[Exception]
) -> None:
    account.fail(status=status, organization="org-b", times=None)
    with gates(20) as waiting, gates(20, organization="org-b") as refused:
        await pass_time(1)
        assert are_failed(refused, kind)
        account.top_up(30)
        await pass_time(60)
        assert outcomes(waiting) == [Opened(40)] * 20
    assert account.count(organization="org-b") == 1


@in_a_loop
async def test_a_request_that_hangs_is_made_once_and_holds_up_no_other_organization(account: Account) -> None:
    account.fail(delay=60, times=None, organization="org-b")
    with gates(20, organization="org-b", interval=0.1), gates(interval=0.1) as (gate,):
        for _ in range(10):
            with gates(organization="org-b", interval=0.1):  # leaves while the request hangs
                before = account.count(organization=DEFAULT)
                await until(lambda: account.count(organization=DEFAULT) > before)  # noqa: B023
        assert account.count(organization="org-b") == 1
        account.top_up(30)
        assert await opened(gate) == 40


@in_a_loop
async def test_eight_calls_are_made_at_once_and_no_more(account: Account) -> None:
    account.fail(delay=0.3, times=None)
    with ExitStack() as stack:
        for name in OTHERS:
            stack.enter_context(gates(organization=name))
        await until(lambda: sum(each.answered_at is not None for each in account.requests) == len(OTHERS))
    starts = [(each.at, 1) for each in account.requests]
    ends = [(each.answered_at or 0.0, -1) for each in account.requests]
    calls = most = 0
    for _, change in sorted(starts + ends):
        calls += change
        most = max(most, calls)
    assert most == 8


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[StabilityClient]:
    """Return the clients that were made."""
    made: list[StabilityClient] = []
    make = StabilityClient.__init__

    def note(client: StabilityClient, *args: Any, **kwargs: Any) -> None:
        made.append(client)
        make(client, *args, **kwargs)

    monkeypatch.setattr(StabilityClient, "__init__", note)
    return made


@in_virtual_time
async def test_requests_one_after_another_share_a_client_until_the_settings_change(
    account: Account, clients: list[StabilityClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(interval=10):
        await pass_time(55)
        assert len(clients) == 1
        monkeypatch.setenv(VARIABLE, account.connection(timeout=9))
        await pass_time(60)
    assert [each.settings.timeout for each in clients] == [30, 9]


@in_virtual_time
async def test_a_client_that_another_call_takes_first_is_replaced(
    account: Account, clients: list[StabilityClient], mocker: MockerFixture
) -> None:
    class TakenByAnother(list[StabilityClient]):
        """Idle clients, the last of which is gone by the time it is taken."""

        def __bool__(self) -> bool:
            return True

    with gates(interval=10, needed=20) as (gate,):
        await pass_time(1)
        pollers()[CONNECTION]._clients = TakenByAnother()
        account.top_up(30)
        await pass_time(10)
        assert gate.outcome == Opened(40)
    assert len(clients) == 2


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return what says whether the operating system gives no thread, as at a container's limit."""
    full = threading.Event()
    start = threading.Thread.start

    def start_if_there_is_room(thread: threading.Thread) -> None:
        if full.is_set() and thread.name == THREAD_NAME:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_room)
    yield full
    full.clear()


@in_virtual_time
async def test_gates_wait_until_there_is_a_thread_for_their_call(
    account: Account, no_threads: threading.Event
) -> None:
    no_threads.set()
    with gates(20, needed=5) as waiting:
        await pass_time(59)
        assert waiting[0].latest.error == "no thread could be started for the request: can't start new thread"
        assert waiting[0].latest.error_kind == "StabilityConnectionError"
        assert not any(outcomes(waiting))
        no_threads.clear()
        await pass_time(2)
        assert outcomes(waiting) == [Opened(10)] * 20


@in_virtual_time
async def test_a_defect_in_a_call_fails_the_gates_and_is_logged_outside_of_their_logs(
    account: Account, mocker: MockerFixture
) -> None:
    gate_name: ContextVar[str | None] = ContextVar("gate_name", default=None)
    logged: list[tuple[str, str | None]] = []
    mocker.patch.object(log, "exception", lambda line, *args: logged.append((line % args, gate_name.get())))
    mocker.patch.object(StabilityClient, "get_balance", side_effect=ZeroDivisionError)
    gate_name.set("the first")
    with gates(20) as waiting:
        await pass_time(1)
        assert are_failed(waiting, StabilityError)
        assert isinstance(waiting[0].outcome, Failed)
        assert str(waiting[0].outcome.error) == "the poll broke: ZeroDivisionError; see the triggerer's log"
    assert logged == [("The poll of 'stability_default', organization None broke", None)]
