"""Alert: a DAG that runs once each time the credits fall below 100. Airflow 3.0 or newer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

low_credits = Asset(
    "stability_credits_low",
    watchers=[
        AssetWatcher(
            name="below_100",
            # Not again before there have been 120 credits: a balance trembles while jobs run.
            trigger=BalanceCrossingTrigger(threshold=100, direction="below", rearm_band=20),
        )
    ],
)

with DAG(
    "example_stability_top_up_alert", start_date=datetime(2025, 1, 1), schedule=[low_credits], catchup=False
):

    @task
    def ask_for_credits(triggering_asset_events: Any = None) -> list[float]:
        """Stand for a message to whoever buys credits; return what was left."""
        events = triggering_asset_events[low_credits] if triggering_asset_events else []
        return [event.extra["payload"]["credits"] for event in events]

    ask_for_credits()
