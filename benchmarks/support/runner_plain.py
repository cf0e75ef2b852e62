"""A process with a plain event loop, which only records the events of triggers.

In Airflow's runner the triggers' own time to open does not show: it writes two log lines for each event
through a thread pool, which takes seconds for 10,000 events at once, whatever the triggers.
"""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version

from benchmarks.support.forked import ForkedRunner, drop_log_lines
from benchmarks.support.probe import Events, Probe

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Runner"]


async def _serve(channel: Connection) -> None:
    running: set[asyncio.Task[None]] = set()
    events = Events()

    async def run(number: int, trigger: Any) -> None:
        async for event in trigger.run():
            events.append((number, event))

    def create(triggers: list[tuple[int, str, dict[str, Any]]]) -> None:
        for number, path, kwargs in triggers:
            module, _, name = path.rpartition(".")
            running.add(asyncio.create_task(run(number, getattr(import_module(module), name)(**kwargs))))

    probe = Probe(channel, events, lambda: len(running))
    probe.commands["create"] = create
    probe.attach()
    await asyncio.get_running_loop().create_future()


def _run(channel: Connection) -> None:
    """Format log lines as a triggerer does, but drop them."""
    if airflow_version.startswith("2."):
        drop_log_lines()
        asyncio.run(_serve(channel))
    else:
        from airflow.sdk.log import configure_logging, reset_logging

        reset_logging()  # type: ignore[no-untyped-call]
        with Path(os.devnull).open("wb", buffering=0) as nowhere:
            configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)
            asyncio.run(_serve(channel))


class Runner(ForkedRunner):
    """A process with an event loop that runs triggers, until ``stop``."""

    def __init__(self) -> None:
        super().__init__(_run)
