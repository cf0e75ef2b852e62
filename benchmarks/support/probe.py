"""What is measured inside of a trigger runner's process, and how the benchmark asks for it.

Nothing of this runs unless it is asked for, but a note of each event's time: a benchmark that costs CPU
flatters whoever has the larger share of it.
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
"""Seconds that the probe of the event loop sleeps; what it oversleeps is the loop's lag."""


class Events(deque[Any]):
    """The runner's outbound queue of events, which keeps the time of each; the triggerer empties it."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[int, float, bool]] = []
        self.fired: list[float] = []

    def append(self, entry: Any, /) -> None:
        """Note an event: which trigger, when, and whether it is an opening."""
        payload = getattr(entry[1], "payload", None)
        is_open = not isinstance(payload, dict) or payload.get("status") == "success"
        self.times.append((entry[0], time.monotonic(), is_open))
        super().append(entry)


class Listener:
    """The runner's log, which keeps the time of each line that says that a trigger has fired.

    Airflow 3 writes it through a thread before it queues the event: between the two is its own work.
    """

    def __init__(self, log: Any, fired: list[float]) -> None:
        self._log = log
        self._fired = fired

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def ainfo(self, text: str, *arguments: Any, **values: Any) -> None:
        """Write a line."""
        if text == "Trigger fired event":
            self._fired.append(time.monotonic())
        await self._log.ainfo(text, *arguments, **values)


class Probe:
    """Answers the questions of the process that started the runner, in the runner's event loop.

    :param channel: to that process.
    :param events: the runner's.
    :param count: returns how many triggers run.
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
        """Begin to answer."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._obey)

    def _obey(self) -> None:
        try:
            command, value = self._channel.recv()
        except EOFError:  # nobody is left to measure for
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            return
        self._channel.send(self.commands[command](value))

    def _lag(self, is_wanted: bool) -> list[float]:  # noqa: FBT001  # the value of a command
        """Watch the loop from now on, or stop, and return what was seen since the last time."""
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
    """Return the bytes of memory that this process has (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
