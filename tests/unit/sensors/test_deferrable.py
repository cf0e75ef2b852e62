"""The gate that waits in the triggerer: how it defers, what it makes of each event, and its DAG runs."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from support.airflow_runs import AIRFLOW_V_3_0_PLUS

from airflow_provider_stability.connection.parameters import BACKSTOP
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
)
from airflow_provider_stability.operators.balance import BalanceOperator
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger
from airflow_provider_stability.version_compat import RENDERS_IN_TRIGGERER, STARTS_IN_TRIGGERER

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.simulator import Simulator

OPENED = {"status": "success", "credits": 52.5}
TIMED_OUT = {"status": "timeout", "message": "Last balance: 12.5 credits, need 40, short 27.5."}
REFUSED = {"status": "failed", "kind": "AuthenticationError", "message": "401 unauthorized"}
TEMPLATE = "{{ params.needed }}"
# As jobs/scheduler_job_runner.py check_trigger_timeouts words it.
TRIGGER_TIMEOUT = "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"


def gate(**kwargs: Any) -> BalanceSensor:
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.2, "timeout": 60, "deferrable": True}
    return BalanceSensor(task_id="gate", **(given | kwargs))


def resume(sensor: BalanceSensor, event: object) -> Any:
    return sensor.resume_execution("execute_complete", {"event": event}, {})


def when(account: Simulator, requests: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the gate has asked so many times."""

    def wait() -> None:
        account.wait_for_requests(requests, timeout=60)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_gate_defers_at_once_and_asks_nothing_itself(account: Simulator) -> None:
    sensor = gate(min_credits="40", organization="org-b", end_from_trigger=True, do_xcom_push=False)
    before = time.time()
    with pytest.raises(TaskDeferred) as deferral:
        sensor.execute({})
    assert account.count() == 0
    assert deferral.value.method_name == "execute_complete"
    assert deferral.value.timeout == timedelta(seconds=60 + BACKSTOP)
    assert isinstance(deferral.value.trigger, BalanceTrigger)
    _, kwargs = deferral.value.trigger.serialize()
    assert before + 60 <= kwargs.pop("end_time") <= time.time() + 60
    assert kwargs == {
        "min_credits": 40.0,
        "organization": "org-b",
        "stability_conn_id": "stability_default",
        "poke_interval": 0.2,
        "end_from_trigger": True,
        "do_xcom_push": False,
        "names_organization": True,
        # Only a gate that starts in the triggerer has these.
        "timeout": None,
        "deferral_limit": None,
    }


@pytest.mark.parametrize(
    ("name", "value"), [("min_credits", "forty"), ("min_credits", None), ("organization", None)]
)
def test_a_parameter_that_rendered_to_nonsense_fails_before_it_defers(
    account: Simulator, name: str, value: Any
) -> None:
    sensor = gate(organization="{{ params.organization }}", min_credits=TEMPLATE, soft_fail=True)
    sensor.min_credits, sensor.organization = "40", "org-b"
    setattr(sensor, name, value)
    with pytest.raises(AirflowFailException, match=name):
        sensor.execute({})


def test_enough_credits_are_returned_as_a_float() -> None:
    found = resume(gate(), {"status": "success", "credits": 52})
    assert found == 52.0
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("kwargs", "end"), [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)]
)
def test_a_timeout_says_what_was_known_and_is_no_other_exception(
    kwargs: dict[str, Any], end: type[Exception]
) -> None:
    with pytest.raises(
        end, match=r"The wait of 60 s is over\. Last balance: 12\.5 credits, need 40"
    ) as ended:
        resume(gate(**kwargs), TIMED_OUT)
    assert type(ended.value) is end


@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_error_that_waiting_cannot_mend_fails_without_retries_or_skip(*, soft_fail: bool) -> None:
    with pytest.raises(AirflowFailException, match=r"401 unauthorized\. Put a valid API key") as failure:
        resume(gate(soft_fail=soft_fail, retries=3), REFUSED)
    assert isinstance(failure.value.__cause__, AuthenticationError)


def test_never_fail_makes_a_skip_of_such_an_error() -> None:
    with pytest.raises(AirflowSkipException, match="401 unauthorized"):
        resume(gate(never_fail=True), REFUSED)


def test_an_error_of_a_kind_that_this_version_does_not_know_fails_the_same() -> None:
    with pytest.raises(AirflowFailException, match="quota"):
        resume(gate(), {"status": "failed", "kind": "QuotaError", "message": "quota"})


@pytest.mark.parametrize(
    "event",
    [None, "success", {}, {"status": "running"}, {"status": "success"}, {"status": "timeout"}, 7],
    ids=str,
)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_event_that_is_none_is_refused(event: object, *, soft_fail: bool) -> None:
    with pytest.raises(StabilityError, match="the trigger sent"):
        gate(soft_fail=soft_fail).execute_complete({}, event)
    with pytest.raises(AirflowFailException, match="the trigger sent"):
        resume(gate(soft_fail=soft_fail), event)


@pytest.mark.parametrize(
    ("kwargs", "end"),
    [({}, AirflowSensorTimeout), ({"soft_fail": True}, AirflowSkipException)],
    ids=str,
)
def test_a_wait_that_no_triggerer_ended_is_a_timeout_all_the_same(
    kwargs: dict[str, Any], end: type[Exception]
) -> None:
    with pytest.raises(end, match="no triggerer has ended it") as ended:
        gate(**kwargs).resume_execution("__fail__", {"error": TRIGGER_TIMEOUT}, {})
    assert type(ended.value) is end


@pytest.mark.parametrize("kwargs", [{}, {"soft_fail": True}], ids=str)
@pytest.mark.parametrize("given", [{"error": "Trigger failure", "traceback": ["lost\n"]}, None])
def test_a_trigger_that_broke_is_an_error_that_is_retried_and_never_a_skip(
    kwargs: dict[str, Any], given: dict[str, Any] | None
) -> None:
    with pytest.raises(StabilityConnectionError, match="the trigger failed"):
        gate(**kwargs).resume_execution("__fail__", given, {})


def test_never_fail_makes_a_skip_of_a_trigger_that_broke() -> None:
    with pytest.raises(AirflowSkipException):
        gate(never_fail=True).resume_execution("__fail__", {"error": "Trigger failure"}, {})


def test_airflows_default_decides_whether_a_gate_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not gate(deferrable=None).deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert gate(deferrable=None).deferrable
    assert not gate(deferrable=False).deferrable
    assert not gate(deferrable=None, exponential_backoff=True).deferrable


@pytest.mark.parametrize(
    "kwargs",
    [
        {"deferrable": True},
        {"deferrable": None, "start_from_trigger": True},
        {"deferrable": None, "end_from_trigger": True},
    ],
    ids=str,
)
def test_backing_off_is_refused_where_gates_share_a_poll(kwargs: dict[str, Any]) -> None:
    with pytest.raises(StabilityParameterError, match="exponential_backoff is True; allowed with"):
        gate(exponential_backoff=True, **kwargs)


@pytest.mark.parametrize("name", ["start_from_trigger", "end_from_trigger"])
def test_the_triggerer_is_refused_to_a_gate_that_may_not_defer(name: str) -> None:
    with pytest.raises(StabilityParameterError, match="deferrable is False"):
        gate(deferrable=False, **{name: True})
    assert gate(deferrable=None, **{name: True}).deferrable


def test_a_gate_that_starts_in_the_triggerer_says_so_of_itself_alone() -> None:
    first, second = gate(start_from_trigger=True), gate(start_from_trigger=True, min_credits=50)
    assert first.start_from_trigger == STARTS_IN_TRIGGERER
    assert not BalanceSensor.start_from_trigger
    assert BalanceSensor.start_trigger_args is None
    assert not gate().start_from_trigger
    if STARTS_IN_TRIGGERER:
        assert first.start_trigger_args is not None
        assert second.start_trigger_args is not None
        kwargs = first.start_trigger_args.trigger_kwargs or {}
        assert (kwargs["min_credits"], (second.start_trigger_args.trigger_kwargs or {})["min_credits"]) == (
            40,
            50,
        )
        assert first.start_trigger_args.timeout == timedelta(seconds=60 + BACKSTOP)
        assert first.start_trigger_args.next_method == "execute_complete"
        path, made = BalanceTrigger(**kwargs).serialize()
        assert path == first.start_trigger_args.trigger_cls
        assert {name: made[name] for name in kwargs} == kwargs


@pytest.mark.parametrize("name", ["min_credits", "organization", "stability_conn_id"])
def test_a_template_starts_in_the_triggerer_where_that_renders_it(name: str) -> None:
    assert gate(start_from_trigger=True, **{name: TEMPLATE}).start_from_trigger == RENDERS_IN_TRIGGERER


def test_a_value_from_another_task_starts_on_a_worker() -> None:
    with DAG("values", schedule=None):
        needed = BalanceOperator(task_id="needed")
        sensor = gate(start_from_trigger=True, min_credits=needed.output)
    assert not sensor.start_from_trigger
    assert sensor.deferrable


@pytest.mark.parametrize("do_xcom_push", [True, False])
def test_a_task_that_ends_here_has_its_credits_in_xcom_or_ends_on_a_worker(
    account: Simulator, *, do_xcom_push: bool
) -> None:
    account.top_up(40)
    trigger = BalanceTrigger(min_credits=40, end_from_trigger=True, do_xcom_push=do_xcom_push)
    trigger.trigger_id = 1  # as the triggerer sets it

    async def fire() -> TriggerEvent:
        (event,) = [event async for event in trigger.run()]
        return event

    event = asyncio.run(fire())
    if not do_xcom_push:
        assert isinstance(event, TaskSuccessEvent)
        assert not event.xcoms
    elif AIRFLOW_V_3_0_PLUS:
        # There is no triggerer here that would take the XCom; so a worker has to.
        assert event.payload == {"status": "success", "credits": 52.5}
    else:
        assert isinstance(event, TaskSuccessEvent)
        assert event.xcoms == {"return_value": 52.5}
