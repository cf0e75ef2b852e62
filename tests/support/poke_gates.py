"""Gates in poke mode, executed as a worker executes them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.sensors.balance import BalanceSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.simulator import Simulator


__all__ = ["gate", "when"]


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
