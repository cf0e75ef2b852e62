"""A connection that is gone for now, to gates on a worker: in one process, and from process to process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from support import poke_gates
from support.poke_gates import gate
from support.programs import TESTS

from airflow_provider_stability.connection import loading as connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_stability.simulator import Simulator

    Step = tuple[str, Callable[[], object]]

VARIABLE = "AIRFLOW_CONN_STABILITY_DEFAULT"
SHORT = "12.5 credits, need 40, short 27.5"
NOT_FOUND_NOW = "connection 'stability_default' was found before, but is not found now"
NEVER = "\0"
NOT_DEFINED = "connection 'stability_default': it is not defined"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with poke_gates.account(monkeypatch) as simulator:
        monkeypatch.setattr(connections, "_RETRY_DELAYS", (0, 0))
        yield simulator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    return poke_gates.lines(monkeypatch, caplog)


@contextmanager
def whenever(lines: list[str], steps: list[Step]) -> Iterator[None]:
    """Do each thing as soon as the log has the words before it, one after the other, until the block ends."""
    is_over = threading.Event()

    def work() -> None:
        left = iter(steps)
        words, act = next(left)
        read = 0
        while read < len(lines) or not is_over.wait(0.005):
            if read < len(lines):
                read += 1
                if words in lines[read - 1]:
                    act()
                    words, act = next(left, (NEVER, act))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(30)


def test_a_connection_that_is_gone_for_now_is_waited_out(account: Simulator, lines: list[str]) -> None:
    there = os.environ[VARIABLE]

    def put_back() -> None:
        account.top_up(40)
        os.environ[VARIABLE] = there

    with whenever(lines, [(SHORT, lambda: os.environ.pop(VARIABLE)), (NOT_FOUND_NOW, put_back)]):
        assert gate(poke_interval=0.1).execute({}) == 52.5
    assert any(
        each.startswith(f"Still waiting; could not read the balance: {NOT_FOUND_NOW}") for each in lines
    )


def test_a_wait_that_ends_while_it_is_gone_is_a_timeout_that_says_so(
    account: Simulator, lines: list[str]
) -> None:
    taken_away = whenever(lines, [(SHORT, lambda: os.environ.pop(VARIABLE))])
    with taken_away, pytest.raises(AirflowSensorTimeout) as ended:
        gate(poke_interval=0.1, timeout=2).execute({})
    assert SHORT in str(ended.value)  # the last that was read
    assert NOT_FOUND_NOW in str(ended.value)


def test_a_key_that_is_refused_ends_the_gate_though_its_connection_was_there(
    account: Simulator, lines: list[str]
) -> None:
    rotated = whenever(lines, [(SHORT, lambda: account.rotate_key("sk-another"))])
    with rotated, pytest.raises(AirflowFailException, match="401"):
        gate(poke_interval=0.1).execute({})


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_connection_that_never_was_there_fails_the_gate_at_once(
    account: Simulator, *, soft_fail: bool
) -> None:
    del os.environ[VARIABLE]
    with pytest.raises(AirflowFailException) as failure:
        gate(poke_interval=0.1, soft_fail=soft_fail).execute({})
    assert NOT_DEFINED in str(failure.value)
    assert "did not answer" in str(failure.value)
    assert account.count() == 0


def test_one_wait_does_not_know_what_another_has_read(account: Simulator) -> None:
    account.set_credits(60)
    sensor = gate(poke_interval=0.1)
    assert sensor.execute({}) == 60.0
    del os.environ[VARIABLE]
    with pytest.raises(AirflowFailException, match="it is not defined"):
        sensor.execute({})


class Connections:
    """The connections of a secrets backend that reads them from a file at each look."""

    def __init__(self, folder: Path, account: Simulator) -> None:
        self._path = folder / "connections.json"
        self._there: dict[str, Any] = json.loads(account.connection())
        self._there["extra"] = json.dumps({"timeout": 5})
        self.put_back()

    def take_away(self) -> None:
        self._write({})

    def put_back(self) -> None:
        self._write({"stability_default": self._there})

    def _write(self, what: dict[str, Any]) -> None:
        new = self._path.with_name("new.json")
        new.write_text(json.dumps(what), encoding="utf-8")
        new.replace(self._path)

    @property
    def environment(self) -> dict[str, str]:
        """What leads Airflow to them, and to no others."""
        return {name: value for name, value in os.environ.items() if name != VARIABLE} | {
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(self._path)}),
            "PYTHONUNBUFFERED": "1",
        }


# Each poke in a process of its own, as forked_run.py runs a DAG, without the seconds between two looks.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from airflow_provider_stability.connection import loading as connections
connections._RETRY_DELAYS = (0, 0)
from support import forked_run
forked_run.main()
"""


def run_forked(there: Connections, steps: list[Step]) -> tuple[str, list[str]]:
    """Run a rescheduled gate, do each thing once its log has the words before it, and return how it ended."""
    command = [sys.executable, "-c", PROGRAM, str(TESTS), "gate_reschedule"]
    lines: list[str] = []
    with subprocess.Popen(
        command, env=there.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        limit = threading.Timer(180, running.kill)
        limit.start()
        try:
            assert running.stdout is not None
            with whenever(lines, steps):
                for line in running.stdout:
                    lines.append(line)  # noqa: PERF402  # one by one, as they are acted on while it runs
            running.wait(60)
        finally:
            limit.cancel()
            running.kill()
    assert running.returncode == 0, "".join(lines)
    result = next(each for each in lines if each.startswith('{"states"'))
    return json.loads(result)["states"]["gate"], lines


@pytest.mark.usefixtures("airflow_database")
def test_what_was_read_is_known_from_process_to_process_where_airflow_keeps_it(
    account: Simulator, tmp_path: Path
) -> None:
    there = Connections(tmp_path, account)

    def put_back() -> None:
        account.top_up(40)
        there.put_back()

    state, lines = run_forked(there, [(SHORT, there.take_away), (NOT_FOUND_NOW, put_back)])
    if AIRFLOW_V_3_3_PLUS:
        assert state == "success", "".join(lines)
        assert any(NOT_FOUND_NOW in each for each in lines)
    else:  # without a memory, the next process cannot tell it from one that never was there
        assert state == "failed"
        assert any(NOT_DEFINED in each for each in lines)
