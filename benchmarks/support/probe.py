"""Measurements inside the process of a trigger runner, on the benchmark's commands.

Without a command only the time of each event is recorded: the CPU that a benchmark uses itself makes the
ratios look better than they are.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.support.idle import open_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["STEP", "Events", "Listener", "Probe"]

STEP: Final = 0.005
"""Seconds that the probe of the event loop sleeps; the lag is how much longer it takes."""


class Events(deque[Any]):
    """The runner's outbound queue of events, which also records the time of each."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[int, float, bool]] = []
        self.fired: list[float] = []

    def append(self, entry: Any, /) -> None:
        """Record an event: trigger id, time, and whether the gate opened."""
        payload = getattr(entry[1], "payload", None)
        is_open = not isinstance(payload, dict) or payload.get("status") == "success"
        self.times.append((entry[0], time.monotonic(), is_open))
        super().append(entry)


class Listener:
    """The runner's log, which also records the time of each line about a fired trigger.

    Airflow 3 writes that line in a thread before it queues the event. The time between is Airflow's own work.
    """

    def __init__(self, log: Any, fired: list[float]) -> None:
        self._log = log
        self._fired = fired

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def ainfo(self, text: str, *arguments: Any, **values: Any) -> None:
        """Log a line."""
        if text == "Trigger fired event":
            self._fired.append(time.monotonic())
        await self._log.ainfo(text, *arguments, **values)


class Probe:
    """Executes the commands of the benchmark in the runner's event loop.

    :param channel: the connection to the benchmark's process.
    :param events: the runner's events.
    :param count: returns the number of running triggers.
    """

    def __init__(self, channel: Connection, events: Events, count: Callable[[], int]) -> None:
        self._channel = channel
        self._lags: list[float] = []
        self._task: asyncio.Task[None] | None = None
        self.commands: dict[str, Callable[[Any], Any]] = {
            "cpu": lambda _: time.process_time(),
            "memory": lambda _: _memory(),
            "running": lambda _: count(),
            "events": lambda known: events.times[known:],
            "lag": self._lag,
            "fired": lambda _: events.fired,
            "open": lambda _: open_all(),
        }

    def attach(self) -> None:
        """Start to accept commands."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._execute)

    def _execute(self) -> None:
        try:
            command, value = self._channel.recv()
        except EOFError:  # the benchmark has ended
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            return
        self._channel.send(self.commands[command](value))

    def _lag(self, is_wanted: bool) -> list[float]:  # noqa: FBT001  # the value of a command
        """Start or stop measuring the lag, and return the lags measured since the last call."""
        if self._task is not None and not is_wanted:
            self._task.cancel()
            self._task = None
        elif self._task is None and is_wanted:
            self._task = asyncio.get_running_loop().create_task(self._watch())
        lags, self._lags = self._lags, []
        return lags

    async def _watch(self) -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(STEP)
            self._lags.append(time.perf_counter() - start - STEP)


def _memory() -> int:
    """Return the resident memory of this process in bytes (Linux only)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
