"""The DAG in the picture of a waiting gate."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, chain, task

from airflow_provider_stability.sensors.balance import BalanceSensor


@task
def generate() -> None:
    """Stand for the paid job, which does not run in the picture."""


with DAG("nightly_images", schedule=None):
    gate = BalanceSensor(task_id="gate", min_credits=40, poke_interval=5, timeout=900, deferrable=True)
    chain(gate, generate())
