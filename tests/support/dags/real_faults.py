"""DAGs for ``real_airflow/test_faults.py``: gates in each mode, which start by themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability.sensors.balance import BalanceSensor

GATES = 5  # per organization and path
ORGANIZATIONS = {"default": None, "other": "org-b"}


def _dag(name: str) -> DAG:
    return DAG(name, start_date=datetime(2025, 1, 1), schedule="@once", catchup=False)


def _gate(name: str, **kwargs: Any) -> None:
    BalanceSensor(task_id=name, min_credits=40, timeout=1200, **kwargs)


def _gates(dag_id: str, **kwargs: Any) -> None:
    with _dag(dag_id):
        for name, organization in ORGANIZATIONS.items():
            for number in range(GATES):
                _gate(f"{name}_{number}", organization=organization, poke_interval=2, **kwargs)


# Without retries: what is lost is to be seen.
_gates("faults_deferrable", deferrable=True)
_gates("faults_no_worker", start_from_trigger=True, end_from_trigger=True)

# A worker that dies, or loses its database, fails its task: that is what retries are for. On organizations of
# their own, so that their requests can be told apart from the poll's.
tried: dict[str, Any] = {"deferrable": False, "retries": 5, "retry_delay": timedelta(seconds=1)}
with _dag("faults_reschedule"):
    for number in range(2):
        _gate(f"gate_{number}", organization="org-c", mode="reschedule", poke_interval=10, **tried)
with _dag("faults_poke"):
    _gate("gate", organization="org-d", mode="poke", poke_interval=2, **tried)
