"""Parameters of the gate that cannot be used, seen when the DAG is parsed or when the task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from support.poke_gates import gate

from airflow_provider_stability.exceptions import (
    StabilityConfigurationError,
    StabilityParameterError,
)

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator


@pytest.mark.parametrize(
    "value", [-1, -0.5, float("nan"), float("inf"), True, None, [], "forty", "", "1_0", "nan", "-1"]
)
def test_a_threshold_that_is_seen_to_be_wrong_is_refused_when_the_dag_is_parsed(value: Any) -> None:
    with pytest.raises(
        StabilityParameterError, match=r"min_credits is .*allowed is a finite number of 0 or more"
    ):
        gate(min_credits=value)


@pytest.mark.parametrize("rendered", ["forty", "", "None", "-1", "nan", "inf"])
def test_a_template_that_renders_to_no_threshold_fails_at_once_and_asks_nothing(
    account: Simulator, rendered: str
) -> None:
    sensor = gate(min_credits="{{ params.needed }}", soft_fail=True)
    sensor.min_credits = rendered  # what Airflow puts there before it executes the task

    with pytest.raises(AirflowFailException, match=rf"min_credits is '{rendered}'; allowed is"):
        sensor.execute({})
    assert account.count() == 0


@pytest.mark.parametrize("organization", ["", "  ", "org\r\nX: 1", "org b", 7])
def test_an_organization_that_is_none_fails_at_once_and_asks_nothing(
    account: Simulator, organization: Any
) -> None:
    with pytest.raises(AirflowFailException, match=r"organization is .*; it must be"):
        gate(organization=organization).execute({})
    assert account.count() == 0


def test_a_connection_that_is_not_there_fails_at_once(account: Simulator, mocker: Any) -> None:
    mocker.patch("time.sleep")
    with pytest.raises(AirflowFailException, match="connection 'nowhere': it is not defined") as failure:
        gate(stability_conn_id="nowhere", soft_fail=True).execute({})
    assert isinstance(failure.value.__cause__, StabilityConfigurationError)
    assert account.count() == 0


def test_an_organization_that_became_none_never_means_the_default_one(account: Simulator) -> None:
    sensor = gate(organization="{{ params.org }}", min_credits=1)
    sensor.organization = None  # as a template with native types leaves it, or a task that returned nothing
    with pytest.raises(AirflowFailException, match="organization is set in the DAG, but became None"):
        sensor.execute({})
    assert account.count() == 0
