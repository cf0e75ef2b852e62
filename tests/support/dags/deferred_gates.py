"""DAGs for the tests: one deferred gate each."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability.sensors.balance import BalanceSensor


def _gate(name: str, **kwargs: Any) -> None:
    with DAG(f"deferred_{name}", start_date=datetime(2025, 1, 1), schedule=None, params={"needed": "40"}):
        given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.2, "timeout": 120} | kwargs
        BalanceSensor(task_id="gate", deferrable=True, **given)


_gate("plain")
_gate("short", timeout=1)
_gate("soft", timeout=1, soft_fail=True)
_gate("retries", retries=3)
_gate("soft_retries", retries=3, soft_fail=True)
_gate("templated", min_credits="{{ params.needed }}", organization="{{ 'org-b' }}")
_gate("start", start_from_trigger=True)
_gate("start_templated", min_credits="{{ params.needed }}", start_from_trigger=True)
_gate("end", end_from_trigger=True)
_gate("both_short", start_from_trigger=True, end_from_trigger=True, timeout=1)
_gate("decimal", min_credits=Decimal("12.5"))
with DAG("deferred_mapped", start_date=datetime(2025, 1, 1), schedule=None):
    BalanceSensor.partial(
        task_id="gate", deferrable=True, start_from_trigger=True, poke_interval=0.2, timeout=120
    ).expand(min_credits=[10, "11", 12.5])
