"""Forks that end with all they have started."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["end_group", "in_a_fork"]


def in_a_fork(action: Callable[[], int], log: Path) -> int:
    """Start a function in a process group of its own, and return its id."""
    child = os.fork()
    if child:
        with suppress(OSError):
            os.setpgid(child, child)
        return child
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = action()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def end_group(pid: int) -> None:
    """End what a fork has left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
