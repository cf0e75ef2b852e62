"""The DAGs of `scripts/demo`: a paid job behind a gate, and a free one for a real account."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, chain, task

from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.sensors.balance import BalanceSensor

log = logging.getLogger("stability_demo")


@task
def generate() -> dict[str, Any]:
    """Generate one image at the expense of the account, and save it."""
    answer = StabilityHook().run(
        "/v1/generation/stable-diffusion-v1-5/text-to-image",
        method="POST",
        json={"text_prompts": [{"text": "a lighthouse in the rain, watercolour"}], "samples": 1},
    )
    image = base64.b64decode(answer.json()["artifacts"][0]["base64"], validate=True)
    if not image.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("the generated image is not a PNG")
    path = Path(os.environ["AIRFLOW_HOME"], "image.png")
    path.write_bytes(image)
    log.info("Saved %s, a PNG of %d bytes", path.name, path.stat().st_size)
    return {"file": path.name, "bytes": path.stat().st_size}


with DAG("stability_demo", schedule=None):
    chain(
        BalanceSensor(task_id="gate", min_credits=40, poke_interval=2, timeout=60),
        generate(),
        AccountOperator(task_id="account", fields=["id", "organizations"]),
    )

with DAG("stability_demo_live", schedule=None):
    chain(
        BalanceSensor(task_id="gate", min_credits=0, poke_interval=2, timeout=30),
        AccountOperator(task_id="account", fields=["id", "organizations"]),
    )
