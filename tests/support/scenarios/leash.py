"""Runs a program, and ends it with all it has started as soon as the caller is gone.

``python -m support.scenarios.leash PROGRAM [ARGUMENT ...]``, in a session of its own; it ends as the
program ends, or when its standard input does.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from support.processes import PATIENCE, kill_session
from support.programs import python_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["running"]


@contextmanager
def running(
    program: Sequence[str],
    *,
    folder: Path,
    log: str,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program for as long as the block lasts.

    :param folder: where it runs, and where its log goes.
    :param log: the file for what it prints.
    :param descriptors: of open files to pass on.
    """
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.scenarios.leash", sys.executable, *program],
            cwd=folder,
            env={**environment, "PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
        )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(3 * PATIENCE)
        finally:
            left = kill_session(process.pid)
            process.kill()
            process.wait(PATIENCE)
        assert not left, left


def main() -> int:
    """Run the program named on the command line."""
    # The program inherits the descriptors.
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)
    while process.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    kill_session(os.getpid())
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
