"""Gate, then generate: the paid job starts when, and only when, the account can pay for it."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.sensors.balance import BalanceSensor

with DAG(
    "example_stability_gate_then_generate", start_date=datetime(2025, 1, 1), schedule=None, catchup=False
):
    gate = BalanceSensor(
        task_id="enough_credits",
        min_credits=10,
        deferrable=True,  # waits in the triggerer, without a worker
        poke_interval=timedelta(minutes=1),
        timeout=timedelta(hours=12),
        retries=2,
    )

    @task
    def generate() -> int:
        """Generate one image and return its size in bytes; a real job would store it."""
        with StabilityHook() as hook:
            answer = hook.run(
                "/v1/generation/stable-diffusion-v1-6/text-to-image",
                method="POST",
                json={"text_prompts": [{"text": "A lighthouse on a cliff"}], "width": 512, "height": 512},
                timeout=120,
            )
        image = base64.b64decode(answer.json()["artifacts"][0]["base64"])
        return len(image)

    gate >> generate()
