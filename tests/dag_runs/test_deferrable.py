"""DAGs with gates that wait in the triggerer, run by ``dag.test()``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support.airflow_runs import Run, load_dag, run_dag

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=12.5, organizations={"org-b": 60.0}) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


def when(account: Simulator, requests: int, then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the gate has asked so many times."""

    def wait() -> None:
        account.wait_for_requests(requests, timeout=60)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture
def run(airflow_database: object, account: Simulator) -> Callable[[str], Run]:
    load_dag("deferred_plain")  # before a clock runs
    return lambda name: run_dag(f"deferred_{name}")


@pytest.mark.parametrize("name", ["plain", "start", "start_templated", "end", "templated"])
def test_a_deferred_gate_opens_and_its_xcom_is_that_of_a_worker(
    account: Simulator, run: Callable[[str], Run], name: str
) -> None:
    account.set_credits(60)
    done = run(name)
    assert done.states == {"gate": "success"}
    assert account.count() == 1

    # Airflow 3.3 stores a whole float as a whole number, whoever pushes it.
    found, poked = done.xcom("gate"), run_dag("gate_poke").xcom("gate")
    assert (found, type(found)) == (60.0, type(poked))


def test_a_deferred_gate_opens_after_a_top_up(account: Simulator, run: Callable[[str], Run]) -> None:
    top_up = when(account, 3, lambda: account.top_up(40))
    assert run("plain").xcom("gate") == 52.5
    top_up.join()


@pytest.mark.parametrize(
    ("name", "state"), [("short", "failed"), ("soft", "skipped"), ("both_short", "failed")]
)
def test_a_deferred_gate_ends_on_time(
    account: Simulator, run: Callable[[str], Run], name: str, state: str
) -> None:
    done = run(name)
    assert done.states == {"gate": state}
    assert account.count() >= 2


@pytest.mark.parametrize("name", ["retries", "soft_retries"])
def test_a_deferred_gate_fails_at_once_on_a_refused_key(
    account: Simulator, run: Callable[[str], Run], name: str
) -> None:
    account.fail(status=401, times=None)
    done = run(name)
    assert done.states == {"gate": "failed"}
    assert account.count() == 1


def test_mapped_gates_that_would_start_in_the_triggerer_work(
    account: Simulator, run: Callable[[str], Run]
) -> None:
    done = run("mapped")
    assert set(done.states.values()) == {"success"}
    assert done.xcoms("gate") == {0: 12.5, 1: 12.5, 2: 12.5}


def test_a_threshold_of_any_kind_of_number_defers(account: Simulator, run: Callable[[str], Run]) -> None:
    assert run("decimal").states == {"gate": "success"}
