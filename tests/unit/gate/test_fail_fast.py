"""A permanent error fails its task at once; every other one passes through."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_stability.exceptions import (
    AuthenticationError,
    ServerError,
    StabilityConfigurationError,
    StabilityError,
)
from airflow_provider_stability.gate.fail_fast import describe_target, fail_fast
from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.operators.balance import BalanceOperator
from support.gates import gate


def test_a_permanent_error_fails_the_task_with_what_to_do_and_whose_credits_it_is_about() -> None:
    error = AuthenticationError("401 unauthorized", status_code=401)
    with pytest.raises(AirflowFailException) as failure, fail_fast(gate(organization="org-b")):
        raise error
    assert str(failure.value) == (
        "Not retried, as it would fail again: 401 unauthorized. Put a valid API key into the connection's "
        "password. (connection 'stability_default', organization 'org-b')"
    )
    assert failure.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ServerError("503", status_code=503),
        StabilityConfigurationError("the secrets backend is down", transient=True),
        AirflowSkipException("skip"),
        ValueError("not ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_exception_passes_through_so_that_retries_apply(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, fail_fast(gate()):
        raise error
    assert raised.value is error


def test_a_task_that_ends_well_is_left_alone() -> None:
    with fail_fast(gate()):
        pass


def test_an_error_is_permanent_unless_it_says_otherwise() -> None:
    with pytest.raises(AirflowFailException, match="something else"), fail_fast(gate()):
        raise StabilityError("something else")


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (gate(), "connection 'stability_default'"),
        (gate(organization="org-b"), "connection 'stability_default', organization 'org-b'"),
        (BalanceOperator(task_id="balance", stability_conn_id="eu"), "connection 'eu'"),
        (AccountOperator(task_id="account"), "connection 'stability_default'"),
    ],
)
def test_a_task_is_described_by_its_connection_and_its_organization(task: object, target: str) -> None:
    assert describe_target(task) == target
