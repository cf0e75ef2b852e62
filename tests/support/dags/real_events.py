"""DAGs for ``real_airflow/test_events.py``: two that crossings start, and gates on the same organization."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

if TYPE_CHECKING:
    from airflow_provider_stability.gate.crossing import Direction


def _on_crossing(name: str, threshold: float, direction: Direction, band: float) -> None:
    trigger = BalanceCrossingTrigger(
        threshold=threshold, direction=direction, rearm_band=band, poke_interval=1
    )
    asset = Asset(name, watchers=[AssetWatcher(name=f"{name}_watcher", trigger=trigger)])
    with DAG(
        name,
        start_date=datetime(2025, 1, 1),
        schedule=[asset],
        catchup=False,
        # Airflow makes no watcher for a DAG that is paused when its file is read.
        is_paused_upon_creation=False,
    ):

        @task
        def tell(triggering_asset_events: Any = None) -> list[float]:
            return [each.extra["payload"]["credits"] for each in triggering_asset_events[asset]]

        tell()


_on_crossing("events_low", 20, "below", 5)
_on_crossing("events_high", 100, "above", 20)

with DAG("events_gates", start_date=datetime(2025, 1, 1), schedule="@once", catchup=False):
    for number in range(5):
        BalanceSensor(
            task_id=f"gate_{number}", min_credits=500, deferrable=True, poke_interval=1, timeout=1200
        )
