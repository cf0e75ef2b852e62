"""The gate in poke mode, when the service asks to be left alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from support.poke_gates import gate

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator


def test_no_request_comes_before_retry_after_has_passed(account: Simulator) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=1)

    assert gate(poke_interval=0.01).execute({}) == 50.0

    first, second = account.requests
    assert second.at - first.at >= 0.99


def test_a_429_that_names_no_time_is_given_60_seconds(
    account: Simulator, mocker: Any, lines: list[str]
) -> None:
    # A clock that only sleeping moves; a minute of the real one is more than a test should take.
    start = time.time()
    clock = {"past": 0.0}
    mocker.patch("time.sleep", side_effect=lambda seconds: clock.update(past=clock["past"] + seconds))
    mocker.patch("time.time", side_effect=lambda: start + clock["past"])
    mocker.patch("time.monotonic", side_effect=lambda: start + clock["past"])
    account.set_credits(50)
    account.fail(status=429)

    assert gate(poke_interval=5, timeout=600).execute({}) == 50.0

    assert clock["past"] >= 60
    assert account.count() == 2
    assert "The service asks for a pause: next request in 60 s" in lines


def test_a_moment_left_of_a_pause_is_slept_and_not_paid_with_an_interval(
    account: Simulator, mocker: Any, lines: list[str]
) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=0.5)
    sleep = time.sleep
    # The clock of the wall is a little slower than that of sleeping.
    mocker.patch("time.sleep", side_effect=lambda seconds: sleep(seconds * 0.9))

    assert gate(poke_interval=0.01).execute({}) == 50.0

    assert account.count() == 2
    assert (
        sum("asks for a pause" in line for line in lines) == 1
    )  # a poke that asked nothing would say it again


def test_a_wait_with_back_off_outlives_a_thousand_pokes(account: Simulator) -> None:
    sensor = gate(exponential_backoff=True, max_wait=60, poke_interval=30)
    sensor.task_id = "gate"
    assert sensor._get_next_poke_interval(time.monotonic(), lambda: 1.0, 5000) <= 60
