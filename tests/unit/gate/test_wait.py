"""What the pokes of one wait have found, and how it reaches the next process."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.exceptions import MAX_PAUSE, RateLimitError, ServerError
from airflow_provider_stability.gate import wait as waits
from airflow_provider_stability.gate.observation import Observation
from airflow_provider_stability.gate.wait import Wait, current_wait, waiting
from support.gates import Store
from support.log_lines import Line, level_and_text, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from support.gates import WallClock

HOUR = 3600.0
KEY = "stability_wait"


class Rescheduled(Exception):  # noqa: N818  # no error, as Airflow's own is none
    """What Airflow ends a process with until the next poke."""


@pytest.fixture
def store_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Line]]:
    with lines_of(waits, monkeypatch, level_and_text) as found:
        yield found


@contextmanager
def process(store: object, *, attempt: int = 1, rescheduled: bool = True) -> Iterator[Wait]:
    """Be one process of a wait, which is rescheduled at the end of the block."""
    context = {"task_state_store": store, "ti": SimpleNamespace(try_number=attempt)}
    with suppress(Rescheduled), waiting(context, rescheduled=rescheduled) as wait:
        yield wait
        raise Rescheduled


def test_credits_and_errors_are_recorded_with_their_times(mocker: MockerFixture) -> None:
    mocker.patch("time.time", side_effect=[1000.0, 1060.0])
    wait = Wait()
    wait.add_credits(12.5)
    assert wait.latest == Observation(credits=12.5, credits_at=1000.0, is_balance_known=True)
    wait.add_error(ServerError("503 down", status_code=503))
    assert wait.latest == Observation(
        credits=12.5, credits_at=1000.0, error="503 down", error_kind="ServerError", error_at=1060.0
    )


@pytest.mark.parametrize(("retry_after", "pause"), [(30, 30), (None, 60), (10**9, MAX_PAUSE), (0, 0)])
def test_a_pause_lasts_as_long_as_the_service_asked_for(
    mocker: MockerFixture, retry_after: float | None, pause: float
) -> None:
    monotonic = mocker.patch("time.monotonic", return_value=500.0)
    wait = Wait()
    assert wait.pause_left == 0
    wait.add_error(RateLimitError("slow down", status_code=429, retry_after=retry_after))
    assert wait.pause_left == pause
    monotonic.return_value += pause / 2
    assert wait.pause_left == pause / 2
    monotonic.return_value += pause
    assert wait.pause_left == 0


@pytest.mark.parametrize("uptime", [0.0, 0.5])
def test_a_new_wait_has_no_pause_even_right_after_the_machine_has_started(
    mocker: MockerFixture, uptime: float
) -> None:
    mocker.patch("time.monotonic", return_value=uptime)
    assert Wait().pause_left == 0


def test_an_error_without_a_pause_does_not_end_an_earlier_pause() -> None:
    wait = Wait()
    wait.add_error(RateLimitError("slow down", status_code=429, retry_after=30))
    end = wait.pause_end
    wait.add_error(ServerError("503", status_code=503))
    assert (wait.pause, wait.pause_end) == (30, end)


def test_a_wait_is_the_current_one_while_a_process_works_on_it() -> None:
    with waiting({}, rescheduled=False) as wait:
        assert current_wait() is wait
        assert wait == Wait(survives=True)
    assert current_wait() is not wait


def test_a_poke_on_its_own_has_a_wait_of_its_own() -> None:
    assert current_wait() == Wait()
    assert current_wait() is not current_wait()


def test_the_next_process_continues_with_what_this_one_found() -> None:
    store = Store()
    latest = Observation().with_credits(12.5, 1000.0).with_error(ServerError("503", status_code=503), 1060.0)
    with process(store) as first:
        assert first == Wait()
        first.latest, first.connection_was_read = latest, True
    with process(store) as second:
        assert second is not first
        assert (second.latest, second.connection_was_read, second.survives) == (latest, True, True)


def test_another_try_of_the_task_starts_anew() -> None:
    store = Store()
    with process(store, attempt=1) as first:
        first.connection_was_read = True
    with process(store, attempt=2) as second:
        assert second == Wait()


def test_a_wait_that_ends_well_keeps_nothing() -> None:
    store = Store()
    with waiting({"task_state_store": store}, rescheduled=True) as wait:
        wait.add_credits(52.5)
    assert store.kept == {}


def test_a_wait_that_stays_in_one_process_does_not_use_the_store() -> None:
    store = Store()
    with process(store, rescheduled=False) as wait:
        assert wait.survives
    assert store.kept == {}


@pytest.mark.parametrize("kept", [None, "a text", 7, [], {}, {"try_number": 2}], ids=repr)
def test_a_stored_value_that_is_no_wait_of_this_try_counts_as_none(kept: object) -> None:
    store = Store()
    store.kept[KEY] = kept
    with process(store) as wait:
        assert wait == Wait()


@pytest.mark.parametrize(
    "stored",
    [{"connection_was_read": True}, {"latest": {}, "mood": "good"}, {"latest": {"currency": 1}}],
    ids=str,
)
def test_a_wait_that_another_version_stored_is_dropped_and_the_next_one_is_kept(
    store_lines: list[Line], stored: dict[str, object]
) -> None:
    store = Store()
    store.kept[KEY] = {"try_number": 1} | stored
    with process(store) as wait:
        assert wait == Wait()
    assert store_lines == []


def test_a_wait_without_a_store_does_not_survive_its_process(store_lines: list[Line]) -> None:
    with process(None) as first:
        assert not first.survives
        first.connection_was_read = True
    with process(None) as second:
        assert not second.connection_was_read
    assert store_lines == []


def test_a_failing_store_does_not_end_the_wait(store_lines: list[Line]) -> None:
    with process(Store(RuntimeError("no API server"))) as wait:
        assert wait == Wait(survives=False)
        assert wait.pause_left == 0
    message = (
        "The next poke will not know what this one found; Airflow's task state store failed: no API server"
    )
    assert store_lines == [("WARNING", message)]


def test_a_store_that_fails_at_the_end_of_a_poke_does_not_hide_how_it_ended(store_lines: list[Line]) -> None:
    store = Store()
    with process(store):
        store.error = RuntimeError("no API server")
    assert [each.level for each in store_lines] == ["WARNING"]
    assert store.kept == {}


def test_the_log_of_a_wait_has_the_name_of_its_module(caplog: pytest.LogCaptureFixture) -> None:
    with process(Store(RuntimeError("no API server"))):
        pass
    assert [each.levelname for each in caplog.records if each.name == waits.__name__] == ["WARNING"]


@pytest.mark.parametrize("step", [0, HOUR, -HOUR], ids=["none", "forward", "back"])
def test_a_wait_without_a_pause_has_none_in_the_next_process(wall_clock: WallClock, step: float) -> None:
    store = Store()
    with process(store) as first:
        first.add_error(ServerError("503", status_code=503))
    wall_clock.step(step)
    with process(store) as second:
        assert second.pause_left == 0


def test_a_pause_that_ended_between_two_processes_is_over(wall_clock: WallClock) -> None:
    store = Store()
    with process(store) as first:
        first.add_error(RateLimitError("slow down", status_code=429, retry_after=60))
    wall_clock.step(70)
    with process(store) as second:
        assert second.pause_left == 0


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_pause_never_grows_on_its_way_to_the_next_process(wall_clock: WallClock, step: float) -> None:
    store = Store()
    with process(store) as first:
        first.add_error(RateLimitError("slow down", status_code=429, retry_after=60))
    wall_clock.step(20)
    with process(store) as second:
        assert second.pause_left == pytest.approx(40, abs=1)
    wall_clock.step(step)
    # Processes have only the clock in common that can be set: after a step forward the pause counts as over,
    # after a step back as just begun, once.
    with process(store) as third:
        assert third.pause_left == pytest.approx(60 if step < 0 else 0, abs=1)
    wall_clock.step(59)
    with process(store) as fourth:
        assert fourth.pause_left <= 1.5
