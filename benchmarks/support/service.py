"""The package's simulator in its own process, so that its work does not count as that of its client.

The process takes commands from its standard input, one JSON array per line, and ends when that is closed.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["KEY", "Service"]

KEY = "sk-benchmark"  # valid for the simulator only
_NO_LIMIT = 10**9
_STOP_TIMEOUT = 10.0


class Service:
    """A simulated Stability AI API, running for the duration of a ``with`` block.

    :param organizations: number of organizations in addition to the default one, with 10 credits each.
    :param is_limited: whether it has the rate limit of the live service.
    :param certificate: PEM file with key and certificate, to serve https.
    """

    def __init__(
        self, *, organizations: int = 0, is_limited: bool = True, certificate: Path | None = None
    ) -> None:
        self.organizations = [f"org-{number:02}" for number in range(organizations)]
        self._options = {
            "organizations": self.organizations,
            "is_limited": is_limited,
            "certificate": None if certificate is None else str(certificate),
        }
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.base_url = self._read()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def fail(self, **fault: Any) -> None:
        """Make all requests fail until ``heal``; the arguments are those of the simulator's ``fail``."""
        self._ask("fail", fault)

    def heal(self) -> None:
        """Remove all faults."""
        self._ask("heal")

    def set_credits(self, value: float) -> float:
        """Set the credits of all organizations, and return the monotonic time of that."""
        return float(self._ask("credits", value))

    def requests(self, start: float, end: float) -> dict[str, int]:
        """Return the requests between two times (``time.time()``) by status; 0 means not answered."""
        found: dict[str, int] = self._ask("requests", [start, end])
        return found

    def _ask(self, command: str, value: object = None) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, value]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the simulator's process has ended (see its error above)")
        return json.loads(line)

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        with process:  # the process ends when its standard input is closed
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def _serve(organizations: list[str], *, is_limited: bool, certificate: str | None) -> None:
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    simulator = Simulator(
        api_key=KEY,
        organizations=dict.fromkeys(organizations, 10.0),
        rate_limit=150 if is_limited else _NO_LIMIT,
        ssl_context=context,
    )
    with simulator:
        _reply(simulator.base_url)
        for line in sys.stdin:
            command, value = json.loads(line)
            _reply(_execute(simulator, organizations, command, value))


def _execute(simulator: Simulator, organizations: list[str], command: str, value: Any) -> object:
    if command == "fail":
        simulator.fail(**value, times=None)
    elif command == "heal":
        simulator.heal()
    elif command == "credits":
        at = time.monotonic()
        for organization in (None, *organizations):
            simulator.set_credits(value, organization)
        return at
    elif command == "requests":
        start, end = value
        counts: dict[str, int] = {}
        for request in simulator.requests:
            if start <= request.at < end:
                counts[str(request.status or 0)] = counts.get(str(request.status or 0), 0) + 1
        return counts
    return None


def _reply(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve(**json.loads(sys.argv[1]))
