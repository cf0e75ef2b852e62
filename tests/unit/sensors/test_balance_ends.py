"""The gate's edges: what each end says word for word, pauses that outlast a wait, where it may start."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.log_lines import level_and_text, lines_of

from airflow_provider_stability import version_compat
from airflow_provider_stability.exceptions import (
    RateLimitError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
)
from airflow_provider_stability.gate import observation as waiting
from airflow_provider_stability.gate.wait import Wait
from airflow_provider_stability.links import BILLING_URL
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.version_compat import RENDERS_IN_TRIGGERER, STARTS_IN_TRIGGERER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from airflow_provider_stability.simulator import Simulator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Return the log lines of the gate, each with its level."""
    with lines_of(BalanceSensor, monkeypatch, level_and_text) as found:
        yield found


def gate(**kwargs: Any) -> BalanceSensor:
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.05, "timeout": 60}
    return BalanceSensor(task_id="gate", **(given | kwargs))


def paused(seconds: float, *, survives: bool = True) -> Wait:
    wait = Wait(survives=survives)
    wait.failed(RateLimitError("slow down", status_code=429, retry_after=seconds))
    return wait


@contextlib.contextmanager
def current(wait: Wait) -> Iterator[Wait]:
    token = waiting._current.set(wait)
    try:
        yield wait
    finally:
        waiting._current.reset(token)


def next_interval(sensor: BalanceSensor, *, past: float = 0.0, pokes: int = 1) -> float:
    return sensor._get_next_poke_interval(time.monotonic() - past, lambda: past, pokes)


def test_a_wait_that_no_triggerer_ended_says_where_to_look() -> None:
    with pytest.raises(AirflowSensorTimeout) as ended:
        gate(deferrable=True).resume_execution("__fail__", {"error": "Trigger timeout"}, {})
    assert str(ended.value) == (
        "The wait of 60 s is over, and no triggerer has ended it: does one run, for this task's queue, "
        "with room for it ([triggerer] capacity)? What it knew is in its log."
    )


@pytest.mark.parametrize(
    ("given", "logged"),
    [({"traceback": ["lost\n", "it\n"]}, "lost\nit\n"), ({"traceback": None}, ""), (None, "")],
)
def test_a_trigger_that_broke_has_its_reason_logged_and_may_be_retried(
    lines: list[tuple[str, str]], given: dict[str, Any] | None, logged: str
) -> None:
    with pytest.raises(StabilityConnectionError) as failure:
        gate(deferrable=True).resume_execution("__fail__", given, {})
    assert str(failure.value) == "the trigger failed; its log has the reason"
    assert failure.value.transient
    assert lines == [("ERROR", f"The trigger failed:\n{logged}")]


def test_a_trigger_that_broke_is_a_skip_that_says_so_where_nothing_may_fail() -> None:
    with pytest.raises(AirflowSkipException) as skip:
        gate(deferrable=True, never_fail=True).resume_execution("__fail__", {"error": "Trigger failure"}, {})
    assert str(skip.value) == "Skipping due to never_fail is set to True. The trigger failed."


def test_an_error_that_waiting_cannot_mend_is_a_skip_that_says_which_where_nothing_may_fail() -> None:
    event = {"status": "failed", "kind": "AuthenticationError", "message": "401 unauthorized"}
    with pytest.raises(AirflowSkipException) as skip:
        gate(deferrable=True, never_fail=True).resume_execution("execute_complete", {"event": event}, {})
    assert str(skip.value) == "Skipping due to never_fail is set to True. 401 unauthorized"


def test_a_gate_that_opened_in_the_triggerer_says_on_what(lines: list[tuple[str, str]]) -> None:
    event = {"status": "success", "credits": 52.5}
    assert gate(deferrable=True, min_credits="40").execute_complete({}, event) == 52.5
    assert lines == [("INFO", "52.5 credits, need 40: open")]


@pytest.mark.parametrize("event", [None, {"status": "success", "credits": "52.5"}, {"status": "failed"}])
def test_what_is_no_event_is_told_with_what_is_allowed(event: object) -> None:
    with pytest.raises(StabilityError) as failure:
        gate(deferrable=True).execute_complete({}, event)
    assert str(failure.value) == (
        f"the trigger sent {event!r}; allowed is an event of success, timeout or failed"
    )


def test_a_pause_that_ends_before_the_wait_is_slept_and_told(lines: list[tuple[str, str]]) -> None:
    with current(paused(30)):
        assert 29 < next_interval(gate()) <= 30
    assert lines == [("INFO", "The service asks for a pause: next request in 30 s")]


def test_a_pause_within_the_interval_costs_nothing(lines: list[tuple[str, str]]) -> None:
    with current(paused(3)):
        assert next_interval(gate(poke_interval=5)) == 5
    with current(Wait()):
        assert next_interval(gate(poke_interval=5)) == 5
    assert lines == []


@pytest.mark.parametrize(("past", "left"), [(50.0, 10.0), (60.0, 0.0), (61.5, 0.0)])
def test_a_pause_that_outlasts_a_wait_is_sat_out_to_its_timeout(
    lines: list[tuple[str, str]], past: float, left: float
) -> None:
    with current(paused(300)):
        assert next_interval(gate(), past=past) == left
    said = f"The service asks for a pause of 300 s, and this wait ends in {left:.0f} s: no further request"
    assert lines == [("WARNING", said)]


@pytest.mark.parametrize(("soft_fail", "end"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_a_pause_that_outlasts_a_wait_ends_it_where_the_next_poke_would_not_know(
    *, soft_fail: bool, end: type[Exception]
) -> None:
    with current(paused(300, survives=False)), pytest.raises(end) as ended:
        next_interval(gate(soft_fail=soft_fail), past=61.5)
    assert type(ended.value) is end
    assert str(ended.value) == (
        "The service asks for a pause of 300 s, and this wait ends in 0 s; "
        "ending now, as no request could be made before."
    )


def test_a_poke_in_the_middle_of_a_pause_asks_nothing(account: Simulator, mocker: MockerFixture) -> None:
    slept = mocker.patch("time.sleep")
    with current(paused(1.5)):
        assert gate().poke({}) is False
    assert account.count() == 0
    slept.assert_not_called()
    with current(paused(0.75)) as wait:
        assert gate().poke({}) is False
        assert wait.credits == 12.5
    assert account.count() == 1
    (seconds,) = slept.call_args.args
    assert 0 < seconds <= 0.75


def test_a_poke_says_what_it_knows_and_keeps_it(account: Simulator, lines: list[tuple[str, str]]) -> None:
    with current(Wait()) as wait:
        assert gate().poke({}) is False
        account.fail(status=503)
        assert gate().poke({}) is False
        assert (wait.credits, wait.error_kind) == (12.5, "ServerError")
        account.top_up(40)
        found: Any = gate().poke({})
        assert (found.is_done, found.xcom_value) == (True, 52.5)
    assert [level for level, _ in lines] == ["INFO", "WARNING", "INFO"]
    assert lines[0][1] == "12.5 credits, need 40, short 27.5"
    assert lines[1][1].startswith(
        "Still waiting; could not read the balance: GET /v1/user/balance: 503 service_unavailable"
    )
    assert lines[2][1] == "52.5 credits, need 40: open"
    assert account.count() == 3


def test_a_poke_repeats_no_request_of_its_own(account: Simulator) -> None:
    account.fail(status=503, times=None)
    assert gate().poke({}) is False
    assert account.count() == 1


@pytest.mark.parametrize(
    ("given", "tag", "outcome"),
    [(None, "org-b", 12.5), ("org-default", "org-default", 12.5), (None, "org-b", "ServerError")],
)
def test_a_poke_is_one_sample_of_its_connection_and_organization(
    account: Simulator, mocker: MockerFixture, given: str | None, tag: str, outcome: Any
) -> None:
    connection = account.connection(organization="org-b")
    mocker.patch.dict("os.environ", {"AIRFLOW_CONN_STABILITY_EU": connection})
    recorded = mocker.patch("airflow_provider_stability.metrics.record_poll")
    account.set_credits(12.5, "org-b")
    if outcome == "ServerError":
        account.fail(status=503)
    gate(stability_conn_id="stability_eu", organization=given).poke({})
    ((name, organization, found),) = (call.args for call in recorded.call_args_list)
    assert (name, organization) == ("stability_eu", tag)
    assert outcome in {found, type(found).__name__}


@pytest.mark.parametrize(
    "kwargs",
    [{"deferrable": False, "start_from_trigger": True}, {"deferrable": False, "end_from_trigger": True}],
    ids=str,
)
def test_a_contradiction_in_the_parameters_says_what_is_allowed(kwargs: dict[str, Any]) -> None:
    with pytest.raises(StabilityParameterError) as refused:
        gate(**kwargs)
    assert str(refused.value) == (
        "deferrable is False; allowed with start_from_trigger or end_from_trigger is True, or to leave it out"
    )


def test_backing_off_together_with_sharing_says_what_to_do_instead() -> None:
    with pytest.raises(StabilityParameterError) as refused:
        gate(deferrable=True, exponential_backoff=True)
    assert str(refused.value) == (
        "exponential_backoff is True; allowed with deferrable is False: all gates of an organization share "
        "one poll, and backing off makes it no rarer. Raise poke_interval"
    )
    assert not gate(deferrable=False, exponential_backoff=True).deferrable


@pytest.mark.parametrize(
    ("execution_timeout", "limit"),
    [(None, 120.0), (timedelta(seconds=30), 30.0), (timedelta(seconds=500), 120.0)],
)
def test_a_gate_that_starts_in_the_triggerer_knows_airflows_own_limit(
    execution_timeout: timedelta | None, limit: float
) -> None:
    sensor = gate(start_from_trigger=True, execution_timeout=execution_timeout, organization="org-b")
    assert sensor._deferral_limit() == limit
    if STARTS_IN_TRIGGERER:
        assert sensor.start_trigger_args is not None
        assert sensor.start_trigger_args.trigger_kwargs == {
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


@pytest.mark.parametrize(
    ("kwargs", "starts"),
    [
        ({}, True),
        ({"min_credits": 0.5, "organization": "org-b"}, True),
        ({"organization": "{% if x %}a{% endif %}"}, RENDERS_IN_TRIGGERER),
        ({"min_credits": "{{ x }}"}, RENDERS_IN_TRIGGERER),
        ({"organization": ["org-b"]}, False),
    ],
    ids=str,
)
def test_a_gate_starts_in_the_triggerer_where_airflow_and_its_parameters_let_it(
    kwargs: dict[str, Any], *, starts: bool
) -> None:
    assert gate(start_from_trigger=True, **kwargs).start_from_trigger is (STARTS_IN_TRIGGERER and starts)
    assert gate(start_from_trigger=False, **kwargs).start_from_trigger is False


@pytest.mark.parametrize(("starts", "renders"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("given", ["org-b", "{{ x }}", "{% if x %}a{% endif %}"])
def test_a_template_starts_in_the_triggerer_of_those_airflows_only_that_render_it_there(
    monkeypatch: pytest.MonkeyPatch, given: str, *, starts: bool, renders: bool
) -> None:
    monkeypatch.setattr(version_compat, "STARTS_IN_TRIGGERER", starts)
    monkeypatch.setattr(version_compat, "RENDERS_IN_TRIGGERER", renders)
    for name in ("organization", "stability_conn_id"):
        sensor = gate(start_from_trigger=True, **{name: given})
        assert sensor.start_from_trigger is (starts and (renders or given == "org-b"))


def test_the_parameters_that_may_be_templates_are_rendered() -> None:
    sensor = gate(min_credits="{{ n }}", organization="{{ o }}", stability_conn_id="{{ c }}")
    context: Any = {"n": "40", "o": "org-b", "c": "stability_eu"}
    sensor.render_template_fields(context)
    rendered = (sensor.min_credits, sensor.organization, sensor.stability_conn_id)
    assert rendered == ("40", "org-b", "stability_eu")


def test_a_timeout_is_a_skip_under_soft_fail_whatever_airflow_makes_of_timeouts() -> None:
    event = {"status": "timeout", "message": "No balance was read."}
    with pytest.raises(AirflowSkipException) as skip:
        gate(deferrable=True, soft_fail=True).execute_complete({}, event)
    assert str(skip.value) == ("Timed out after 60 s. No balance was read. (connection 'stability_default')")


class TaskInstance:
    """What a gate looks at of one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.pushed: list[tuple[str, str]] = []

    def xcom_push(self, *, key: str, value: str) -> None:
        if self.error is not None:
            raise self.error
        self.pushed.append((key, value))


LINK = [("_link_BillingLink", BILLING_URL)]


@pytest.mark.parametrize(
    ("kwargs", "backend", "expected"),
    [
        ({}, "", LINK),
        ({}, "airflow.sdk.execution_time.xcom.BaseXCom", LINK),
        ({}, "mine.BaseXCom.OtherXCom", []),
        ({"mode": "reschedule"}, "", []),
        ({"deferrable": True}, "", []),
    ],
    ids=str,
)
def test_the_link_is_offered_early_where_a_poke_is_long_and_the_ui_would_find_it(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any], backend: str, expected: list[tuple[str, str]]
) -> None:
    if backend:
        monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", backend)
    task_instance = TaskInstance()
    sensor = gate(**kwargs)
    sensor._offer_link({"ti": task_instance})  # type: ignore[typeddict-item]  # no more than it looks at
    (link,) = sensor.operator_extra_links
    assert task_instance.pushed == (expected if hasattr(link, "xcom_key") else [])
    sensor._offer_link({})


def test_a_link_that_cannot_be_offered_is_a_line_in_the_log(lines: list[tuple[str, str]]) -> None:
    sensor = gate()
    (link,) = sensor.operator_extra_links
    sensor._offer_link({"ti": TaskInstance(RuntimeError("no XCom"))})  # type: ignore[typeddict-item]
    said = [("WARNING", "The link 'Buy credits' is not shown yet: no XCom")]
    assert lines == (said if hasattr(link, "xcom_key") else [])


class Store:
    """Takes the place of Airflow's task state store, which only a worker of 3.3 has."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


class RescheduledTask(TaskInstance):
    """What a gate that is rescheduled looks at of a task instance."""

    try_number = 1
    max_tries = 0
    dag_id = task_id = run_id = "x"
    map_index = -1

    def get_first_reschedule_date(self, _: Any) -> None:
        return None


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 asks its database for the first date")
@pytest.mark.parametrize(("mode", "kept"), [("reschedule", 12.5), ("poke", None)])
def test_a_gate_that_is_rescheduled_leaves_the_next_process_what_it_knows(
    account: Simulator, mode: str, kept: float | None
) -> None:
    store = Store()
    context: Any = {"ti": RescheduledTask(), "task_state_store": store}
    with pytest.raises((AirflowRescheduleException, AirflowSensorTimeout)):
        gate(mode=mode, timeout=0.2 if mode == "poke" else 60).execute(context)
    assert store.kept.get("stability_wait", {}).get("credits") == kept
