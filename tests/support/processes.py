"""Processes of a session: which there are, and how they are ended for certain."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

__all__ = ["PATIENCE", "free_ports", "kill_session", "kill_tree", "session"]

PATIENCE: Final = 5.0
"""Seconds for an orderly end, after which it is a kill."""


def session(leader: int) -> dict[int, str]:
    """Return the processes of a session: some have a group of their own, but none leaves the session."""
    found = {}
    for number in _numbers():
        # It may have ended meanwhile.
        with suppress(OSError, ValueError):
            state, _, of_session = _stat(number)
            if of_session == leader and state != "Z":
                found[number] = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def kill_session(leader: int) -> dict[int, str]:
    """Kill all processes of a session but this one; return what does not go."""
    deadline = time.monotonic() + PATIENCE
    while True:
        left = {number: line for number, line in session(leader).items() if number != os.getpid()}
        if not left or time.monotonic() > deadline:
            return left
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)


def kill_tree(root: int) -> set[int]:
    """Kill a process and all that it has started, as when a machine goes down; return which they were."""
    tree = {root}
    while True:
        # Stopped first, so that none starts another meanwhile.
        _signal(tree, signal.SIGSTOP)
        found = tree | {number for number, parent in _parents().items() if parent in tree}
        if found == tree:
            break
        tree = found
    _signal(tree, signal.SIGKILL)
    return tree


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; all are held until the last is found, so that they differ."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            each = held.enter_context(socket.socket())
            each.bind(("127.0.0.1", 0))
            ports.append(int(each.getsockname()[1]))
        return ports


def _signal(numbers: set[int] | dict[int, str], number: int) -> None:
    for each in numbers:
        with suppress(ProcessLookupError):
            os.kill(each, number)


def _parents() -> dict[int, int]:
    found = {}
    for number in _numbers():
        with suppress(OSError, ValueError):
            found[number] = _stat(number)[1]
    return found


def _numbers() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _stat(number: int) -> tuple[str, int, int]:
    """Return the state, the parent and the session of a process."""
    # pid (name) state parent group session ...; the name may hold anything, also brackets.
    fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])
