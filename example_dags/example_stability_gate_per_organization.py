"""One gate per organization: each job starts when its own organization can pay, whatever the others have."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.sensors.balance import BalanceSensor

with DAG(
    "example_stability_gate_per_organization", start_date=datetime(2025, 1, 1), schedule=None, catchup=False
):
    account = AccountOperator(task_id="account", fields=["organizations"])

    @task
    def organization_ids(account: dict[str, Any]) -> list[str]:
        """Return the organizations of the account, whose number is only known now."""
        return [organization["id"] for organization in account["organizations"]]

    @task_group
    def job(organization: str) -> None:
        """Wait for one organization's credits, then spend them."""
        gate = BalanceSensor(
            task_id="enough_credits",
            min_credits=5,
            organization=organization,
            mode="reschedule",
            poke_interval=timedelta(minutes=1),
        )

        @task
        def generate(organization: str) -> str:
            """Generate one image on the organization's account."""
            with StabilityHook() as hook:
                hook.run(
                    "/v1/generation/stable-diffusion-v1-6/text-to-image",
                    method="POST",
                    headers={"Organization": organization},
                    json={"text_prompts": [{"text": "A lighthouse on a cliff"}]},
                    timeout=120,
                )
            return organization

        gate >> generate(organization)

    job.expand(organization=organization_ids(account.output))
