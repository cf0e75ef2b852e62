"""A trigger that does nothing: the cost of the trigger runner itself, the baseline of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_waiting: list[asyncio.Future[None]] = []


def open_all() -> None:
    """Fire all triggers at once, the earliest that any trigger could."""
    for future in _waiting:
        future.set_result(None)


class IdleTrigger(BaseTrigger):
    """Waits until ``open_all``, without any work."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _waiting.append(future)
        await future
        yield TriggerEvent({"status": "success"})
