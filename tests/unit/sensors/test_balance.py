"""The gate in poke mode, executed as a worker executes it: what opens it, and when it gives up."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
)
from support.poke_gates import gate, when

from airflow_provider_stability.exceptions import (
    AuthenticationError,
)
from airflow_provider_stability.links import BILLING_URL

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator

BALANCE = "/v1/user/balance"


def test_a_gate_with_enough_credits_opens_with_one_request_and_returns_them(account: Simulator) -> None:
    account.set_credits(40)

    assert gate().execute({}) == 40.0
    assert account.count(BALANCE) == 1


def test_a_gate_waits_for_a_top_up_and_then_opens(account: Simulator, lines: list[str]) -> None:
    top_up = when(account, 3, lambda: account.top_up(40))

    assert gate().execute({}) == 52.5

    top_up.join()
    assert account.count(BALANCE) >= 4
    assert "12.5 credits, need 40, short 27.5" in lines
    assert "52.5 credits, need 40: open" in lines


def test_the_credits_are_a_float_even_where_the_service_sends_a_whole_number(account: Simulator) -> None:
    account.fail(body=b'{"credits": 41}')

    found = gate().execute({})

    assert found == 41.0
    assert isinstance(found, float)


def test_the_gate_looks_at_the_organization_it_is_given(account: Simulator) -> None:
    assert gate(organization="org-b").execute({}) == 60.0
    assert [each.headers.get("Organization") for each in account.requests] == ["org-b"]


def test_a_timeout_says_the_last_balance_and_the_last_error(account: Simulator) -> None:
    account.fail(body=b'{"credits": 12.5}')
    account.fail(status=503, times=None)

    with pytest.raises(AirflowSensorTimeout) as end:
        gate(timeout=2).execute({})

    assert "Last balance, at 20" in str(end.value)
    assert "12.5 credits, need 40, short 27.5" in str(end.value)
    assert "503 service_unavailable" in str(end.value)


def test_a_timeout_without_any_answer_says_so(account: Simulator) -> None:
    account.fail(reset=True, times=None)

    with pytest.raises(AirflowSensorTimeout, match=r"No balance was read\. Last error, at .*reset by peer"):
        gate(timeout=0).execute({})


def test_a_timeout_skips_under_soft_fail_and_says_the_same(account: Simulator) -> None:
    with pytest.raises(AirflowSkipException, match=r"timed out.*12\.5 credits, need 40, short 27\.5"):
        gate(timeout=0, soft_fail=True).execute({})
    assert account.count() == 1


def test_nothing_is_kept_on_the_operator_between_pokes(account: Simulator) -> None:
    sensor = gate(timeout=0.2)
    sensor.log  # noqa: B018  # Airflow makes it when it is first read
    before = copy.copy(vars(sensor))
    account.fail(status=503)

    with pytest.raises(AirflowSensorTimeout):
        sensor.execute({})
    assert vars(sensor) == before


def test_a_poke_by_itself_works_as_in_a_users_unit_test(account: Simulator) -> None:
    sensor = gate()

    assert not sensor.poke({})
    account.top_up(100)
    opened = sensor.poke({})
    assert isinstance(opened, PokeReturnValue)
    assert opened.xcom_value == 112.5
    account.fail(status=401)
    with pytest.raises(AuthenticationError):
        sensor.poke({})


def test_the_link_is_there_from_the_start_on_versions_that_store_links(account: Simulator) -> None:
    pushed: dict[str, Any] = {}

    class TaskInstance:
        def xcom_push(self, key: str, value: Any) -> None:
            pushed[key] = value

    account.set_credits(50)
    sensor = gate()
    sensor.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]  # no more than the gate looks at

    (link,) = sensor.operator_extra_links
    assert link.name == "Buy credits"
    assert pushed in ({}, {"_link_BillingLink": BILLING_URL})
    assert bool(pushed) == hasattr(link, "xcom_key")
