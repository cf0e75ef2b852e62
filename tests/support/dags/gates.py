"""DAGs for the tests: one gate each, in the shapes that the example DAGs do not have."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.operators.balance import BalanceBranchOperator, BalanceOperator
from airflow_provider_stability.sensors.balance import BalanceSensor


def _gate(name: str, **kwargs: Any) -> None:
    with DAG(f"gate_{name}", start_date=datetime(2025, 1, 1), schedule=None, params={"needed": "40"}):
        given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.2, "timeout": 120} | kwargs
        BalanceSensor(task_id="gate", **given)


_gate("poke")
_gate("reschedule", mode="reschedule")
_gate("reschedule_short", mode="reschedule", timeout=1)
_gate("soft", soft_fail=True, timeout=1)
_gate("retries", retries=2, timeout=1)
_gate("templated", min_credits="{{ params.needed }}", organization="{{ 'org-b' }}")
_gate("native", min_credits="{{ 'forty' }}")
with DAG("operators", start_date=datetime(2025, 1, 1), schedule=None):
    AccountOperator(task_id="account")
    BalanceOperator(task_id="balance")
    BalanceBranchOperator(
        task_id="branch", min_credits=10, follow_task_ids_if_true="balance", follow_task_ids_if_false=[]
    )
