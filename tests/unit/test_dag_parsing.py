"""Parameters that are checked while a DAG file is parsed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from airflow_provider_stability.dag_parsing import check_literal_min_credits
from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.operators.balance import BalanceBranchOperator
from airflow_provider_stability.sensors.balance import BalanceSensor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def dag() -> Iterator[DAG]:
    with DAG("parsed", schedule=None, start_date=datetime(2024, 1, 1)) as parsed:
        yield parsed


def sensor(min_credits: Any) -> BalanceSensor:
    return BalanceSensor(task_id="gate", min_credits=min_credits)


def branch(min_credits: Any) -> BalanceBranchOperator:
    return BalanceBranchOperator(
        task_id="branch",
        min_credits=min_credits,
        follow_task_ids_if_true="a",
        follow_task_ids_if_false="b",
    )


@pytest.mark.parametrize("make", [sensor, branch])
@pytest.mark.parametrize("value", [-1, True, None, [], "forty", "", "1_0", float("nan")], ids=repr)
def test_invalid_literal_is_refused(make: Any, value: object) -> None:
    with pytest.raises(StabilityParameterError, match="min_credits is "):
        make(value)


@pytest.mark.parametrize("make", [sensor, branch])
@pytest.mark.parametrize("value", [40, "12.5", "{{ params.credits }}", "{% if x %}1{% else %}2{% endif %}"])
def test_valid_literal_and_template_pass(make: Any, value: object) -> None:
    assert make(value).min_credits == value


@pytest.mark.parametrize("make", [sensor, branch])
def test_value_of_another_task_passes(make: Any) -> None:
    @task
    def other() -> str:
        return "forty"

    value: Any = other()
    assert make(value).min_credits is value


def test_mapped_task_is_refused_when_it_executes() -> None:
    mapped: Any = BalanceSensor.partial(task_id="gate").expand(min_credits=["forty"])
    gate = mapped.unmap({"min_credits": "forty"})
    with pytest.raises(AirflowFailException, match="min_credits is 'forty'"):
        gate.execute({})


def test_operator_that_is_not_mapped_is_checked() -> None:
    with pytest.raises(StabilityParameterError):
        check_literal_min_credits("forty", object())
