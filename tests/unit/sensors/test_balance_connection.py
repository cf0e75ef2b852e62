"""A connection that is gone for now, to gates on a worker: in one process, and from process to process."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout
from support.poke_gates import gate

from airflow_provider_stability.connection import loading as connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_stability.simulator import Simulator

    Step = tuple[str, Callable[[], object]]

VARIABLE = "AIRFLOW_CONN_STABILITY_DEFAULT"
SHORT = "12.5 credits, need 40, short 27.5"
NOT_FOUND_NOW = "connection 'stability_default' was found before, but is not found now"
NEVER = "\0"
NOT_DEFINED = "connection 'stability_default': it is not defined"


@pytest.fixture(autouse=True)
def _read_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_RETRY_DELAYS", (0, 0))


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
