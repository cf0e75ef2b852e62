"""Threads of calls whose callers have left, and threads that cannot be had."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.polling_gates import DEFAULT, gates, in_a_loop, outcomes, until

from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling import threads as call_threads
from airflow_provider_stability.polling.threads import CallThreads, NoThreadError
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    Calls = CallThreads[list[str]]

NAME = "stability-poll"


class Hang:
    """Calls that hang until they are let go, and how many of them there are."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.begun = 0
        self.threads: list[threading.Thread] = []
        self.callers: list[asyncio.Task[None]] = []

    def _hang(self, _: list[str]) -> None:
        with self._lock:
            self.begun += 1
            self.threads.append(threading.current_thread())
        self._end.wait(60)

    async def begin(self, count: int) -> None:
        """Make so many calls, and return when they hang."""
        wanted = self.begun + count
        self.callers += [asyncio.create_task(self._calls.call(self._hang)) for _ in range(count)]
        await until(lambda: self.begun == wanted)

    async def leave(self, count: int | None = None) -> None:
        """Let so many callers leave, or all; their calls hang on."""
        leaving, self.callers = self.callers[:count], self.callers[len(self.callers[:count]) :]
        for each in leaving:
            each.cancel()
        await asyncio.wait(leaving)

    def let_go(self) -> None:
        """End the calls."""
        self._end.set()

    @property
    def alive(self) -> int:
        """How many of their threads there still are."""
        return sum(each.is_alive() for each in self.threads)


@pytest.fixture
def calls() -> Iterator[Calls]:
    threads: Calls = CallThreads(list, list.clear)
    yield threads
    threads.close()


@pytest.fixture
def hang(calls: Calls) -> Iterator[Hang]:
    made = Hang(calls)
    yield made
    made.let_go()
    calls.close()
    for each in made.threads:
        each.join(30)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return what says whether the operating system gives no thread, as at a container's limit."""
    full = threading.Event()
    start = threading.Thread.start

    def start_if_there_is_room(thread: threading.Thread) -> None:
        if full.is_set() and thread.name == NAME:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_room)
    yield full
    full.clear()


def polling_threads() -> set[threading.Thread]:
    """Return the threads of calls that there are."""
    return {each for each in threading.enumerate() if each.name == NAME}


async def made(calls: Calls) -> bool:
    """Return whether a call is made, in less time than those that hang do."""
    async with asyncio.timeout(30):
        return bool(await calls.call(lambda _: True))


@in_a_loop
async def test_calls_that_hang_and_are_left_take_no_thread_from_the_next(calls: Calls, hang: Hang) -> None:
    await hang.begin(8)
    await hang.cancel()
    assert await made(calls)
    assert hang.alive == 8


@in_a_loop
async def test_eight_calls_run_at_once_beside_those_that_are_left(calls: Calls, hang: Hang) -> None:
    await hang.begin(8)
    await hang.cancel()
    together = threading.Barrier(8, timeout=30)
    async with asyncio.timeout(40):
        await asyncio.gather(*(calls.call(lambda _: together.wait()) for _ in range(8)))


@in_a_loop
async def test_there_are_never_more_than_thirty_two_and_a_call_has_the_first_that_ends(
    calls: Calls, hang: Hang
) -> None:
    for _ in range(4):
        await hang.begin(8)
        await hang.cancel()
    before = threading.active_count()
    waiting = [asyncio.create_task(made(calls)) for _ in range(12)]
    await asyncio.sleep(0)
    assert threading.active_count() == before  # none was started for them
    assert (hang.begun, hang.alive) == (32, 32)
    hang.let_go()
    assert await asyncio.gather(*waiting) == [True] * 12


@in_a_loop
async def test_a_thread_ends_with_the_call_that_was_left(calls: Calls, hang: Hang) -> None:
    await hang.begin(3)
    await hang.cancel()
    assert await made(calls)  # by a thread of its own
    hang.let_go()
    await until(lambda: hang.alive == 0)
    assert await made(calls)


@in_a_loop
async def test_a_call_that_waits_has_a_thread_as_soon_as_one_before_it_is_left(
    calls: Calls, hang: Hang
) -> None:
    await hang.begin(8)
    waiting = [asyncio.create_task(made(calls)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    await hang.leave(1)
    assert await asyncio.gather(*waiting) == [True] * 3


@in_a_loop
async def test_closing_lets_all_end_those_that_were_left_too(hang: Hang, calls: Calls) -> None:
    before = polling_threads()
    await hang.begin(8)
    await hang.leave(5)
    assert await made(calls)
    started = polling_threads() - before
    assert len(started) == 9
    calls.close()
    await hang.cancel()  # as the poller does: it closes, and its streams leave
    hang.let_go()
    await until(lambda: not any(each.is_alive() for each in started))


@in_a_loop
async def test_the_thread_of_a_left_call_releases_what_it_holds() -> None:
    released: list[int] = []
    threads: CallThreads[list[str]] = CallThreads(list, lambda _: released.append(threading.get_ident()))
    left = Hang(threads)
    try:
        await left.begin(2)
        await left.cancel()
    finally:
        left.let_go()
    await until(lambda: len(released) == 2)
    threads.close()


@in_a_loop
async def test_no_thread_to_be_had_is_told_to_the_caller_and_the_next_call_tries_again(
    calls: Calls, no_threads: threading.Event
) -> None:
    no_threads.set()
    for _ in range(10):
        with pytest.raises(NoThreadError, match="can't start new thread"):
            await calls.call(lambda _: True)
    no_threads.clear()
    assert await asyncio.gather(*(made(calls) for _ in range(10))) == [True] * 10


@in_a_loop
async def test_a_call_waits_for_the_threads_there_are_where_no_other_is_to_be_had(
    calls: Calls, hang: Hang, no_threads: threading.Event
) -> None:
    await hang.begin(1)
    no_threads.set()
    waiting = [asyncio.create_task(made(calls)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    hang.let_go()
    assert await asyncio.gather(*waiting) == [True] * 3


@in_a_loop
async def test_a_call_has_the_thread_of_a_left_one_where_no_other_is_to_be_had(
    calls: Calls, hang: Hang, no_threads: threading.Event
) -> None:
    await hang.begin(1)
    no_threads.set()
    waiting = asyncio.create_task(made(calls))
    await asyncio.sleep(0)
    (caller,) = hang.callers
    await hang.cancel()
    assert caller.cancelled()  # and not failed, for want of a thread for the next
    hang.let_go()
    assert await waiting


@in_a_loop
async def test_a_call_starts_one_thread(calls: Calls) -> None:
    before = polling_threads()
    assert await made(calls)
    assert len(polling_threads() - before) == 1
    for _ in range(3):  # which the next ones find free
        assert await made(calls)
    assert len(polling_threads() - before) == 1


@in_a_loop
async def test_a_caller_that_leaves_before_its_call_begins_takes_no_thread_away(
    calls: Calls, hang: Hang
) -> None:
    before = polling_threads()
    await hang.begin(8)
    waiting = [asyncio.create_task(made(calls)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert len(polling_threads() - before) == 8
    hang.let_go()
    assert await waiting[1]


@in_a_loop
async def test_a_caller_that_leaves_when_its_call_is_over_takes_no_thread_along(calls: Calls) -> None:
    before = polling_threads()
    is_made = threading.Event()
    caller = asyncio.create_task(calls.call(lambda _: is_made.set()))
    await asyncio.sleep(0)
    assert is_made.wait(30)
    (thread,) = polling_threads() - before
    # The event loop has had no turn, and has not heard that the call is over.
    end = time.monotonic() + 30
    while calls._open and time.monotonic() < end:
        time.sleep(0.001)  # noqa: ASYNC251  # it is to have none
    caller.cancel()
    await asyncio.wait([caller])
    assert await made(calls)
    assert polling_threads() - before == {thread}
    calls.close()
    await until(lambda: not thread.is_alive())


@in_a_loop
async def test_after_closing_no_thread_is_started_for_calls_that_wait(calls: Calls, hang: Hang) -> None:
    before = polling_threads()
    await hang.begin(8)
    waiting = asyncio.create_task(made(calls))
    await asyncio.sleep(0)
    calls.close()
    await hang.leave(1)
    assert len(polling_threads() - before) == 8
    hang.let_go()
    assert await waiting


@pytest.mark.parametrize("comebacks", [1, 3])
@in_a_loop
async def test_a_left_call_that_comes_back_makes_room_for_one_other(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, comebacks: int
) -> None:
    monkeypatch.setattr(call_threads, "_MOST_WITH_LEFT", 2)
    for _ in range(comebacks):
        left = Hang(calls)
        await left.begin(1)
        await left.cancel()
        left.let_go()
        await until(lambda: left.alive == 0)  # noqa: B023  # it is waited for here
    hang = Hang(calls)
    try:
        for _ in range(2):
            await hang.begin(1)
            await hang.cancel()
        before = polling_threads()
        waiting = asyncio.create_task(made(calls))
        await asyncio.sleep(0)
        assert polling_threads() == before  # none was started for it: there are two
    finally:
        hang.let_go()
    assert await waiting


def test_a_call_that_ends_after_its_event_loop_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[object] = []
    monkeypatch.setattr(threading, "excepthook", broken.append)
    calls: Calls = CallThreads(list, list.clear)
    begun, end = threading.Event(), threading.Event()

    def hang(_: list[str]) -> None:
        begun.set()
        end.wait(30)

    before = polling_threads()
    loop = asyncio.new_event_loop()
    caller = loop.create_task(calls.call(hang))
    loop.run_until_complete(until(begun.is_set))
    (thread,) = polling_threads() - before
    # As where a process ends in the middle: nobody cancels what is under way.
    caller._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    calls.close()
    end.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not broken


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=10, organizations={"org-b": 10.0}, rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=60))
        yield simulator


@in_a_loop
async def test_gates_that_leave_requests_hanging_behind_take_none_from_other_organizations(
    account: Simulator,
) -> None:
    account.fail(delay=60, times=None, organization="org-b")
    with gates(interval=0.1) as waiting:
        for number in range(1, 11):
            with gates(organization="org-b", interval=60):
                await until(lambda number=number: account.count(organization="org-b") == number)  # type: ignore[misc]
        before = account.count(organization=DEFAULT)
        await until(lambda: account.count(organization=DEFAULT) >= before + 3)
        account.top_up(30)
        await until(lambda: waiting[0].outcome)
        assert outcomes(waiting) == [Opened(40.0)]


@in_a_loop
async def test_gates_wait_on_where_there_is_no_thread_to_ask(
    account: Simulator, no_threads: threading.Event
) -> None:
    no_threads.set()
    with gates(20, needed=5) as waiting:
        await until(lambda: waiting[0].latest.error)
        assert waiting[0].latest.error == (
            "this triggerer could not start a thread to ask: can't start new thread"
        )
        assert waiting[0].latest.error_kind == "StabilityConnectionError"
        assert not any(outcomes(waiting))
        assert account.count() == 0
        no_threads.clear()
        await until(lambda: all(outcomes(waiting)))
        assert outcomes(waiting) == [Opened(10.0)] * 20
