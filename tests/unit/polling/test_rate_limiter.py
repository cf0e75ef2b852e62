"""How many requests one key may make, and when; by a clock that only a test moves."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.polling.rate_limiter import Pause, RateLimiter
from airflow_provider_stability.polling.registry import registries
from airflow_provider_stability.polling.timing import Timing
from support.polling_gates import DEFAULT, OTHERS, gates, in_virtual_time, install
from support.virtual_time import THREAD_NAME, VirtualClock, pass_time

if TYPE_CHECKING:
    from support.polling_gates import Account


@pytest.fixture(params=[0.0, 1000.0])
def clock(request: pytest.FixtureRequest) -> VirtualClock:
    clock = VirtualClock()
    clock.now = request.param
    return clock


@pytest.fixture
def limiter(clock: VirtualClock) -> RateLimiter:
    return RateLimiter(Timing(clock=clock))


def acquire(limiter: RateLimiter, times: int) -> None:
    assert [limiter.try_acquire() for _ in range(times)] == [True] * times


def test_120_requests_are_allowed_and_the_next_when_the_first_is_10_s_old(
    clock: VirtualClock, limiter: RateLimiter
) -> None:
    acquire(limiter, 1)
    clock.now += 4
    acquire(limiter, 119)
    assert (limiter.delay, limiter.try_acquire()) == (6, False)
    clock.now += 5.5
    assert limiter.delay == 0.5
    clock.now += 0.5
    acquire(limiter, 1)
    assert limiter.delay == 4  # until the second is 10 s old
    clock.now += 4
    acquire(limiter, 119)
    assert limiter.delay == 6  # until the one that came late is


def test_the_longest_of_several_pauses_counts(clock: VirtualClock, limiter: RateLimiter) -> None:
    def state() -> tuple[float, Pause | None]:
        return limiter.delay, limiter.current_pause

    assert state() == (0, None)
    limiter.pause(60, "slow down")
    first = Pause("slow down", clock.time() + 60)
    for seconds in (5, 60):
        limiter.pause(seconds, "and again")
        assert state() == (60, first)
    limiter.pause(61, "slower")
    second = Pause("slower", clock.time() + 61)
    clock.now += 60.5
    assert state() == (0.5, second)
    assert not limiter.try_acquire()
    clock.now += 0.5
    assert state() == (0, None)
    acquire(limiter, 1)


def test_a_request_is_allowed_when_both_the_limit_and_the_pause_allow_it(
    clock: VirtualClock, limiter: RateLimiter
) -> None:
    acquire(limiter, 120)
    limiter.pause(3, "slow down")
    assert limiter.delay == 10
    limiter.pause(30, "slow down")
    assert limiter.delay == 30
    clock.now += 30
    acquire(limiter, 120)  # those that were refused in between do not count


@in_virtual_time
async def test_polls_make_as_many_requests_as_the_limit_allows_and_the_others_later(account: Account) -> None:
    install(requests=5)
    with ExitStack() as stack:
        for name in OTHERS:
            stack.enter_context(gates(interval=3600, organization=name))
        await pass_time(60)
    assert [at for _, at in account.asked] == [0] * 5 + [10] * 5 + [20] * 5 + [30] * 5
    assert {name for name, _ in account.asked} == set(OTHERS)


@in_virtual_time
async def test_calls_that_begin_together_do_not_exceed_the_limit(account: Account) -> None:
    install(requests=5)
    with gates(organization="org-0"), ExitStack() as stack:
        await pass_time(15)
        (limiter,) = registries[asyncio.get_running_loop()]._limiters.values()
        with limiter._lock:  # so that no call counts before the others have begun
            for name in OTHERS:
                stack.enter_context(gates(organization=name))
            while sum(each.name == THREAD_NAME for each in threading.enumerate()) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await pass_time(5)
        assert len(account.asked) == 1 + 5


@in_virtual_time
async def test_organizations_that_are_polled_faster_than_the_limit_all_get_their_turns(
    account: Account,
) -> None:
    install(requests=5)
    names = ("org-0", "org-1", "org-2")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(gates(interval=0.1, organization=name))
        await pass_time(100)
    check_limit(account)
    assert len(account.asked) >= 50
    assert all(len(account.times(name)) >= 10 for name in names)


@in_virtual_time
async def test_connections_with_one_key_share_its_limit_and_its_pause_however_the_host_is_spelled(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(requests=5)
    other = account.connection(organization="org-b").replace("127.0.0.1", "localhost")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", other)
    with gates(interval=0.1), gates(connection="other", interval=0.1) as (gate,):
        await pass_time(35)
        check_limit(account)
        assert len(account.times()) >= 5
        assert len(account.times("org-b")) >= 5
        account.fail(status=429, retry_after=300, organization=DEFAULT)
        await pass_time(6)
        assert "(retry after 300 s)" in str(gate.latest.error)
        before = len(account.asked)
        await pass_time(290)
        assert len(account.asked) == before


@in_virtual_time
async def test_the_limit_counts_the_requests_of_polls_that_have_ended(account: Account) -> None:
    install(requests=5, window=100.0)
    for _ in range(20):
        with gates(needed=5):
            await pass_time(1)
        await pass_time(11)
    check_limit(account, window=100)
    assert len(account.asked) == 12


def check_limit(account: Account, window: float = 10) -> None:
    """Check that there were never more than five requests in a window."""
    times = [at for _, at in account.asked]
    assert all(later - earlier > window - 0.001 for earlier, later in zip(times, times[5:], strict=False))
