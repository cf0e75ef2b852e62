"""The DAG of the scenario table: a gate for each scenario and mode, from the file that a variable names.

Without the variable there is none: other tests use the same folder.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence


class Leak(BaseOperator):
    """Leaves a text wherever a task can leave one, to show that a search for it would find it."""

    template_fields: Sequence[str] = ("text",)

    def __init__(self, *, text: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context: Any) -> None:  # noqa: ARG002  # Airflow's signature
        self.log.info("This is %s", self.text)
        # The trigger fails, and its message has the text.
        trigger = BalanceTrigger(min_credits=self.text, poke_interval=60)
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=60))

    def resume(self, context: Any, event: Any) -> str:  # noqa: ARG002  # the same
        return self.text


_file = os.environ.get("STABILITY_TEST_GATES")

if _file:
    _work = json.loads(Path(_file).read_text(encoding="utf-8"))
    with DAG("scenarios", start_date=datetime(2025, 1, 1), schedule=None, max_active_tasks=1000):
        for _gate in _work["gates"]:
            BalanceSensor(retry_delay=timedelta(seconds=1), **_gate)
        if _work.get("leak"):
            Leak(task_id="leak", text=_work["leak"])
