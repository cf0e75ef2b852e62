"""A gate that waits in the triggerer, on its two workers: how it defers, and what each end means to it."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConnectionError,
    StabilityError,
)
from airflow_provider_stability.triggers.balance import BalanceTrigger
from support import gates
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.gates import resume

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_stability.sensors.balance import BalanceSensor
    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

SUMMARY = "Last balance: 12.5 credits, need 40, short 27.5."
TIMED_OUT = {"status": "timeout", "message": SUMMARY}
REFUSED = {"status": "failed", "kind": "AuthenticationError", "message": "401 unauthorized"}
TARGET = "(connection 'stability_default')"
TARGET_B = "(connection 'stability_default', organization 'org-b')"
# As jobs/scheduler_job_runner.py check_trigger_timeouts words it.
TRIGGER_TIMEOUT = {"error": "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"}


def gate(**kwargs: Any) -> BalanceSensor:
    return gates.gate(deferrable=True, **kwargs)


def test_a_gate_defers_at_once_and_makes_no_request_itself(account: Simulator, lines: list[Line]) -> None:
    sensor = gate(min_credits="40", organization="org-b", end_from_trigger=True, do_xcom_push=False)
    before = time.time()
    with pytest.raises(TaskDeferred) as deferral:
        sensor.execute({})
    assert account.count() == 0
    assert deferral.value.method_name == "execute_complete"
    assert deferral.value.timeout == timedelta(seconds=60 + 60)
    assert isinstance(deferral.value.trigger, BalanceTrigger)
    _, kwargs = deferral.value.trigger.serialize()
    assert before + 60 <= kwargs.pop("end_time") <= time.time() + 60
    assert kwargs == {
        "min_credits": 40.0,
        "organization": "org-b",
        "stability_conn_id": "stability_default",
        "poke_interval": 0.05,
        "end_from_trigger": True,
        "do_xcom_push": False,
        "names_organization": True,
        # Only a gate that starts in the triggerer has these.
        "timeout": None,
        "deferral_limit": None,
    }
    assert lines == [("INFO", f"Waiting for 40 credits {TARGET_B}, for at most 60 s")]


@pytest.mark.parametrize("value", [Decimal(40), Fraction(40), "40", " 40.0 ", 40], ids=repr)
def test_a_threshold_of_any_form_defers_as_the_float_it_stands_for(value: Any) -> None:
    with pytest.raises(TaskDeferred) as deferral:
        gate(min_credits=value).execute({})
    trigger = deferral.value.trigger
    assert isinstance(trigger, BalanceTrigger)
    needed = trigger.serialize()[1]["min_credits"]
    assert (type(needed), needed) == (float, 40.0)


def test_a_resumed_gate_has_the_context_of_its_task(mocker: MockerFixture) -> None:
    sensor = gate()
    completed = mocker.spy(type(sensor), "execute_complete")
    context: Any = {"ti": None}
    event = {"status": "success", "credits": 52.5}
    assert sensor.resume_execution("execute_complete", {"event": event}, context) == 52.5
    ((_, given),) = (call.args for call in completed.call_args_list)
    assert given is context


def test_an_open_gate_returns_the_credits_and_logs_them(lines: list[Line]) -> None:
    found = resume(gate(min_credits="40"), {"status": "success", "credits": 52})
    assert (type(found), found) == (float, 52.0)
    assert lines == [("INFO", "52 credits, need 40: open")]


@pytest.mark.parametrize(("organization", "target"), [(None, TARGET), ("org-b", TARGET_B)])
@pytest.mark.parametrize(
    ("kwargs", "end"),
    [
        ({}, AirflowSensorTimeout),
        ({"never_fail": True}, AirflowSensorTimeout),  # as where a sensor waits on a worker
        ({"soft_fail": True}, AirflowSkipException),
    ],
    ids=str,
)
def test_a_timeout_reports_the_last_balance(
    kwargs: dict[str, Any], end: type[Exception], organization: str | None, target: str
) -> None:
    with pytest.raises(end) as ended:
        resume(gate(organization=organization, **kwargs), TIMED_OUT)
    assert type(ended.value) is end
    assert str(ended.value) == f"Timed out after 60 s. {SUMMARY} {target}"


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_permanent_error_fails_the_task_without_retries_or_skip(*, soft_fail: bool) -> None:
    with pytest.raises(AirflowFailException) as failure:
        resume(gate(soft_fail=soft_fail, retries=3, organization="org-b"), REFUSED)
    assert isinstance(failure.value.__cause__, AuthenticationError)
    assert str(failure.value) == (
        "Not retried, as it would fail again: 401 unauthorized. Put a valid API key into the connection's "
        f"password. {TARGET_B}"
    )


def test_a_permanent_error_is_a_skip_under_never_fail() -> None:
    with pytest.raises(AirflowSkipException) as skip:
        resume(gate(never_fail=True), REFUSED)
    assert str(skip.value) == "Skipping due to never_fail is set to True. 401 unauthorized"


def test_a_wrong_parameter_fails_the_task_under_never_fail_too() -> None:
    event = {"status": "failed", "kind": "StabilityParameterError", "message": "min_credits is 'abc'"}
    with pytest.raises(AirflowFailException, match="min_credits is 'abc'"):
        resume(gate(never_fail=True), event)


@pytest.mark.parametrize("kwargs", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)
@pytest.mark.parametrize("event", [None, {"status": "running"}], ids=str)
def test_an_event_that_is_none_of_ours_fails_the_task(kwargs: dict[str, Any], event: object) -> None:
    with pytest.raises(AirflowFailException, match="the trigger's event is") as failure:
        resume(gate(**kwargs), event)
    assert type(failure.value.__cause__) is StabilityError


@pytest.mark.parametrize(
    ("kwargs", "end"),
    [
        ({}, AirflowSensorTimeout),
        ({"never_fail": True}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"execution_timeout": timedelta(seconds=60)}, AirflowSensorTimeout),  # not shorter than the gate's
    ],
    ids=str,
)
def test_a_wait_that_no_triggerer_ended_is_a_timeout_that_says_where_to_look(
    kwargs: dict[str, Any], end: type[Exception]
) -> None:
    with pytest.raises(end) as ended:
        gate(**kwargs).resume_execution("__fail__", TRIGGER_TIMEOUT, {})
    assert type(ended.value) is end
    assert str(ended.value) == (
        "Timed out after 60 s, and no triggerer ended the wait. Check that one is running, serves this "
        "task's queue, and has free capacity ([triggerer] capacity). The last balance is in the log."
    )


@pytest.mark.parametrize("kwargs", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)
def test_an_execution_timeout_that_ended_the_wait_is_named(kwargs: dict[str, Any]) -> None:
    sensor = gate(execution_timeout=timedelta(seconds=30), **kwargs)
    with pytest.raises(AirflowTaskTimeout) as ended:
        sensor.resume_execution("__fail__", TRIGGER_TIMEOUT, {})
    assert str(ended.value) == (
        "The execution_timeout of 30 s ended the wait before the gate's timeout of 60 s. "
        "The last balance is in the log."
    )


@pytest.mark.parametrize("kwargs", [{}, {"soft_fail": True}], ids=str)
@pytest.mark.parametrize(
    ("given", "logged"),
    [
        ({"error": "Trigger failure", "traceback": ["lost\n", "it\n"]}, "lost\nit\n"),
        ({"error": "Trigger failure", "traceback": None}, ""),
        (None, ""),
    ],
)
def test_a_trigger_that_failed_is_an_error_that_is_retried_and_never_a_skip(
    lines: list[Line], kwargs: dict[str, Any], given: dict[str, Any] | None, logged: str
) -> None:
    with pytest.raises(StabilityConnectionError) as failure:
        gate(**kwargs).resume_execution("__fail__", given, {})
    assert str(failure.value) == "the trigger failed; see its log for the reason"
    assert failure.value.transient
    assert lines == [("ERROR", f"The trigger failed:\n{logged}")]


def test_a_trigger_that_failed_is_a_skip_under_never_fail() -> None:
    with pytest.raises(AirflowSkipException) as skip:
        gate(never_fail=True).resume_execution("__fail__", {"error": "Trigger failure"}, {})
    assert str(skip.value) == "Skipping due to never_fail is set to True. The trigger failed."
