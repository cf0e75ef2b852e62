"""The gate in reschedule mode: every poke is a process of its own, on a real Airflow and its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.airflow_runs import run_dag
from support.programs import python_path

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("airflow_database")

KEY = "sk-CanaryKey0123456789"


class Outcome(NamedTuple):
    """What a run of a gate in processes of their own came to."""

    state: str
    processes: int
    xcom: Any
    log: str


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=12.5, api_key=KEY) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


def run_forked(dag_id: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "support.forked_run", dag_id],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    result = json.loads(done.stdout.splitlines()[-1])
    return Outcome(
        result["states"]["gate"], result["processes"], result["xcom"].get("0", result["xcom"].get("-1")), log
    )


def after(account: Simulator, requests: int, then: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        account.wait_for_requests(requests, timeout=60)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_gate_waits_for_a_top_up_and_opens_alike_in_both_modes(account: Simulator, mode: str) -> None:
    top_up = after(account, 2, lambda: account.top_up(40))

    outcome = run_forked(f"gate_{mode}")

    top_up.join()
    assert (outcome.state, outcome.xcom) == ("success", 52.5)
    assert "12.5 credits, need 40, short 27.5" in outcome.log
    assert "52.5 credits, need 40: open" in outcome.log
    # One process for the whole wait, or one for each poke.
    assert outcome.processes == (1 if mode == "poke" else account.count())


def test_passing_errors_are_waited_out_from_process_to_process(account: Simulator) -> None:
    account.set_credits(50)
    account.fail(status=503)
    account.fail(reset=True)

    outcome = run_forked("gate_reschedule")

    assert (outcome.state, outcome.xcom) == ("success", 50.0)
    assert outcome.processes == account.count() == 3


def test_the_next_process_asks_no_sooner_than_retry_after_says(account: Simulator) -> None:
    account.set_credits(50)
    account.fail(status=429, retry_after=3)

    assert run_forked("gate_reschedule").state == "success"

    first, second = account.requests
    assert second.at - first.at >= 3


def test_an_error_that_waiting_cannot_mend_fails_the_gate_in_its_second_process(account: Simulator) -> None:
    account.fail(body=b'{"credits": 1}')
    account.fail(status=401, times=None)

    outcome = run_forked("gate_reschedule")

    assert (outcome.state, outcome.processes, account.count()) == ("failed", 2, 2)
    assert "Put a valid API key into the connection's password" in outcome.log


def test_a_timeout_counts_from_the_first_process_and_says_what_is_known(account: Simulator) -> None:
    outcome = run_forked("gate_reschedule_short")

    assert outcome.state == "failed"
    assert outcome.processes == account.count() >= 2
    assert "Last balance, at" in outcome.log


def test_what_an_earlier_process_knew_is_in_the_message_where_airflow_keeps_it(account: Simulator) -> None:
    account.fail(body=b'{"credits": 12.5}')
    account.fail(status=503, times=None)

    outcome = run_forked("gate_reschedule_short")

    assert outcome.state == "failed"
    last_words = outcome.log[outcome.log.index("Sensor has timed out") :]
    assert "503 service_unavailable" in last_words
    assert ("Last balance, at" in last_words) == has_task_state_store()


def test_a_pause_that_outlasts_the_wait_lets_no_process_ask(account: Simulator) -> None:
    account.fail(status=429, retry_after=3600, times=None)

    outcome = run_forked("gate_reschedule_short")

    assert (outcome.state, account.count()) == ("failed", 1)
    # Where Airflow keeps what the first process knew, a second one ends the wait on time; else it ends early.
    assert outcome.processes == (2 if has_task_state_store() else 1)
    assert "too_many_requests" in outcome.log


def test_the_key_is_in_no_log_line(account: Simulator) -> None:
    account.fail(status=500, body=f'{{"message": "what is {KEY}?"}}')
    account.fail(status=401, body=f'{{"message": "no {KEY}"}}')

    outcome = run_forked("gate_reschedule")

    assert outcome.state == "failed"
    assert "what is ***?" in outcome.log
    assert KEY not in outcome.log


@pytest.mark.parametrize(("dag_id", "state"), [("gate_soft", "skipped"), ("gate_retries", "failed")])
def test_a_timeout_fails_without_retries_and_skips_under_soft_fail(
    account: Simulator, dag_id: str, state: str
) -> None:
    assert run_dag(dag_id).states == {"gate": state}
    assert account.count() >= 2


@pytest.mark.parametrize("dag_id", ["gate_soft", "gate_retries", "gate_reschedule"])
def test_a_wrong_key_fails_with_one_request_whatever_retries_and_soft_fail_say(
    account: Simulator, dag_id: str
) -> None:
    account.rotate_key("sk-another")

    assert run_dag(dag_id).states == {"gate": "failed"}
    assert account.count() == 1


def has_task_state_store() -> bool:
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS  # noqa: PLC0415

    return bool(AIRFLOW_V_3_3_PLUS)
