"""How a wait ends, and the trigger event that says so: plain JSON, there and back."""

from __future__ import annotations

import json

import pytest

from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityError,
    StabilityParameterError,
)
from airflow_provider_stability.gate.outcome import Failed, Opened, Outcome, TimedOut, from_event, to_event

MESSAGE = "Last balance: 12.5 credits, need 40, short 27.5."


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Opened(52.5), {"status": "success", "credits": 52.5}),
        (Opened(0.0), {"status": "success", "credits": 0.0}),
        (TimedOut(MESSAGE), {"status": "timeout", "message": MESSAGE}),
    ],
)
def test_opened_and_timed_out_survive_a_round_trip_through_json(outcome: Outcome, event: object) -> None:
    assert to_event(outcome) == event
    assert from_event(json.loads(json.dumps(to_event(outcome)))) == outcome


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("401 unauthorized", status_code=401),
        StabilityConfigurationError("connection 'x': no password"),
        StabilityParameterError("min_credits is 'forty'"),
        StabilityError("something else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_keeps_its_class_and_message_and_stays_permanent(error: StabilityError) -> None:
    event = to_event(Failed(error))
    assert event == {"status": "failed", "kind": type(error).__name__, "message": str(error)}

    outcome = from_event(json.loads(json.dumps(event)))

    assert isinstance(outcome, Failed)
    assert type(outcome.error) is type(error)
    assert str(outcome.error) == str(error)
    assert not outcome.error.transient


def test_a_failure_of_a_kind_that_only_another_version_knows_is_a_stability_error() -> None:
    outcome = from_event({"status": "failed", "kind": "QuotaError", "message": "quota used up"})
    assert isinstance(outcome, Failed)
    assert type(outcome.error) is StabilityError
    assert str(outcome.error) == "quota used up"


def test_a_field_that_only_another_version_knows_is_ignored() -> None:
    assert from_event({"status": "success", "credits": 52, "currency": "credits"}) == Opened(52.0)


def test_the_credits_of_an_event_are_a_float_even_where_json_has_a_whole_number() -> None:
    outcome = from_event({"status": "success", "credits": 52})
    assert isinstance(outcome, Opened)
    assert type(outcome.credits) is float


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "success",
        {},
        {"status": "running"},
        {"status": "success"},
        {"status": "success", "credits": "52.5"},
        {"status": "timeout"},
        {"status": "failed", "message": "no kind"},
    ],
    ids=str,
)
def test_an_event_of_another_form_is_refused(event: object) -> None:
    with pytest.raises(StabilityError) as refused:
        from_event(event)
    assert str(refused.value) == (
        f"the trigger's event is {event!r}; it must have the status success, timeout or failed"
    )
