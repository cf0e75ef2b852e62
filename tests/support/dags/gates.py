"""DAGs with one gate each, in the shapes that neither the example DAGs nor the scenarios have."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability.sensors.balance import BalanceSensor

TEMPLATES: Final[dict[str, Any]] = {
    "min_credits": "{{ params.needed }}",
    "organization": "{{ 'org-b' }}",
}


def _gate(name: str, **kwargs: Any) -> None:
    with DAG(f"gate_{name}", start_date=datetime(2025, 1, 1), schedule=None, params={"needed": "40"}):
        given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.2, "timeout": 120} | kwargs
        BalanceSensor(task_id="gate", **given)


_gate("poke")
_gate("poke_templated", **TEMPLATES)
_gate("reschedule", mode="reschedule")
_gate("deferred_templated", deferrable=True, **TEMPLATES)
_gate("deferred_decimal", deferrable=True, min_credits=Decimal("12.5"))
_gate("start", start_from_trigger=True)
_gate("start_templated", start_from_trigger=True, **TEMPLATES)
_gate("end", deferrable=True, end_from_trigger=True)
with DAG("gate_mapped", start_date=datetime(2025, 1, 1), schedule=None):
    BalanceSensor.partial(
        task_id="gate", deferrable=True, start_from_trigger=True, poke_interval=0.2, timeout=120
    ).expand(min_credits=[10, "11", 12.5])
