"""The gate in poke mode, executed as a worker executes it, against the simulator."""

from __future__ import annotations

import copy
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
)
from airflow_runs import AIRFLOW_V_3_0_PLUS

from airflow_provider_stability.exceptions import (
    AuthenticationError,
    StabilityConfigurationError,
    StabilityError,
    StabilityParameterError,
)
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.links import BILLING_URL
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BALANCE = "/v1/user/balance"
KEY = "sk-CanaryKey0123456789"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=12.5, organizations={"org-b": 60.0}, api_key=KEY) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log lines of the gate, filled while it runs."""
    # Airflow's own loggers keep their lines from pytest, in another way in each version.
    monkeypatch.setattr(BalanceSensor, "log", logging.getLogger("gate"))
    caplog.set_level(logging.INFO, "gate")
    found: list[str] = []
    monkeypatch.setattr(caplog.handler, "emit", lambda record: found.append(record.getMessage()))
    return found


def gate(**kwargs: Any) -> BalanceSensor:
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.05, "timeout": 60}
    return BalanceSensor(task_id="gate", **(given | kwargs))


def when(account: Simulator, requests: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the gate has asked so many times."""

    def wait() -> None:
        account.wait_for_requests(requests, timeout=20)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


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


def test_a_negative_balance_is_simply_not_enough(account: Simulator, lines: list[str]) -> None:
    account.set_credits(-3)

    with pytest.raises(AirflowSensorTimeout):
        gate(min_credits=0, timeout=0).execute({})
    assert "-3 credits, need 0, short 3" in lines


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502, "body": b"<html>bad gateway</html>", "content_type": "text/html"},
        {"status": 503},
        {"status": 504},
        {"status": 429, "retry_after": 0},
        {"reset": True},
        {"cut_body": True},
        {"body": b"<html>sign in</html>", "content_type": "text/html"},
        {"body": b""},
        {"body": b'{"credits": NaN}'},
        {"body": b'{"credits": true}'},
        {"body": b'{"credits": "50"}'},
    ],
    ids=str,
)
def test_a_passing_error_never_ends_a_wait(
    account: Simulator, lines: list[str], fault: dict[str, Any]
) -> None:
    account.set_credits(50)
    account.fail(times=3, **fault)

    assert gate().execute({}) == 50.0
    assert account.count(BALANCE) == 4  # each poke asks once, none is repeated behind the gate's back
    assert sum("Waiting on, balance unknown" in line for line in lines) == 3


def test_a_service_that_is_down_is_waited_for(account: Simulator, mocker: Any) -> None:
    account.__exit__(None, None, None)
    again = Simulator(credits=77, api_key=KEY, port=account.port)
    sleeps: list[float] = []
    sleep = time.sleep

    def start_at_the_second(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            again.__enter__()
        sleep(seconds)

    mocker.patch("time.sleep", side_effect=start_at_the_second)
    try:
        assert gate().execute({}) == 77.0
    finally:
        again.__exit__(None, None, None)
    assert len(sleeps) == 2
    assert again.count(BALANCE) == 1


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    ("status", "words"), [(401, "unauthorized"), (403, "permission_denied"), (404, "not_found")]
)
@pytest.mark.parametrize("first", [0, 2], ids=["at once", "in the middle"])
def test_an_error_that_waiting_cannot_mend_fails_the_task_without_retries_or_skip(
    account: Simulator, status: int, words: str, first: int, *, soft_fail: bool
) -> None:
    for _ in range(first):
        account.fail(body=b'{"credits": 1}')
    account.fail(status=status, times=None)

    with pytest.raises(AirflowFailException, match=words) as failure:
        gate(soft_fail=soft_fail, retries=3).execute({})

    assert account.count() == first + 1
    assert isinstance(failure.value.__cause__, StabilityError)
    assert failure.value.__cause__.advice in str(failure.value)


def test_never_fail_and_silent_fail_mean_what_they_mean_to_airflow(account: Simulator) -> None:
    account.fail(status=401, times=2)
    with pytest.raises(AirflowSkipException, match="unauthorized"):
        gate(never_fail=True).execute({})

    account.set_credits(50)
    assert gate(silent_fail=True).execute({}) == 50.0


def test_a_key_that_is_rotated_while_the_gate_waits_is_taken_up(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotate() -> None:
        account.rotate_key("sk-next")
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection())
        account.top_up(100)

    # The second request hangs while the key changes, so that no poke falls between the service and the
    # connection.
    account.fail(body=b'{"credits": 1}')
    account.fail(delay=30)
    thread = when(account, 2, rotate)
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(timeout=1))

    assert gate().execute({}) == 112.5

    thread.join()
    assert account.requests[-1].headers["Authorization"] == "Bearer sk-next"


def test_a_timeout_says_the_last_balance_and_the_last_error(account: Simulator) -> None:
    account.fail(body=b'{"credits": 12.5}')
    account.fail(status=503, times=None)

    with pytest.raises(AirflowSensorTimeout) as end:
        gate(timeout=0.3).execute({})

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


@pytest.mark.parametrize("header", ["1", "1.2", "date"])
def test_no_request_comes_before_retry_after_has_passed(account: Simulator, header: str) -> None:
    seconds = 1.0
    if header == "date":
        # Whole seconds: a date a little over one second ahead.
        until = time.gmtime(time.time() + 2)
        header = time.strftime("%a, %d %b %Y %H:%M:%S GMT", until)
    account.set_credits(50)
    account.fail(status=429, retry_after=header)

    assert gate(poke_interval=0.01).execute({}) == 50.0

    first, second = account.requests
    assert second.at - first.at >= seconds * 0.99


def test_a_429_that_names_no_time_is_given_60_seconds(
    account: Simulator, mocker: Any, lines: list[str]
) -> None:
    # A clock that only sleeping moves; a minute of the real one is more than a test should take.
    start = time.time()
    clock = {"past": 0.0}
    mocker.patch("time.sleep", side_effect=lambda seconds: clock.update(past=clock["past"] + seconds))
    mocker.patch("time.time", side_effect=lambda: start + clock["past"])
    mocker.patch("time.monotonic", side_effect=lambda: start + clock["past"])
    account.set_credits(50)
    account.fail(status=429)

    assert gate(poke_interval=5, timeout=600).execute({}) == 50.0

    assert clock["past"] >= 60
    assert account.count() == 2
    assert "The service asks for a pause: next request in 60 s" in lines


def test_a_pause_that_outlasts_the_wait_ends_it_on_time_and_without_a_request(account: Simulator) -> None:
    account.fail(status=429, retry_after=3600, times=None)
    began = time.monotonic()

    with pytest.raises(AirflowSensorTimeout, match="too_many_requests"):
        gate(timeout=1).execute({})

    assert time.monotonic() - began >= 1
    assert account.count() == 1


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
    with pytest.raises(AirflowFailException, match=r"organization is .*allowed is"):
        gate(organization=organization).execute({})
    assert account.count() == 0


def test_a_connection_that_is_not_there_fails_at_once(account: Simulator, mocker: Any) -> None:
    mocker.patch("time.sleep")
    with pytest.raises(AirflowFailException, match="connection 'nowhere': it is not defined") as failure:
        gate(stability_conn_id="nowhere", soft_fail=True).execute({})
    assert isinstance(failure.value.__cause__, StabilityConfigurationError)
    assert account.count() == 0


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


def test_the_key_is_in_no_line_and_no_exception(account: Simulator, lines: list[str]) -> None:
    account.fail(status=500, body=f'{{"id": "1", "name": "x", "message": "bad {KEY}"}}', times=2)
    account.fail(status=401, body=f'{{"id": "1", "name": "x", "message": "bad {KEY[:-3]}"}}', times=None)

    with pytest.raises(AirflowFailException) as failure:
        gate().execute({})

    seen = "\n".join([*lines, repr(failure.value), repr(failure.value.__cause__)])
    assert "bad ***" in seen
    assert KEY[:8] not in seen


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


def test_an_organization_that_became_none_never_means_the_default_one(account: Simulator) -> None:
    sensor = gate(organization="{{ params.org }}", min_credits=1)
    sensor.organization = None  # as a template with native types leaves it, or a task that returned nothing
    with pytest.raises(AirflowFailException, match="organization was given, and became None"):
        sensor.execute({})
    assert account.count() == 0


def test_a_passing_failure_to_read_the_connection_does_not_end_a_wait(
    account: Simulator, mocker: Any
) -> None:
    read = StabilityHook.get_connection
    failures = [ConnectionError("the secrets backend is down")] * 2

    def read_at_the_third_look(connection_id: str) -> Any:
        if failures:
            raise failures.pop()
        return read(connection_id)

    mocker.patch.object(StabilityHook, "get_connection", side_effect=read_at_the_third_look)
    account.set_credits(50)
    assert gate().execute({}) == 50.0


class BrokenStore:
    """A task state store that is there and fails, as on an API server that is restarted."""

    def get(self, key: str) -> Any:
        raise RuntimeError(key)

    set = get


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_store_or_a_link_that_fails_does_not_end_a_wait(account: Simulator, mode: str) -> None:
    class TaskInstance:
        try_number = 1
        max_tries = 0
        dag_id = task_id = run_id = "x"
        map_index = -1

        def xcom_push(self, **_: Any) -> None:
            raise RuntimeError("no XCom")

        def get_first_reschedule_date(self, _: Any) -> None:
            return None

    account.set_credits(50)
    context: Any = {"ti": TaskInstance(), "task_state_store": BrokenStore()}
    if mode == "poke" or AIRFLOW_V_3_0_PLUS:  # Airflow 2 asks its database for the date
        assert gate(mode=mode).execute(context) == 50.0


def test_a_wait_with_back_off_outlives_a_thousand_pokes(account: Simulator) -> None:
    sensor = gate(exponential_backoff=True, max_wait=60, poke_interval=30)
    sensor.task_id = "gate"
    assert sensor._get_next_poke_interval(time.monotonic(), lambda: 1.0, 5000) <= 60


def test_a_moment_left_of_a_pause_is_slept_and_not_paid_with_an_interval(
    account: Simulator, mocker: Any, lines: list[str]
) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=0.5)
    sleep = time.sleep
    # The clock of the wall is a little slower than that of sleeping.
    mocker.patch("time.sleep", side_effect=lambda seconds: sleep(seconds * 0.9))

    assert gate(poke_interval=0.01).execute({}) == 50.0

    assert account.count() == 2
    assert (
        sum("asks for a pause" in line for line in lines) == 1
    )  # a poke that asked nothing would say it again
