"""Branch: the large job if there are credits for it now, the small one if not; nothing waits."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stability.operators.balance import BalanceBranchOperator

with DAG(
    "example_stability_branch",
    start_date=datetime(2025, 1, 1),
    schedule=None,
    catchup=False,
    params={"needed": 100},
):
    choose = BalanceBranchOperator(
        task_id="enough_for_all",
        min_credits="{{ params.needed }}",
        follow_task_ids_if_true="render_all",
        follow_task_ids_if_false="render_one",
    )

    @task
    def render_all() -> str:
        """Stand for the large job."""
        return "all"

    @task
    def render_one() -> str:
        """Stand for the small job."""
        return "one"

    choose >> [render_all(), render_one()]
