"""An Airflow whose parts can be killed one by one, on a database that can be restarted.

The parts are programs of their own, as in an installation with a service manager, which starts again what
ends: a triggerer, for one, ends when its database goes away.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from support.standalone import AIRFLOW_3, Standalone
from support.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from support.postgres import Postgres

__all__ = ["Components"]

_PARTS: Final = ("scheduler", "triggerer", *(["dag-processor", "api-server"] if AIRFLOW_3 else []))
_JOBS: Final = {
    "scheduler": "SchedulerJob",
    "triggerer": "TriggererJob",
    **({"dag-processor": "DagProcessorJob"} if AIRFLOW_3 else {}),
}
_LIVENESS: Final = 12.0
"""Seconds without a heartbeat after which a part is taken to be stuck."""

_BRISK: Final = {
    # Until ``unpause``: a task that starts before the API server does is failed.
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    # So that a part that is gone is missed after some seconds, and not after a minute or five.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # The same for 2.11.
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
}


class Components(Standalone):
    """Scheduler, triggerer and, on Airflow 3, DAG processor and API server. On 2.11 there is no web server.

    :param dags: DAG files; they are copied.
    :param postgres: a server whose database ``airflow`` is empty.
    :param connections: as for ``Standalone``; so are the others.
    """

    def __init__(
        self,
        dags: Iterable[Path],
        postgres: Postgres,
        *,
        connections: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        parallelism: int = 8,
    ) -> None:
        at = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url}
        super().__init__(
            dags,
            connections=connections,
            settings={**_BRISK, **at, **(settings or {})},
            parallelism=parallelism,
        )
        self._postgres = postgres
        self._parts: Supervised | None = None

    def unpause(self, *dag_ids: str) -> None:
        """Let DAGs run that are paused, as all are at first, as soon as they are known."""
        for dag_id in dag_ids:
            self.wait_until(
                lambda each=dag_id: self._postgres.execute(  # type: ignore[misc]  # a lambda has no types
                    "UPDATE dag SET is_paused = false WHERE dag_id = ?", each
                ),
                60,
                f"the DAG {dag_id}",
            )

    def kill(self, part: str) -> list[int]:
        """Kill a part with -9, with all that it has started, and keep it down; return which processes."""
        return self._supervised.kill(part)

    def start(self, part: str) -> None:
        """Start a part that was killed."""
        self._supervised.start(part)

    def revive(self) -> list[str]:
        """Restart the parts that run without a sign of life, as a service manager's probe does; return which.

        That is no rarity: a scheduler that loses its database waits for its LocalExecutor's tasks to end
        before it ends itself, and schedules nothing meanwhile.
        """
        since = self._now()
        deadline = time.monotonic() + _LIVENESS
        self.wait_until(
            lambda: time.monotonic() > deadline or not self._silent(since), 2 * _LIVENESS, "signs of life"
        )
        silent = self._silent(since)
        for part in silent:
            self.kill(part)
            self.start(part)
        since = self._now()
        self.wait_until(lambda: not self._silent(since), 120, "every part to be back")
        return silent

    def _now(self) -> Any:
        return self.query("SELECT now()")[0][0]

    def _silent(self, since: Any) -> list[str]:
        """Return the parts whose job has not said since then that it runs."""
        running = self.query(
            "SELECT job_type FROM job WHERE state = 'running' AND latest_heartbeat > ?", since
        )
        return [part for part, job in _JOBS.items() if (job,) not in running]

    def query(self, sql: str, *values: object) -> list[Any]:
        """Return rows of Airflow's database."""
        return self._postgres.query(sql, *values)

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes that are there now, by id."""
        return self._supervised.processes()

    @property
    def _supervised(self) -> Supervised:
        assert self._parts
        return self._parts

    @property
    def _has_ended(self) -> bool:
        return self._parts is not None and self._parts.is_gone

    def _start(self) -> None:
        environment = self._environment()
        airflow = [sys.executable, "-m", "airflow"]
        with self.log.open("ab") as log:
            subprocess.run(
                [*airflow, "db", "migrate"],
                cwd=self.home,
                env=environment,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=300,
            )
        self._parts = Supervised(
            {part: [*airflow, part] for part in _PARTS}, log=self.log, cwd=self.home, env=environment
        )
        self._parts.__enter__()

    def _is_ready(self) -> bool:
        try:
            silent = self._silent(datetime.min.replace(tzinfo=UTC))
        except psycopg2.Error:
            return False
        return not silent and (not AIRFLOW_3 or super()._is_ready())

    def _end(self) -> None:
        if self._parts is not None:
            parts, self._parts = self._parts, None
            parts.__exit__(None, None, None)
