"""Backlog: a DAG that runs once each time a top-up has brought 500 credits or more. Airflow 3.0 or newer."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

topped_up = Asset(
    "stability_credits_topped_up",
    watchers=[
        AssetWatcher(
            name="above_500", trigger=BalanceCrossingTrigger(threshold=500, direction="above", rearm_band=100)
        )
    ],
)

with DAG("example_stability_backlog", start_date=datetime(2025, 1, 1), schedule=[topped_up], catchup=False):

    @task
    def work_off() -> str:
        """Stand for the jobs that have waited for credits."""
        return "worked off"

    work_off()
