"""A gate on a worker around its pokes: what it checks first, how long it sleeps, and how its wait ends."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_stability.exceptions import RateLimitError, StabilityParameterError
from airflow_provider_stability.gate.wait import Wait
from airflow_provider_stability.links import BILLING_URL, BillingLink
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.gates import Store, current, gate

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_stability.sensors.balance import BalanceSensor
    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

TEMPLATE = "{{ params.x }}"
TARGET = "(connection 'stability_default')"
TARGET_B = "(connection 'stability_default', organization 'org-b')"
SHORT = "12.5 credits, need 40, short 27.5"


def paused(seconds: float, *, survives: bool = True) -> Wait:
    wait = Wait(survives=survives)
    wait.add_error(RateLimitError("slow down", status_code=429, retry_after=seconds))
    return wait


def next_interval(sensor: BalanceSensor, *, elapsed: float = 0.0, pokes: int = 1) -> float:
    return sensor._get_next_poke_interval(time.monotonic() - elapsed, lambda: elapsed, pokes)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("min_credits", "forty", "min_credits is 'forty'; "),
        ("min_credits", None, "min_credits is None, a NoneType; "),
        ("organization", "org b", "organization is 'org b'; "),
        ("organization", None, "organization "),  # a template, or a task's value, that came to nothing
        ("stability_conn_id", None, "stability_conn_id is None; "),
        ("stability_conn_id", 7, "stability_conn_id is 7; "),
        ("stability_conn_id", " ", "stability_conn_id is ' '; "),
    ],
)
def test_a_parameter_that_rendered_to_nonsense_fails_the_task_before_a_request(
    account: Simulator, name: str, value: Any, message: str, *, deferrable: bool
) -> None:
    sensor = gate(organization=TEMPLATE, min_credits=TEMPLATE, soft_fail=True, deferrable=deferrable)
    sensor.min_credits, sensor.organization = "40", "org-b"
    setattr(sensor, name, value)
    with pytest.raises(AirflowFailException) as failure:
        sensor.execute({})
    assert isinstance(failure.value.__cause__, StabilityParameterError)
    assert str(failure.value.__cause__).startswith(message)
    assert account.count() == 0


@pytest.mark.parametrize(("organization", "target"), [(None, TARGET), ("org-b", TARGET_B)])
@pytest.mark.parametrize(("soft_fail", "end"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_the_start_and_the_end_of_a_wait_name_the_connection_and_the_organization(
    account: Simulator,
    lines: list[Line],
    organization: str | None,
    target: str,
    *,
    soft_fail: bool,
    end: type[Exception],
) -> None:
    account.set_credits(12.5, "org-b")
    with pytest.raises(end) as ended:
        gate(timeout=0, organization=organization, soft_fail=soft_fail).execute({})
    assert type(ended.value) is end
    assert lines[0] == ("INFO", f"Waiting for 40 credits {target}, for at most 0 s")
    assert " Last balance, at 20" in str(ended.value)
    assert str(ended.value).endswith(f"UTC: {SHORT}. {target}")


def test_a_rescheduled_poke_does_not_announce_the_wait_again(account: Simulator, lines: list[Line]) -> None:
    account.top_up(40)
    with pytest.raises(KeyError, match="ti"):  # which Airflow's own execute asks for first
        gate(mode="reschedule").execute({})
    assert lines == []


def test_nothing_is_kept_on_the_operator_between_pokes(account: Simulator) -> None:
    sensor = gate(timeout=0.2)
    sensor.log  # noqa: B018  # Airflow makes it when it is first read
    before = copy.copy(vars(sensor))
    account.fail(status=503)
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute({})
    assert vars(sensor) == before


def test_never_fail_and_silent_fail_mean_what_they_mean_for_any_sensor(account: Simulator) -> None:
    account.fail(status=401, times=2)
    with pytest.raises(AirflowSkipException, match="401 unauthorized"):
        gate(never_fail=True).execute({})
    account.set_credits(50)
    assert gate(silent_fail=True).execute({}) == 50.0
    with pytest.raises(AirflowSensorTimeout, match="Last balance"):
        gate(never_fail=True, min_credits=100, timeout=0).execute({})


def test_a_pause_that_ends_before_the_wait_is_slept_through(lines: list[Line]) -> None:
    with current(paused(30)):
        assert 29 < next_interval(gate()) <= 30
    assert lines == [("INFO", "The service asked for a pause; next request in 30 s")]


def test_a_pause_within_the_interval_changes_nothing(lines: list[Line]) -> None:
    with current(paused(3)):
        assert next_interval(gate(poke_interval=5)) == 5
    with current(Wait()):
        assert next_interval(gate(poke_interval=5)) == 5
    assert lines == []


def test_a_pause_as_long_as_the_interval_or_the_wait_is_no_longer(
    lines: list[Line], mocker: MockerFixture
) -> None:
    mocker.patch("time.monotonic", return_value=1000.0)
    with current(paused(30)):
        assert next_interval(gate(poke_interval=30)) == 30
        assert lines == []
        assert next_interval(gate(), elapsed=30.0) == 30
    assert lines == [("INFO", "The service asked for a pause; next request in 30 s")]


@pytest.mark.parametrize(("elapsed", "left"), [(50.0, 10.0), (60.0, 0.0), (61.5, 0.0)])
def test_a_pause_that_outlasts_the_wait_lets_it_sleep_until_its_timeout(
    lines: list[Line], elapsed: float, left: float
) -> None:
    with current(paused(300)):
        assert next_interval(gate(), elapsed=elapsed) == left
    message = (
        f"The service asked for a pause of 300 s, but this wait ends in {left:.0f} s; "
        "no further request will be made"
    )
    assert lines == [("WARNING", message)]


@pytest.mark.parametrize(("soft_fail", "end"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_a_pause_that_outlasts_the_wait_ends_it_where_the_next_poke_would_not_know_of_it(
    *, soft_fail: bool, end: type[Exception]
) -> None:
    with current(paused(300, survives=False)), pytest.raises(end) as ended:
        next_interval(gate(soft_fail=soft_fail), elapsed=61.5)
    assert type(ended.value) is end
    assert str(ended.value) == (
        "The service asked for a pause of 300 s, but this wait ends in 0 s; "
        "ending it now, as no request is allowed before then."
    )


def test_exponential_backoff_survives_thousands_of_pokes() -> None:
    sensor = gate(exponential_backoff=True, max_wait=60, poke_interval=30)
    assert next_interval(sensor, pokes=5000) <= 60


class TaskInstance:
    """What a gate looks at of one."""

    try_number = 1
    max_tries = 0
    dag_id = task_id = run_id = "x"
    map_index = -1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_first_reschedule_date(self, _: Any) -> None:
        return None


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 asks its database for the first date")
@pytest.mark.parametrize(("mode", "kept"), [("reschedule", 12.5), ("poke", None)])
def test_only_a_gate_that_is_rescheduled_leaves_the_next_process_what_it_found(
    account: Simulator, mode: str, kept: float | None
) -> None:
    store = Store()
    context: Any = {"ti": TaskInstance(), "task_state_store": store}
    with pytest.raises((AirflowRescheduleException, AirflowSensorTimeout)):
        gate(mode=mode, timeout=60 if mode == "reschedule" else 0).execute(context)
    found = store.kept.get("stability_wait", {"latest": {"credits": None}})
    assert found["latest"]["credits"] == kept


@pytest.mark.parametrize(
    ("kwargs", "is_shown"),
    [({}, True), ({"mode": "reschedule"}, False), ({"deferrable": True}, False)],
    ids=str,
)
def test_a_gate_that_keeps_its_worker_shows_the_billing_link_while_it_waits(
    account: Simulator, kwargs: dict[str, Any], *, is_shown: bool
) -> None:
    instance = TaskInstance()
    sensor = gate(**kwargs)
    sensor.min_credits = "forty"  # ends the task before it waits
    with pytest.raises(AirflowFailException):
        sensor.execute({"ti": instance})  # type: ignore[typeddict-item]  # no more than the gate looks at
    has_key = hasattr(BillingLink(), "xcom_key")  # Airflow 2 stores no links
    assert instance.pushed == ({"_link_BillingLink": BILLING_URL} if is_shown and has_key else {})
    assert [each.name for each in sensor.operator_extra_links] == ["Buy credits"]
