"""What a process holds that must not grow, and what has outlived its gates and polls."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Final

__all__ = ["objects", "resources", "threads_left"]

_OF_ASGIREF: Final = "ThreadPoolExecutor-0_0"
_PACKAGE: Final = "airflow_provider_stability."
_PASSING: Final = (
    *("Trigger", "Subscription", "Poll", "Poller", "ConnectionReader", "SharedKey", "SharedBalance"),
    *("Client", "Session"),
)
"""How the names of classes end whose objects come and go with gates and polls."""


def resources() -> dict[str, int]:
    """Return what the process has of what it may only borrow."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    sockets = 0
    for each in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the look itself is closed again
            sockets += str(Path(each.path).readlink()).startswith("socket:")
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": threading.active_count(),
        "sockets": sockets,
    }


def threads_left() -> list[str]:
    """Return the threads that are there, but for the one that Airflow's way to read a connection keeps."""
    names = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    return [each for each in names if each != _OF_ASGIREF]


def objects() -> dict[str, int]:
    """Return what is alive of those that come and go with gates and polls."""
    gc.collect()
    kinds = Counter(
        type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith(_PACKAGE)
    )
    return {name: number for name, number in kinds.items() if name.endswith(_PASSING)}
