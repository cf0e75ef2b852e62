"""A whole Airflow as processes: ``airflow standalone`` in a temporary home, ended with everything it started.

For what only processes show: the scheduler, a real triggerer, workers. Also the benchmark ``slots`` uses it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from packaging.version import Version

from support.processes import PATIENCE, free_ports, kill_session, session
from support.programs import python_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

__all__ = ["AIRFLOW_3", "AIRFLOW_VERSION", "Standalone"]

AIRFLOW_VERSION: Final = Version(version("apache-airflow"))
AIRFLOW_3: Final = AIRFLOW_VERSION.major >= 3

_READY: Final = 120.0  # seconds; 10 to 25 on two idle cores
_LOG_TAIL: Final = 4000


class Standalone:
    """``airflow standalone``, for as long as the ``with`` block lasts.

    :param dags: DAG files; they are copied.
    :param connections: what is to be set as ``AIRFLOW_CONN_<ID>``, by id.
    :param settings: further environment variables.
    :param parallelism: how many tasks may run at once.
    """

    def __init__(
        self,
        dags: Iterable[Path],
        *,
        connections: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        parallelism: int = 8,
    ) -> None:
        self._dags = list(dags)
        self._connections = dict(connections or {})
        self._settings = dict(settings or {})
        self._parallelism = parallelism
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._port = 0
        self.home = Path()

    def __enter__(self) -> Self:
        """Start, and return when scheduler, triggerer and DAG processor work.

        :raises RuntimeError: if they do not; with the end of the log.
        """
        with ExitStack() as undo:
            self.home = Path(tempfile.mkdtemp(prefix="stability-standalone-"))
            undo.callback(shutil.rmtree, self.home, ignore_errors=True)
            folder = self.home / "dags"
            folder.mkdir()
            for each in self._dags:
                shutil.copy(each, folder)
            undo.callback(self._end)
            self._start()
            self.wait_until(self._is_ready, _READY, "Airflow to be ready")
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process and remove the home."""
        try:
            self._end()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.home / "standalone.log"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "airflow.db"

    def logs(self) -> Iterator[Path]:
        """Find every log file, the tasks' and the processes'."""
        yield self.log
        yield from (each for each in (self.home / "logs").rglob("*") if each.is_file())

    def task_log(self, dag_id: str, task_id: str, *, map_index: int = -1) -> str:
        """Return the logs of a task's tries, those of the triggerer with them."""
        found = (self.home / "logs" / f"dag_id={dag_id}").rglob(f"*task_id={task_id}/**/attempt=*")
        return "".join(
            each.read_text(encoding="utf-8", errors="replace")
            for each in sorted(found)
            if (f"map_index={map_index}" in each.parts) == (map_index >= 0)
        )

    def query(self, sql: str, *values: object) -> list[Any]:
        """Return rows of Airflow's database, which has all that REST has and answers faster."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60)) as connection:
            return connection.execute(sql, values).fetchall()

    def states(self, dag_id: str) -> dict[str, str]:
        """Return the states of the tasks of a DAG that has run once; a mapped one is called ``id/0``."""
        rows = self.query(
            "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? ORDER BY 1, 2", dag_id
        )
        return {task if index < 0 else f"{task}/{index}": str(state) for task, index, state in rows}

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run as soon as the DAG is known; return its id."""
        self.wait_until(
            lambda: self.query("SELECT 1 FROM dag WHERE dag_id = ? AND NOT is_paused", dag_id),
            60,
            f"the DAG {dag_id}",
        )
        body: dict[str, Any] = {"conf": dict(conf or {})}
        if AIRFLOW_3:
            body["logical_date"] = None
        return str(self.api("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call Airflow's REST API, in the version that this Airflow has.

        :raises RuntimeError: for an answer that says no, with its text.
        """
        if not self._token:
            self._token = self._authorization()
        url = f"{self.url}/api/{'v2' if AIRFLOW_3 else 'v1'}{path}"
        try:
            return self._call(method, url, body, {"Authorization": self._token})
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def wait_until(self, condition: Callable[[], object], timeout: float, what: str) -> float:
        """Return as soon as a condition holds, with the seconds that it took.

        :raises RuntimeError: if it does not hold in time, or Airflow has ended; with the end of the log.
        """
        began = time.monotonic()
        while not condition():
            waited = time.monotonic() - began
            if waited > timeout or self._has_ended:
                reason = "Airflow ended" if self._has_ended else f"{waited:.0f} s were not enough"
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
                raise RuntimeError(f"waiting for {what}: {reason}\n{tail}")
            time.sleep(0.1)
        return time.monotonic() - began

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes that are there now, by id."""
        assert self._process is not None
        return session(self._process.pid)

    @property
    def url(self) -> str:
        """Where the web server is."""
        return f"http://127.0.0.1:{self._port}"

    def _start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.standalone"],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _environment(self) -> dict[str, str]:
        self._port, worker_logs, trigger_logs = free_ports(3)
        ours = {
            name: value
            for name, value in os.environ.items()
            # Settings of an Airflow on this machine, and proxies, must not reach this one. Nor must coverage:
            # most of Airflow's processes end without writing it, and it slows them.
            if not name.startswith(("AIRFLOW", "_AIRFLOW", "STABILITY_", "COVERAGE_"))
            and "proxy" not in name.lower()
        }
        return {
            **ours,
            # It starts its parts by name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "NO_PROXY": "127.0.0.1,localhost,::1",
            "PYTHONPATH": python_path(),
            "NO_COLOR": "1",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self._parallelism),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            # Many processes write to one SQLite file; they wait for each other rather than fail.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}?timeout=60",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            # The same for 2.11. It allows a LocalExecutor on SQLite only if told so twice; the one that it
            # allows takes some 5 s for each start of a task, one after the other.
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(self._port),
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in self._connections.items()},
            **self._settings,
        }

    def _is_ready(self) -> bool:
        path = "/api/v2/monitor/health" if AIRFLOW_3 else "/api/v1/health"
        try:
            health = self._call("GET", f"{self.url}{path}")
        except (OSError, ValueError):
            return False
        parts = ["scheduler", "triggerer", *(["dag_processor"] if AIRFLOW_3 else [])]
        return all(health[part]["status"] == "healthy" for part in parts)

    def _authorization(self) -> str:
        if AIRFLOW_3:
            return f"Bearer {self._call('GET', f'{self.url}/auth/token')['access_token']}"
        password = (self.home / "standalone_admin_password.txt").read_text(encoding="utf-8").strip()
        return f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"

    def _call(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        request = urllib.request.Request(  # noqa: S310  # our own address
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(4 * PATIENCE)
        finally:
            # What it has not managed, or what was left because it ended itself.
            left = kill_session(process.pid)
            process.wait(PATIENCE)
        if left:
            raise RuntimeError(f"still running: {left}")


def main() -> None:
    """Run ``airflow standalone`` until standard input ends, as it does when the caller is gone."""
    # A shell lets what it starts in the background ignore this signal, and so would all below.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    airflow = subprocess.Popen([sys.executable, "-m", "airflow", "standalone"], stdin=subprocess.DEVNULL)
    while airflow.poll() is None and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    # Not SIGTERM: it would end the parent alone.
    airflow.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        airflow.wait(PATIENCE)
    # Tasks that still run: the scheduler would wait for them.
    kill_session(os.getpid())


if __name__ == "__main__":
    main()
