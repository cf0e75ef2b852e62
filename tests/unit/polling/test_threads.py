"""The threads that make a poll's calls; and what a poll makes of calls that fail or hang."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from support.polling_gates import (
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

from airflow_provider_stability.connection.loading import load_settings_async
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityError,
)
from airflow_provider_stability.gate.outcome import Failed, Opened
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.polling.threads import CallThreads
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP = '{"conn_type": "http", "host": "http://127.0.0.1:9", "password": "x"}'


@pytest.fixture(autouse=True)
def _read_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_stability.connection.loading._RETRY_DELAYS", (0, 0))


@pytest.fixture
def calls() -> Iterator[CallThreads[list[str]]]:
    threads: CallThreads[list[str]] = CallThreads(list, list.clear)
    yield threads
    threads.close()


@in_a_loop
async def test_eight_calls_run_at_once_and_never_more(calls: CallThreads[list[str]]) -> None:
    together = threading.Barrier(8, timeout=30)
    names: set[int] = set()

    def call(_: list[str]) -> bool:
        together.wait()  # would break with fewer than eight
        names.add(threading.get_ident())
        return threading.current_thread().daemon

    assert await asyncio.gather(*(calls.call(call) for _ in range(24))) == [True] * 24
    assert len(names) == 8


@in_a_loop
async def test_a_call_returns_or_raises_what_its_function_does(calls: CallThreads[list[str]]) -> None:
    assert await calls.call(lambda _: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await calls.call(lambda _: 1 / 0)


@in_a_loop
async def test_calls_one_after_the_other_share_a_thread_and_its_state(calls: CallThreads[list[str]]) -> None:
    for _ in range(3):
        await calls.call(lambda state: state.append("called"))
    assert await calls.call(list) == ["called"] * 3


@in_a_loop
async def test_closing_ends_the_threads_and_releases_what_they_hold() -> None:
    released: list[int] = []
    threads: CallThreads[list[int]] = CallThreads(lambda: [threading.get_ident()], released.extend)
    together = threading.Barrier(3, timeout=30)
    await asyncio.gather(*(threads.call(lambda _: together.wait()) for _ in range(3)))
    threads.close()
    await until(lambda: len(released) == 3)
    await until(lambda: not {each.ident for each in threading.enumerate()} & set(released))


@in_a_loop
async def test_a_call_whose_caller_is_gone_does_not_hold_up_the_next(calls: CallThreads[list[str]]) -> None:
    started, end = threading.Event(), threading.Event()

    def hang(_: list[str]) -> None:
        started.set()
        end.wait(30)

    caller = asyncio.create_task(calls.call(hang))
    try:
        await until(started.is_set)
        caller.cancel()
        await asyncio.wait([caller])
        async with asyncio.timeout(10):
            assert await calls.call(lambda _: "next") == "next"
    finally:
        end.set()


@in_a_loop
async def test_a_call_whose_caller_is_gone_before_it_begins_is_not_made(
    calls: CallThreads[list[str]],
) -> None:
    end = threading.Event()
    made: list[int] = []
    busy = [asyncio.create_task(calls.call(lambda _: end.wait(30))) for _ in range(8)]
    await asyncio.sleep(0)
    waiting = asyncio.create_task(calls.call(lambda _: made.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    end.set()
    await asyncio.gather(*busy)
    await calls.call(lambda _: made.append(2))
    assert made == [2]


def test_a_call_that_hangs_holds_up_neither_the_loops_end_nor_the_processs() -> None:
    program = """
import asyncio, threading
from airflow_provider_stability.polling.threads import CallThreads
async def main():
    call = asyncio.create_task(CallThreads(list, list.clear).call(lambda _: threading.Event().wait(300)))
    await asyncio.sleep(0)
asyncio.run(main())
print("the end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert (done.stdout, done.stderr) == ("the end\n", "")


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
@in_a_loop
async def test_a_passing_error_keeps_all_waiting_with_one_request_an_interval(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(timeout=0.5))
    account.set_credits(50)
    account.fail(times=3, **fault)
    with gates(50) as waiting:
        await until(lambda: all(outcomes(waiting)))
        assert outcomes(waiting) == [Opened(50.0)] * 50
    assert account.count() == 4
    assert min(gaps(account)) >= 0.09


@in_a_loop
async def test_a_service_that_is_down_is_waited_for(account: Simulator) -> None:
    account.__exit__(None, None, None)
    with gates(50) as waiting:
        await until(lambda: waiting[0].latest.error_kind == "StabilityConnectionError")
        with Simulator(credits=77, port=account.port):
            await until(lambda: all(outcomes(waiting)))
        assert outcomes(waiting) == [Opened(77.0)] * 50


@in_a_loop
async def test_a_429_silences_every_organization_of_the_key_and_those_who_join(account: Simulator) -> None:
    with gates(20) as waiting, gates(20, organization="org-c"):
        await until(lambda: account.count(organization="org-c") >= 2 and waiting[0].latest.is_balance_known)
        account.fail(status=429, retry_after=2, organization="org-b")
        with gates(20, organization="org-b") as limited:
            await until(lambda: limited[0].latest.error_kind == "RateLimitError")
            with gates(20, interval=0.02) as joined, gates(20, organization="org-0") as new:
                (answer,) = [each for each in account.requests if each.status == 429]
                await until(lambda: new[0].latest.is_balance_known and limited[0].latest.is_balance_known)
                account.top_up(30)
                await until(lambda: all(outcomes(waiting + joined)))
    pause = [each for each in account.requests if answer.at + 0.4 < each.at < answer.at + 1.9]
    assert pause == []  # what was under way is over after 0.4 s


@in_a_loop
async def test_a_429_also_stops_the_calls_that_have_not_begun(account: Simulator, clock: Simulator) -> None:
    account.fail(status=429, retry_after=60, delay=0.5, times=None)
    with ExitStack() as stack:
        waiting = [stack.enter_context(gates(organization=name))[0] for name in OTHERS]
        await until(lambda: any(each.latest.error for each in waiting))
        await beats(clock, 12)
        assert account.count() <= 8  # as many as there are threads


@in_a_loop
async def test_a_pause_outlasts_those_who_were_told_of_it(account: Simulator, clock: Simulator) -> None:
    account.fail(status=429, retry_after=60)
    with gates() as waiting:
        await until(lambda: waiting[0].latest.error)
    with gates(5), gates(5, organization="org-b"):
        await beats(clock)
        assert account.count() == 1


@in_a_loop
async def test_a_request_that_hangs_is_the_only_one_and_holds_up_no_other_organization(
    account: Simulator,
) -> None:
    account.fail(delay=60, times=None, organization="org-b")
    with gates(20, organization="org-b"), gates(20) as waiting:
        await until(lambda: account.count(organization=DEFAULT) >= 10)
        assert account.count(organization="org-b") == 1
        account.top_up(30)
        await until(lambda: all(outcomes(waiting)))


@in_a_loop
async def test_a_refused_key_fails_all_who_wait_with_one_request(account: Simulator) -> None:
    with gates(50, interval=60) as waiting, gates(50, interval=60, organization="org-b") as also:
        await until(lambda: waiting[0].latest.is_balance_known and also[0].latest.is_balance_known)
        account.fail(status=401, times=None)
        with gates(interval=0.05) as trigger:
            await until(lambda: are_failed(waiting + also + trigger, AuthenticationError))
        assert account.count() == 3
        assert pollers() == {}
        with gates(5, organization="org-c") as late:
            await until(lambda: are_failed(late, AuthenticationError))
        assert account.count() == 3


@in_a_loop
async def test_a_refusal_is_forgotten_in_time(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "VERDICT_AGE", 0.0)
    account.fail(status=401)
    with gates() as waiting:
        await until(lambda: are_failed(waiting, AuthenticationError))
    await until(lambda: not polling._registries[asyncio.get_running_loop()].verdicts)
    with gates(needed=5) as late:
        await until(lambda: late[0].outcome)
        assert late[0].outcome == Opened(10.0)


def test_a_loop_in_which_the_key_was_refused_does_not_live_on(account: Simulator) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    account.fail(status=401)

    async def wait(needed: float) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with gates(needed=needed) as waiting:
            await until(lambda: waiting[0].outcome)

    asyncio.run(wait(5))
    asyncio.run(wait(5))  # asgiref keeps the last one
    gc.collect()
    assert loops[0]() is None


@in_a_loop
async def test_a_key_that_is_rotated_is_taken_up_and_nobody_fails(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gates(50) as waiting, gates(50, organization="org-b") as also:
        await until(lambda: waiting[0].latest.is_balance_known and also[0].latest.is_balance_known)
        account.rotate_key("sk-next")
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection())
        polls = account.count()
        await until(lambda: account.count() >= polls + 6)
        assert not any(outcomes(waiting + also))
        account.top_up(30)
        await until(lambda: all(outcomes(waiting)))
    assert account.requests[-1].headers["Authorization"] == "Bearer sk-next"


@in_a_loop
async def test_a_connection_is_read_again_in_time_and_fails_all_when_it_is_missing_or_broken(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTINGS_AGE", 0.0)
    with gates(5, connection="nowhere") as lost, gates(5) as waiting, gates(5, needed=100) as rest:
        await until(
            lambda: are_failed(lost, StabilityConfigurationError) and waiting[0].latest.is_balance_known
        )
        with Simulator(credits=60) as moved:
            monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", moved.connection())
            await until(lambda: outcomes(waiting) == [Opened(60.0)] * 5)
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", HTTP)
        await until(lambda: are_failed(rest, StabilityConfigurationError))


@in_a_loop
async def test_a_connection_that_cannot_be_read_just_now_fails_nobody(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = ["first", "second"]

    async def read_at_the_third_look(connection_id: str) -> Any:
        if failures:
            raise StabilityConfigurationError(failures.pop(), transient=True)
        return await load_settings_async(connection_id)

    monkeypatch.setattr(polling, "load_settings_async", read_at_the_third_look)
    with gates(20, needed=5) as waiting:
        await until(lambda: outcomes(waiting) == [Opened(10.0)] * 20)
        assert waiting[0].latest.error == "first"
    assert account.count() == 1


@in_a_loop
async def test_a_defect_of_ours_fails_the_gates_and_is_logged_for_none_of_them(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
) -> None:
    gate: ContextVar[str | None] = ContextVar("gate", default=None)
    seen: list[tuple[str, str | None]] = []
    mocker.patch.object(polling.log, "exception", lambda line, *_: seen.append((line, gate.get())))
    mocker.patch.object(polling._Client, "ask", side_effect=ZeroDivisionError)
    gate.set("the first")
    with gates(20) as waiting:
        await until(lambda: are_failed(waiting, StabilityError))
        assert isinstance(waiting[0].outcome, Failed)
        assert "ZeroDivisionError" in str(waiting[0].outcome.error)
    assert seen == [("The poll of connection %r broke", None)]
