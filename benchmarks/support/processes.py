"""Runs a measurement in a new process with its own Airflow home, and ends all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["airflow_environment", "end_on_sigterm", "measure"]

_ERROR_LINES = 30


def airflow_environment(home: str) -> dict[str, str]:
    """Return an environment for Airflow without the configuration of any other."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return kept | {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }


def measure(module: str, options: Mapping[str, Any], timeout: float) -> Any:
    """Run ``python -m MODULE OPTIONS RESULT`` and return the result that it writes.

    :param timeout: in seconds.
    :raises TimeoutError: if it does not finish in time.
    :raises RuntimeError: if it fails; with the last lines of its standard error.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        result = Path(home, "result.json")
        with Path(home, "errors").open("w+", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(options), str(result)],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                env=airflow_environment(home),
                start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"not measured within {timeout:g} s: {json.dumps(options)}") from None
            finally:
                # The whole group, with the trigger runner and the service.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
            if process.returncode or not result.exists():
                errors.seek(0)
                last = "".join(errors.readlines()[-_ERROR_LINES:])
                raise RuntimeError(f"{module} {json.dumps(options)} ended with {process.returncode}:\n{last}")
        return json.loads(result.read_text(encoding="utf-8"))


def end_on_sigterm() -> None:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that all started processes are ended."""

    def stop(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
