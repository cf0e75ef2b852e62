"""Lets gates wait in a process whose Airflow sends metrics.

``python -m support.metrics_run ORGANIZATION...``: first one in poke mode, as on a worker, on
the first organization, then many at once in an event loop, as in the triggerer, on each of the others. The
connection is the environment's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger

NEEDED: Final = 40.0
_GATES: Final = 20


async def _fire(trigger: BalanceTrigger) -> object:
    return [event.payload async for event in trigger.run()]


async def _wait_together(organizations: list[str]) -> list[object]:
    return await asyncio.gather(
        *(
            _fire(BalanceTrigger(min_credits=NEEDED, organization=each, poke_interval=0.1))
            for each in organizations
            for _ in range(_GATES)
        )
    )


def main() -> None:
    """Wait until each gate is open, print the results, and end with standard input."""
    first, *others = sys.argv[1:]
    gate = BalanceSensor(
        task_id="gate",
        min_credits=NEEDED,
        organization=first,
        poke_interval=0.05,
        timeout=60,
        deferrable=False,
    )
    found = [gate.execute({}), asyncio.run(_wait_together(others))]
    print(json.dumps(found))  # noqa: T201  # the result is the output
    # OpenTelemetry sends now and then; on Airflow 2.11, what is left when the process ends is never sent.
    sys.stdin.read()


if __name__ == "__main__":
    main()
