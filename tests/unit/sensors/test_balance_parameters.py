"""What a gate's constructor accepts, and where the gate then starts and waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability import version_compat
from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.operators.balance import BalanceOperator
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger
from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER
from support.gates import gate

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = "{{ params.x }}"


def test_the_parameters_that_may_be_templates_are_rendered() -> None:
    sensor = gate(min_credits="{{ n }}", organization="{{ o }}", stability_conn_id="{{ c }}")
    context: Any = {"n": "40", "o": "org-b", "c": "stability_eu"}
    sensor.render_template_fields(context)
    rendered = (sensor.min_credits, sensor.organization, sensor.stability_conn_id)
    assert rendered == ("40", "org-b", "stability_eu")


@pytest.mark.parametrize(
    ("kwargs", "by_default", "is_deferrable"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"deferrable": True}, False, True),
        ({"deferrable": False}, True, False),
        ({"start_from_trigger": True}, False, True),
        ({"end_from_trigger": True}, False, True),
        ({"exponential_backoff": True}, True, False),
        ({"exponential_backoff": True, "deferrable": False}, True, False),
    ],
    ids=str,
)
def test_a_gate_defers_if_it_is_told_to_and_else_as_airflow_s_default_says(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any], *, by_default: bool, is_deferrable: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(by_default))
    assert gate(**kwargs).deferrable is is_deferrable


@pytest.mark.parametrize(
    "kwargs", [{"deferrable": True}, {"start_from_trigger": True}, {"end_from_trigger": True}], ids=str
)
def test_a_deferrable_gate_refuses_exponential_backoff(kwargs: dict[str, Any]) -> None:
    with pytest.raises(StabilityParameterError) as refused:
        gate(exponential_backoff=True, **kwargs)
    assert str(refused.value) == (
        "exponential_backoff is True; it must be False for a deferrable gate: all gates of an organization "
        "share one poll, so backing off saves nothing. Raise poke_interval instead"
    )


@pytest.mark.parametrize("name", ["start_from_trigger", "end_from_trigger"])
def test_a_gate_that_may_not_defer_refuses_to_start_or_end_in_the_triggerer(name: str) -> None:
    with pytest.raises(StabilityParameterError) as refused:
        gate(deferrable=False, **{name: True})
    assert str(refused.value) == (
        "deferrable is False; it must be True or left out when start_from_trigger or end_from_trigger is set"
    )


@pytest.mark.parametrize(
    ("execution_timeout", "limit"),
    [(None, 120.0), (timedelta(seconds=30), 30.0), (timedelta(seconds=500), 120.0)],
)
def test_a_gate_that_starts_in_the_triggerer_hands_over_its_parameters_and_airflow_s_limit(
    execution_timeout: timedelta | None, limit: float
) -> None:
    sensor = gate(start_from_trigger=True, execution_timeout=execution_timeout, organization="org-b")
    assert sensor._deferral_limit() == limit
    if not STARTS_IN_TRIGGERER:
        assert sensor.start_trigger_args is None
        return
    assert sensor.start_trigger_args is not None
    expected: dict[str, Any] = {
        "min_credits": 40,
        "organization": "org-b",
        "stability_conn_id": "stability_default",
        "poke_interval": 0.05,
        "end_from_trigger": False,
        "do_xcom_push": True,
        "names_organization": True,
        "timeout": 60,
        "deferral_limit": limit,
    }
    assert sensor.start_trigger_args.trigger_kwargs == expected
    assert sensor.start_trigger_args.timeout == timedelta(seconds=60 + 60)
    assert sensor.start_trigger_args.next_method == "execute_complete"
    assert BalanceTrigger(**expected).serialize()[0] == sensor.start_trigger_args.trigger_cls


def test_one_gate_that_starts_in_the_triggerer_does_not_change_the_others() -> None:
    first, second = gate(start_from_trigger=True), gate(start_from_trigger=True, min_credits=50)
    assert first.start_from_trigger == STARTS_IN_TRIGGERER
    assert not gate().start_from_trigger
    assert not BalanceSensor.start_from_trigger
    assert BalanceSensor.start_trigger_args is None
    if STARTS_IN_TRIGGERER:
        assert [needed(each) for each in (first, second)] == [40, 50]


def needed(sensor: BalanceSensor) -> Any:
    assert sensor.start_trigger_args is not None
    kwargs: Mapping[str, Any] = sensor.start_trigger_args.trigger_kwargs or {}
    return kwargs["min_credits"]


@pytest.mark.parametrize(("starts", "renders"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize(
    ("kwargs", "needs"),
    [
        ({}, "starts"),
        ({"min_credits": 0.5, "organization": "org-b"}, "starts"),
        ({"min_credits": TEMPLATE}, "renders"),
        ({"organization": "{% if x %}a{% endif %}"}, "renders"),
        ({"stability_conn_id": TEMPLATE}, "renders"),
        ({"organization": ["org-b"]}, "nothing"),
    ],
    ids=str,
)
def test_a_gate_starts_in_the_triggerer_where_airflow_can_with_its_parameters(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any], needs: str, *, starts: bool, renders: bool
) -> None:
    monkeypatch.setattr(version_compat, "STARTS_IN_TRIGGERER", starts)
    monkeypatch.setattr(version_compat, "RENDERS_IN_TRIGGERER", renders)
    can = {"starts": starts, "renders": starts and renders, "nothing": False}[needs]
    assert gate(start_from_trigger=True, **kwargs).start_from_trigger is can
    assert gate(start_from_trigger=False, **kwargs).start_from_trigger is False


def test_a_value_from_another_task_starts_on_a_worker() -> None:
    with DAG("values", schedule=None):
        other = BalanceOperator(task_id="needed")
        sensor = gate(start_from_trigger=True, min_credits=other.output)
    assert not sensor.start_from_trigger
    assert sensor.deferrable
