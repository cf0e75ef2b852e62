"""The gate in poke mode, when something goes wrong: what it waits through, and what ends it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
)
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.keys import KEY
from support.poke_gates import gate, when

from airflow_provider_stability.exceptions import (
    StabilityError,
)
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.simulator import Simulator

BALANCE = "/v1/user/balance"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 429, "retry_after": 0},
        {"reset": True},
        {"body": b'{"credits": NaN}'},
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
    assert sum("Still waiting; could not read the balance" in line for line in lines) == 3


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
def test_an_error_that_waiting_cannot_mend_fails_the_task_without_retries_or_skip(
    account: Simulator, *, soft_fail: bool
) -> None:
    account.fail(body=b'{"credits": 1}')
    account.fail(status=401, times=None)

    with pytest.raises(AirflowFailException, match="unauthorized") as failure:
        gate(soft_fail=soft_fail, retries=3).execute({})

    assert account.count() == 2
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


def test_the_key_is_in_no_line_and_no_exception(account: Simulator, lines: list[str]) -> None:
    account.fail(status=500, body=f'{{"id": "1", "name": "x", "message": "bad {KEY}"}}', times=2)
    account.fail(status=401, body=f'{{"id": "1", "name": "x", "message": "bad {KEY[:-3]}"}}', times=None)

    with pytest.raises(AirflowFailException) as failure:
        gate().execute({})

    seen = "\n".join([*lines, repr(failure.value), repr(failure.value.__cause__)])
    assert "bad ***" in seen
    assert KEY[:8] not in seen


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
