"""A forked process that runs triggers, seen from the benchmark."""

from __future__ import annotations

import logging
import multiprocessing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from benchmarks.support.contenders import Trigger

__all__ = ["ForkedRunner", "drop_log_lines"]


class ForkedRunner:
    """A process that runs triggers, until ``stop``.

    :param target: the function to run in the process. Its ``Probe`` must have a command ``create``.
    """

    def __init__(self, target: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("fork")
        self.channel, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._next_id = 1

    def create(self, triggers: list[Trigger]) -> None:
        """Pass triggers to the process."""
        numbered = [(self._next_id + index, *trigger) for index, trigger in enumerate(triggers)]
        self._next_id += len(numbered)
        self.channel.send(("create", numbered))
        self.channel.recv()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def drop_log_lines() -> None:
    """On Airflow 2, format log lines but drop them: writing a file per gate is not the runner's cost."""
    logging.lastResort = None
    for handler in logging.getLogger("airflow").handlers + logging.getLogger().handlers:
        handler.emit = handler.format  # type: ignore[method-assign,assignment]
