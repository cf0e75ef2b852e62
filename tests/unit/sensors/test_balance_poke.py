"""One poke of a gate on a worker: its request, its log line, and what it leaves for the next poke.

Whole waits, in each mode, are the scenarios' (tests/scenarios/table.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import PokeReturnValue

from airflow_provider_stability.connection import loading
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    RateLimitError,
    StabilityConfigurationError,
)
from airflow_provider_stability.gate.wait import Wait
from airflow_provider_stability.hooks.stability import StabilityHook
from support.gates import current, gate

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

CONNECTION = "AIRFLOW_CONN_STABILITY_DEFAULT"
SHORT = "12.5 credits, need 40, short 27.5"
UNKNOWN = "Still waiting; could not read the balance: "


def paused(seconds: float) -> Wait:
    wait = Wait()
    wait.add_error(RateLimitError("slow down", status_code=429, retry_after=seconds))
    return wait


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection that is not found be looked for again at once."""
    monkeypatch.setattr(loading, "_RETRY_DELAYS", (0, 0))


def test_each_poke_makes_one_request_and_logs_what_it_found(account: Simulator, lines: list[Line]) -> None:
    with current(Wait()) as wait:
        assert gate().poke({}) is False
        account.fail(status=503)
        assert gate().poke({}) is False
        assert (wait.latest.credits, wait.latest.error_kind) == (12.5, "ServerError")
        account.top_up(40)
        found: Any = gate().poke({})
    assert (found.is_done, found.xcom_value) == (True, 52.5)
    assert account.count() == 3  # the poke that failed did not try again
    assert [each.level for each in lines] == ["INFO", "WARNING", "INFO"]
    assert lines[0].text == SHORT
    assert lines[1].text.startswith(f"{UNKNOWN}GET /v1/user/balance: 503 service_unavailable")
    assert lines[2].text == "52.5 credits, need 40: open"


def test_a_poke_works_on_its_own_as_in_a_user_s_unit_test(account: Simulator) -> None:
    sensor = gate()
    assert sensor.poke({}) is False
    account.top_up(100)
    opened = sensor.poke({})
    assert isinstance(opened, PokeReturnValue)
    assert opened.xcom_value == 112.5


def test_a_permanent_error_is_recorded_and_raised(account: Simulator, lines: list[Line]) -> None:
    account.fail(status=401)
    with current(Wait()) as wait, pytest.raises(AuthenticationError, match="401 unauthorized"):
        gate().poke({})
    assert wait.latest.error_kind == "AuthenticationError"
    assert lines == []


def test_a_poke_asks_for_the_organization_it_is_given(account: Simulator) -> None:
    opened: Any = gate(organization=" org-b ").poke({})
    assert opened.xcom_value == 60.0
    assert [each.headers.get("Organization") for each in account.requests] == ["org-b"]


@pytest.mark.parametrize(
    ("given", "tag", "outcome"),
    [(None, "org-b", 60.0), ("org-default", "org-default", 12.5), (None, "org-b", "ServerError")],
)
def test_a_poke_is_one_sample_in_the_metrics_of_its_connection_and_organization(
    account: Simulator, mocker: MockerFixture, given: str | None, tag: str, outcome: Any
) -> None:
    mocker.patch.dict(os.environ, {"AIRFLOW_CONN_STABILITY_EU": account.connection(organization="org-b")})
    recorded = mocker.patch("airflow_provider_stability.metrics.record_poll")
    if outcome == "ServerError":
        account.fail(status=503)
    gate(stability_conn_id="stability_eu", organization=given).poke({})
    ((connection, organization, found),) = (call.args for call in recorded.call_args_list)
    assert (connection, organization) == ("stability_eu", tag)
    assert outcome in {found, type(found).__name__}


def test_a_poke_makes_no_request_while_the_service_wants_none(
    account: Simulator, mocker: MockerFixture
) -> None:
    sleep = mocker.patch("time.sleep")
    with current(paused(1.5)):
        assert gate().poke({}) is False
    assert account.count() == 0
    sleep.assert_not_called()


def test_a_poke_sleeps_through_the_last_second_of_a_pause(account: Simulator, mocker: MockerFixture) -> None:
    sleep = mocker.patch("time.sleep")
    mocker.patch("time.monotonic", return_value=1000.0)
    with current(paused(1)) as wait:
        assert gate().poke({}) is False
        assert wait.latest.credits == 12.5
    assert account.count() == 1
    assert [call.args for call in sleep.call_args_list] == [(1,)]


@pytest.mark.usefixtures("no_delay")
def test_a_gate_keeps_waiting_if_its_connection_disappears(account: Simulator, lines: list[Line]) -> None:
    connection = os.environ[CONNECTION]
    with current(Wait()):
        assert gate().poke({}) is False
        del os.environ[CONNECTION]
        assert gate().poke({}) is False
        account.top_up(40)
        os.environ[CONNECTION] = connection
        assert gate().poke({})
    assert lines[1].level == "WARNING"
    assert lines[1].text.startswith(
        f"{UNKNOWN}connection 'stability_default' was found before, but is not found now"
    )


@pytest.mark.usefixtures("no_delay")
def test_a_connection_that_never_existed_is_a_permanent_error(account: Simulator) -> None:
    del os.environ[CONNECTION]
    with (
        current(Wait()),
        pytest.raises(StabilityConfigurationError, match="connection 'stability_default'") as failure,
    ):
        gate().poke({})
    assert not failure.value.transient
    assert account.count() == 0


@pytest.mark.usefixtures("no_delay")
def test_waits_do_not_share_which_connection_was_read(account: Simulator) -> None:
    sensor = gate()
    with current(Wait()):
        sensor.poke({})
    del os.environ[CONNECTION]
    with current(Wait()), pytest.raises(StabilityConfigurationError):
        sensor.poke({})


def test_a_gate_keeps_waiting_if_the_secrets_backend_fails(
    account: Simulator, mocker: MockerFixture, lines: list[Line]
) -> None:
    with current(Wait()):
        gate().poke({})
        read = mocker.patch.object(StabilityHook, "get_connection", side_effect=ConnectionError("down"))
        assert gate().poke({}) is False
        mocker.stop(read)
        account.top_up(40)
        assert gate().poke({})
    assert lines[1].text.startswith(
        f"{UNKNOWN}connection 'stability_default' could not be read: ConnectionError"
    )


def test_the_key_is_in_no_log_line_and_no_error(account: Simulator, lines: list[Line]) -> None:
    key = account.api_key
    account.fail(status=500, body=f'{{"id": "1", "name": "x", "message": "bad {key}"}}')
    account.fail(status=401, body=f'{{"id": "1", "name": "x", "message": "bad {key[:-3]}"}}')
    gate().poke({})
    with pytest.raises(AuthenticationError) as failure:
        gate().poke({})
    seen = f"{lines} {failure.value!r}"
    assert seen.count("bad ***") == 2
    assert key[:8] not in seen
