"""Watchers for crossings in an event loop, and a store for what they remember."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger
from support.polling_gates import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.simulator import Simulator

__all__ = ["Store", "polls", "watcher", "watching"]


class Store:
    """Takes the place of Airflow's asset state store, which only a triggerer of 3.3 has."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.kept: dict[str, Any] = {}
        self.sets: list[Any] = []

    async def aget(self, key: str) -> Any:
        if self.error is not None:
            raise self.error
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        if self.error is not None:
            raise self.error
        self.kept[key] = json.loads(json.dumps(value))
        self.sets.append(value["is_armed"])


def watcher(store: Store | None = None, **kwargs: Any) -> BalanceCrossingTrigger:
    given: dict[str, Any] = {"threshold": 50, "direction": "below", "poke_interval": 0.05}
    made = BalanceCrossingTrigger(**(given | kwargs))
    if store is not None:
        made.asset_state_store = store  # type: ignore[assignment]  # what a triggerer of 3.3 does
    return made


@asynccontextmanager
async def watching(trigger: BalanceCrossingTrigger) -> AsyncIterator[list[Any]]:
    """Let a watcher watch for as long as the block lasts, and list its events."""
    events: list[Any] = []

    async def collect() -> None:
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401  # it never ends, and what came so far counts

    task = asyncio.create_task(collect())
    try:
        yield events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def polls(account: Simulator, number: int = 3) -> None:
    before = account.count()
    await until(lambda: account.count() >= before + number)
