"""Gates in poke mode, executed as a worker executes them, and an account to wait on."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

__all__ = ["KEY", "account", "gate", "lines", "when"]

KEY = "sk-CanaryKey0123456789"


@contextmanager
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve an account that the connection of the gates leads to."""
    with Simulator(credits=12.5, organizations={"org-b": 60.0}, api_key=KEY) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


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
