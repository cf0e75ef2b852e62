"""Programs that are started again when they end, as a service manager does, until they are to stay down.

They run in a session of their own, below this file as a program; it ends them when its standard input ends,
as it does when the caller is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from support.processes import PATIENCE, kill_session, kill_tree, session
from support.programs import python_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["Supervised"]

_PAUSE: Final = 0.5  # seconds between the end of a program and its next start


class Supervised:
    """Programs, for as long as the ``with`` block lasts.

    :param programs: the command line of each, by name.
    :param log: the file for what they print.
    :param cwd: where they run.
    :param env: their environment.
    :param user: the number of the user and group that they run as; None for those of this process.
    """

    def __init__(
        self,
        programs: Mapping[str, Sequence[str]],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self._programs = {name: list(command) for name, command in programs.items()}
        self._log = log
        self._cwd = cwd
        self._env = dict(os.environ if env is None else env)
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start all of them."""
        work = {"programs": self._programs, "log": str(self._log), "user": self._user}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.supervised", json.dumps(work)],
            cwd=self._cwd,
            env={**self._env, "PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them.

        :raises RuntimeError: if one cannot be ended.
        """
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(4 * PATIENCE)
        finally:
            left = kill_session(process.pid)
            process.wait(PATIENCE)
        if left:
            raise RuntimeError(f"still running: {left}")

    @property
    def is_gone(self) -> bool:
        """Whether the supervisor has ended."""
        return self._process is None or self._process.poll() is not None

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes that are there now, by id."""
        assert self._process
        return session(self._process.pid)

    def kill(self, name: str) -> list[int]:
        """Kill a program and what it has started with -9, and keep it down; return which processes."""
        return list(self._do("kill", name))

    def stop(self, name: str, number: signal.Signals) -> None:
        """Send a program a signal that ends it, return when it has ended, and keep it down."""
        self._do("stop", name, int(number))

    def start(self, name: str) -> None:
        """Start a program that was killed or stopped."""
        self._do("start", name)

    def _do(self, *what: object) -> Any:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class _Keeper:
    """The supervisor, in a process between the programs and the caller."""

    def __init__(self, programs: dict[str, list[str]], log: IO[bytes], user: int | None) -> None:
        self._programs = programs
        self._log = log
        self._user = user
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._due = dict.fromkeys(programs, 0.0)

    def look_after(self) -> None:
        """Start what is to run and does not."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self._say(f"{name} has ended: {process.returncode}")
                del self._running[name]
                self._due[name] = time.monotonic() + _PAUSE
        for name, at in list(self._due.items()):
            if time.monotonic() >= at:
                del self._due[name]
                self._say(f"{name} starts")
                self._running[name] = subprocess.Popen(
                    self._programs[name],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    user=self._user,
                    group=self._user,
                    extra_groups=None if self._user is None else [],
                )

    def kill(self, name: str) -> list[int]:
        """End a program and what it has started at once."""
        process = self._take(name)
        killed = kill_tree(process.pid)
        process.wait()
        self._say(f"{name} was killed: {killed}")
        return sorted(killed)

    def stop(self, name: str, number: int) -> None:
        """End a program by a signal."""
        process = self._take(name)
        process.send_signal(number)
        process.wait()
        self._say(f"{name} was stopped: {process.returncode}")

    def start(self, name: str) -> None:
        """Let a program run again."""
        self._due[name] = 0.0

    def end(self) -> None:
        """Ask all programs to end, and wait for a while."""
        for each in self._running.values():
            each.send_signal(signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for each in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                each.wait(max(0.0, deadline - time.monotonic()))

    def _take(self, name: str) -> subprocess.Popen[bytes]:
        while name not in self._running:
            self.look_after()  # between an end and its next start
            time.sleep(0.05)
        return self._running.pop(name)

    def _say(self, what: str) -> None:
        self._log.write(f"[{time.strftime('%H:%M:%S')}] supervised: {what}\n".encode())
        self._log.flush()


def main() -> None:
    """Keep programs running until standard input ends."""
    # A shell lets what it starts in the background ignore this signal, and so would all below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = json.loads(sys.argv[1])
    with Path(work["log"]).open("ab") as log:
        keeper = _Keeper(work["programs"], log, work["user"])
        while True:
            keeper.look_after()
            if not select.select([sys.stdin], [], [], 0.1)[0]:
                continue
            line = sys.stdin.readline()
            if not line:
                break
            what, *about = json.loads(line)
            print(json.dumps(getattr(keeper, what)(*about)), flush=True)  # noqa: T201  # the answer
        keeper.end()
    kill_session(os.getpid())


if __name__ == "__main__":
    main()
