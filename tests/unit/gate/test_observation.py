"""The last balance and error, and the words for them when a wait has ended."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.exceptions import RateLimitError, ServerError
from airflow_provider_stability.gate.observation import Observation, format_utc

if TYPE_CHECKING:
    from collections.abc import Iterator

BALANCE_AT, ERROR_AT = 1_769_860_800.0, 1_769_860_860.0
DOWN = ServerError("503 down", status_code=503)
LAST_BALANCE = "Last balance, at 2026-01-31 12:00:00 UTC: 12.5 credits, need 40, short 27.5."
LAST_ERROR = "Last error, at 2026-01-31 12:01:00 UTC: 503 down."


def test_nothing_is_known_at_first() -> None:
    nothing = Observation()
    assert (nothing.credits, nothing.error, nothing.is_balance_known, nothing.state) == (
        None,
        None,
        False,
        None,
    )
    assert nothing.summary(40) == "No balance was read."


def test_a_balance_is_known_from_the_request_that_returned_it() -> None:
    found = Observation().with_credits(12.5, BALANCE_AT)
    assert found == Observation(credits=12.5, credits_at=BALANCE_AT, is_balance_known=True)
    assert found.state == "known"
    assert found.summary(40) == LAST_BALANCE


def test_an_error_leaves_the_last_balance_but_does_not_count_as_knowing_it() -> None:
    found = Observation().with_credits(12.5, BALANCE_AT).with_error(DOWN, ERROR_AT)
    assert (found.credits, found.error, found.error_kind) == (12.5, "503 down", "ServerError")
    assert not found.is_balance_known
    assert found.state == "ServerError"
    assert found.summary(40) == f"{LAST_BALANCE} {LAST_ERROR}"


def test_a_later_balance_leaves_the_last_error_in_the_summary() -> None:
    found = Observation().with_error(DOWN, ERROR_AT).with_credits(12.5, BALANCE_AT)
    assert found.state == "known"
    assert found.summary(40) == f"{LAST_BALANCE} {LAST_ERROR}"


def test_errors_alone_are_summed_up_without_a_balance() -> None:
    assert Observation().with_error(DOWN, ERROR_AT).summary(40) == f"No balance was read. {LAST_ERROR}"


def test_another_kind_of_error_is_another_state_and_another_message_is_not() -> None:
    first = Observation().with_error(DOWN, ERROR_AT)
    same = first.with_error(ServerError("500 also down", status_code=500), ERROR_AT + 1)
    other = first.with_error(RateLimitError("429", status_code=429), ERROR_AT + 1)
    assert first.state == same.state == "ServerError"
    assert other.state == "RateLimitError"


def test_an_observation_is_a_value_that_gates_can_share() -> None:
    first = Observation().with_credits(12.5, BALANCE_AT)
    first.with_credits(50.0, ERROR_AT)
    assert first.credits == 12.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.credits = 50.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (1_769_860_800, "2026-01-31 12:00:00 UTC"),
        (1_769_860_800.999, "2026-01-31 12:00:00 UTC"),
    ],
)
def test_times_are_written_in_utc_to_the_second(seconds: float, text: str) -> None:
    assert format_utc(seconds) == text


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process be in another time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert time.timezone == -9 * 3600
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_times_are_in_utc_wherever_the_machine_is() -> None:
    assert format_utc(1_769_860_800) == "2026-01-31 12:00:00 UTC"
