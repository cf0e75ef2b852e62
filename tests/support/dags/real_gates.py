"""DAGs for ``real_airflow/test_rotation.py``: many gates in each mode, on two organizations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability.sensors.balance import BalanceSensor

GATES = 20  # per organization and path
ORGANIZATIONS = {"default": None, "other": "org-b"}


def _gates(dag_id: str, **kwargs: Any) -> None:
    with DAG(dag_id, start_date=datetime(2025, 1, 1), schedule=None):
        for name, organization in ORGANIZATIONS.items():
            for number in range(GATES):
                BalanceSensor(
                    task_id=f"{name}_{number}",
                    min_credits=40,
                    organization=organization,
                    poke_interval=5,
                    timeout=600,
                    **kwargs,
                )


_gates("real_deferrable", deferrable=True)
_gates("real_no_worker", start_from_trigger=True, end_from_trigger=True)

with DAG("real_reschedule", start_date=datetime(2025, 1, 1), schedule=None):
    # On an organization of its own, so that its requests can be told apart from the poll's.
    BalanceSensor(
        task_id="gate",
        min_credits=40,
        organization="org-c",
        mode="reschedule",
        poke_interval=10,
        timeout=600,
    )

with DAG("real_timeout", start_date=datetime(2025, 1, 1), schedule=None):
    # On one that gets no credits.
    short: dict[str, Any] = {
        "min_credits": 40,
        "organization": "org-d",
        "start_from_trigger": True,
        "end_from_trigger": True,
        "poke_interval": 5,
        "timeout": 10,
    }
    BalanceSensor(task_id="fails", retries=1, retry_delay=timedelta(seconds=1), **short)
    BalanceSensor(task_id="skips", soft_fail=True, **short)
