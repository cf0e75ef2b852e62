"""Starts the process of the gates, gives it orders, and ends it whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION
from support.programs import TESTS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from support.soak.plan import Plan

__all__ = ["GatesProcess"]

_ANSWER: Final = 120.0  # seconds that an answer may take: the start imports Airflow
_END: Final = 30.0
_TAIL: Final = 4000


class GatesProcess:
    """The process in which the gates wait, for as long as the ``with`` block lasts.

    :param home: a folder for its files.
    """

    def __init__(self, plan: Plan, home: Path) -> None:
        self.record = home / "record.jsonl"
        self._errors = home / "errors.log"
        self._home = home
        self._options = {
            "seed": plan.seed,
            "gates": plan.gates,
            "organizations": [None, *plan.names],
            "default": DEFAULT_ORGANIZATION,
            "intervals": plan.intervals,
            "life": plan.life,
            "comes_after": plan.comes_after,
            "recovers_after": plan.recovers_after,
            "record": str(self.record),
        }
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "STABILITY_")) and "proxy" not in name.lower()
        }
        ours = {
            "AIRFLOW_HOME": str(self._home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "NO_PROXY": "127.0.0.1",
            "PYTHONFAULTHANDLER": "1",
        }
        with self._errors.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.soak.population", json.dumps(self._options)],
                cwd=TESTS,
                env=kept | ours,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, by force if it has not ended."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0 if error else _END)
        process.kill()
        process.wait()
        process.stdout.close()

    def order(self, what: str, **more: Any) -> None:
        """Give an order that has no answer.

        :raises RuntimeError: where the process has ended; with the end of what it wrote.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def ask(self, what: str) -> dict[str, Any]:
        """Give an order, and return the answer."""
        self.order(what)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer.

        :raises RuntimeError: where none comes.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        # Its end then says where each of its threads is.
        patience = threading.Timer(_ANSWER, self._process.send_signal, [signal.SIGABRT])
        patience.start()
        line = self._process.stdout.readline()
        patience.cancel()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> RuntimeError:
        assert self._process is not None
        tail = self._errors.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        self._process.kill()
        code = self._process.wait()
        return RuntimeError(f"the gates' process has ended with {code}, or was too slow to answer:\n{tail}")
