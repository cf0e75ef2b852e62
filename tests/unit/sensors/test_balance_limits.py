"""What a gate's limits and parameters mean, alike in each mode; and whom its messages name."""

from __future__ import annotations

import asyncio
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
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.poke_gates import gate

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.operators.balance import BalanceBranchOperator, BalanceOperator
from airflow_provider_stability.triggers.balance import BalanceTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.sensors.balance import BalanceSensor
    from airflow_provider_stability.simulator import Simulator

TIMED_OUT = {"status": "timeout", "message": "Last balance: 12.5 credits, need 40, short 27.5."}
REFUSED = {"status": "failed", "kind": "AuthenticationError", "message": "401 unauthorized"}
# As jobs/scheduler_job_runner.py check_trigger_timeouts words it.
TRIGGER_TIMEOUT = {"error": "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"}


def resume(sensor: BalanceSensor, event: object) -> Any:
    return sensor.resume_execution("execute_complete", {"event": event}, {})


def test_a_timeout_fails_a_gate_that_never_fails_alike_on_a_worker_and_in_the_triggerer(
    account: Simulator,
) -> None:
    with pytest.raises(AirflowSensorTimeout, match="Last balance"):
        gate(never_fail=True, timeout=0.3).execute({})
    with pytest.raises(AirflowSensorTimeout) as ended:
        resume(gate(never_fail=True, deferrable=True), TIMED_OUT)
    assert str(ended.value) == (
        f"Timed out after 60 s. {TIMED_OUT['message']} (connection 'stability_default')"
    )
    with pytest.raises(AirflowSensorTimeout):
        gate(never_fail=True, deferrable=True).resume_execution("__fail__", TRIGGER_TIMEOUT, {})


def test_what_else_ends_such_a_gate_in_the_triggerer_is_a_skip_as_before() -> None:
    with pytest.raises(AirflowSkipException, match="401 unauthorized"):
        resume(gate(never_fail=True, deferrable=True), REFUSED)
    with pytest.raises(AirflowSkipException, match="Last balance"):
        resume(gate(soft_fail=True, deferrable=True), TIMED_OUT)


@pytest.mark.parametrize("kwargs", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)
def test_an_execution_timeout_below_the_gates_own_fails_it_by_name(kwargs: dict[str, Any]) -> None:
    sensor = gate(deferrable=True, execution_timeout=timedelta(seconds=30), **kwargs)
    with pytest.raises(AirflowTaskTimeout) as ended:
        sensor.resume_execution("__fail__", TRIGGER_TIMEOUT, {})
    assert str(ended.value) == (
        "The execution_timeout of 30 s is over; the gate's timeout is 60 s. What it knew is in its log."
    )


@pytest.mark.parametrize("seconds", [60, 90])
@pytest.mark.parametrize(
    ("kwargs", "end"), [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)], ids=str
)
def test_an_execution_timeout_that_is_no_shorter_is_not_what_ends_a_gate(
    seconds: int, kwargs: dict[str, Any], end: type[Exception]
) -> None:
    sensor = gate(deferrable=True, execution_timeout=timedelta(seconds=seconds), **kwargs)
    with pytest.raises(end, match="The wait of 60 s is over, and no triggerer has ended it"):
        sensor.resume_execution("__fail__", TRIGGER_TIMEOUT, {})


@pytest.mark.parametrize("value", [None, 7, "", " "], ids=repr)
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_no_connection_id_fails_a_gate_before_it_waits(
    account: Simulator, value: Any, *, deferrable: bool
) -> None:
    sensor = gate(deferrable=deferrable)
    sensor.stability_conn_id = value  # as a template's rendering sets it
    with pytest.raises(AirflowFailException) as failure:
        sensor.execute({})
    assert isinstance(failure.value.__cause__, StabilityParameterError)
    said = f"stability_conn_id is {value!r}; it must be the id of a connection"
    assert str(failure.value.__cause__) == said
    assert account.count() == 0


@pytest.mark.parametrize("value", [None, 7, "", " "], ids=repr)
def test_what_is_no_connection_id_fails_a_gate_that_starts_in_the_triggerer(value: Any) -> None:
    async def fire() -> list[Any]:
        trigger = BalanceTrigger(min_credits=40, stability_conn_id=value)
        return [event.payload async for event in trigger.run()]

    assert asyncio.run(fire()) == [
        {
            "status": "failed",
            "kind": "StabilityParameterError",
            "message": f"stability_conn_id is {value!r}; it must be the id of a connection",
        }
    ]


@pytest.mark.parametrize("value", [Decimal(40), Fraction(40), "40", " 40.0 ", 40], ids=repr)
def test_a_threshold_of_any_form_defers_as_the_float_it_stands_for(value: Any) -> None:
    with pytest.raises(TaskDeferred) as deferral:
        gate(deferrable=True, min_credits=value).execute({})
    trigger = deferral.value.trigger
    assert isinstance(trigger, BalanceTrigger)
    needed = trigger.serialize()[1]["min_credits"]
    assert (type(needed), needed) == (float, 40.0)


NAMED = "(connection 'stability_default', organization 'org-b')"


@pytest.mark.parametrize(
    ("organization", "named"), [(None, "(connection 'stability_default')"), ("org-b", NAMED)]
)
def test_the_end_of_a_wait_names_the_connection_and_the_organization(
    account: Simulator, lines: list[str], organization: str | None, named: str
) -> None:
    account.set_credits(12.5, "org-b")
    scope = {} if organization is None else {"organization": organization}
    with pytest.raises(AirflowSensorTimeout) as ended:
        gate(timeout=0.3, **scope).execute({})
    assert str(ended.value).endswith(f"need 40, short 27.5. {named}")
    with pytest.raises(AirflowSkipException) as skipped:
        gate(timeout=0.3, soft_fail=True, **scope).execute({})
    assert str(skipped.value).endswith(f"need 40, short 27.5. {named}")
    assert f"Waiting for 40 credits {named}, for 0.3 s at most" in lines
    for event in (TIMED_OUT, REFUSED):
        with pytest.raises((AirflowSensorTimeout, AirflowFailException)) as after:
            resume(gate(deferrable=True, **scope), event)
        assert str(after.value).endswith(named)


def _gate(**kwargs: Any) -> Any:
    return gate(**kwargs)


def _balance(**kwargs: Any) -> Any:
    return BalanceOperator(task_id="task", **kwargs)


def _branch(**kwargs: Any) -> Any:
    return BalanceBranchOperator(
        task_id="task", min_credits=40, follow_task_ids_if_true="a", follow_task_ids_if_false="b", **kwargs
    )


@pytest.mark.parametrize("make", [_gate, _balance, _branch])
def test_an_error_that_no_retry_can_mend_names_them_too(account: Simulator, make: Callable[..., Any]) -> None:
    account.rotate_key("sk-another")
    with pytest.raises(AirflowFailException) as failure:
        make(organization="org-b").execute({})
    assert str(failure.value).startswith("Not retried, as it would fail again: ")
    assert str(failure.value).endswith(NAMED)


def test_a_task_without_an_organization_names_its_connection(account: Simulator) -> None:
    account.rotate_key("sk-another")
    with pytest.raises(AirflowFailException) as failure:
        AccountOperator(task_id="task").execute({})
    assert str(failure.value).endswith("(connection 'stability_default')")
