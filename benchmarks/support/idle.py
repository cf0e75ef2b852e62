"""What the trigger runner itself costs for each trigger: the base line of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_waiting: list[asyncio.Future[None]] = []


def open_all() -> None:
    """Let all open at once, which is the soonest that any trigger could."""
    for future in _waiting:
        future.set_result(None)


class IdleTrigger(BaseTrigger):
    """Waits for nothing, until ``open_all``."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _waiting.append(future)
        await future
        yield TriggerEvent({"status": "success"})
