"""What may be asked with one key, and when, by a clock that stands where a test puts it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_stability.polling import rate_limiter as budget
from airflow_provider_stability.polling.rate_limiter import Budget, Reason


class Clock:
    """Stands still between two tests' words."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 5000


@pytest.fixture(params=[0.0, 1000.0])
def clock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Clock:
    clock = Clock(request.param)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=clock.monotonic, time=clock.wall))
    return clock


def ask(key: Budget, times: int) -> None:
    for _ in range(times):
        assert key.wait == 0
        key.count()


def test_120_requests_are_free_and_the_next_waits_until_the_first_is_10_s_old(clock: Clock) -> None:
    key = Budget()
    ask(key, 1)
    clock.now += 4
    ask(key, 119)
    assert key.wait == 6
    clock.now += 5.5
    assert key.wait == 0.5
    clock.now += 0.5
    ask(key, 1)
    assert key.wait == 4  # for the second of them
    clock.now += 4
    ask(key, 119)
    assert key.wait == 6  # for the one that came late


def test_a_pause_is_waited_for_and_the_longer_of_two_counts(clock: Clock) -> None:
    key = Budget()
    assert (key.is_paused, key.wait) == (False, 0)
    key.pause(60)
    key.pause(5)
    assert (key.is_paused, key.wait) == (True, 60)
    clock.now += 59.5
    assert (key.is_paused, key.wait) == (True, 0.5)
    clock.now += 0.5
    assert (key.is_paused, key.wait) == (False, 0)
    key.pause(7)
    assert key.wait == 7


def test_a_full_budget_and_a_pause_are_waited_for_together(clock: Clock) -> None:
    key = Budget()
    ask(key, 120)
    key.pause(3)
    assert key.wait == 10
    key.pause(30)
    assert key.wait == 30
    clock.now += 30
    assert key.wait == 0


def test_a_budget_matters_until_its_window_and_its_pause_are_over(clock: Clock) -> None:
    key = Budget()
    assert key.matters_for == 10
    key.pause(60)
    assert key.matters_for == 60
    clock.now += 55
    assert key.matters_for == 10


def test_a_request_that_is_taken_counts_and_one_that_may_not_be_made_does_not(clock: Clock) -> None:
    key = Budget()
    assert [key.take() for _ in range(121)] == [True] * 120 + [False]
    clock.now += 10
    assert key.take()
    clock.now += 10
    key.pause(5)
    assert not key.take()
    clock.now += 5
    ask(key, 120)


def test_a_pause_has_the_reason_of_the_longest(clock: Clock) -> None:
    key = Budget()
    first = Reason("slow down", clock.wall() + 60)
    reasons = [key.reason]
    key.pause(60, "slow down")
    reasons.append(key.reason)
    assert reasons == [None, first]
    for seconds in (5, 60):
        key.pause(seconds, "and again")
        assert key.reason == first
    key.pause(61)
    assert key.reason == Reason("", clock.wall() + 61)
