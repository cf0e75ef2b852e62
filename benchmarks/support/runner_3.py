"""The trigger runner of Airflow 3 and its supervisor, here without a database.

The supervisor's methods that use the database are replaced. The process that it forks is unchanged: its event
loop, its messages once a second, its log channel.
"""

from __future__ import annotations

import sys
import threading
import uuid
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner, TriggerRunnerSupervisor
from airflow.models.trigger import Trigger as TriggerRow

from benchmarks.support.probe import Events, Listener, Probe

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.connection import Connection

    from benchmarks.support.contenders import Trigger

__all__ = ["Runner"]

_MAX_ERRORS = 5


class _MeasuredRunner(TriggerRunner):  # type: ignore[misc,no-any-unimported,unused-ignore]
    def __init__(self, channel: Connection) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.events = Events()
        self.log = Listener(self.log, self.events.fired)  # type: ignore[assignment,unused-ignore]
        self._probe = Probe(channel, self.events, lambda: len(self.triggers))

    async def arun(self) -> None:
        self._probe.attach()
        await super().arun()  # type: ignore[no-untyped-call,unused-ignore]


class _Supervisor(TriggerRunnerSupervisor):
    channel: ClassVar[Connection]

    def load_triggers(self) -> None:
        """Do nothing: the benchmark fills ``creating_triggers``."""

    def heartbeat(self) -> None:
        """Do nothing: there is no job in a database."""

    def emit_metrics(self) -> None:
        """Do nothing: the supervisor's metrics are not measured."""

    def clean_unused(self) -> None:
        """Do nothing: there are no triggers in a database."""

    def on_trigger_event(self, trigger_id: int, event: Any) -> None:
        """Do nothing: there is no task to resume."""

    def on_trigger_failure(self, trigger_id: int, exc: list[str] | None) -> None:
        """Do nothing: there is no task to fail."""

    @classmethod
    def run_in_process(cls) -> None:
        _MeasuredRunner(cls.channel).run()  # type: ignore[no-untyped-call,unused-ignore]

    def _process_log_messages_from_subprocess(self) -> Generator[None, bytes | bytearray, None]:
        """Drop the log lines: writing a file per gate is not the runner's cost."""
        errors = 0
        while True:
            line = yield
            is_error = b'"level":"error"' in line or b'"level":"critical"' in line
            if is_error and errors < _MAX_ERRORS:
                errors += 1
                sys.stderr.write(f"{line.decode(errors='replace')}\n")


class Runner:
    """A process with the trigger runner, until ``stop``."""

    def __init__(self) -> None:
        self.channel, _Supervisor.channel = Pipe()
        self._supervisor: Any = _Supervisor.start(job=None, capacity=sys.maxsize)
        self.pid: int = self._supervisor.pid
        _Supervisor.channel.close()
        self._next_id = 1
        self._is_running = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def create(self, triggers: list[Trigger]) -> None:
        """Pass triggers to the runner, which takes them once a second."""
        for path, kwargs in triggers:
            task = TaskInstanceDTO(
                id=uuid.uuid4(),
                dag_id="gates",
                task_id=f"gate_{self._next_id}",
                run_id="benchmark",
                try_number=1,
                dag_version_id=uuid.uuid4(),
                pool_slots=1,
                priority_weight=1,
            )
            workload = RunTrigger(
                id=self._next_id, classpath=path, encrypted_kwargs=TriggerRow.encrypt_kwargs(kwargs), ti=task
            )
            self._supervisor.creating_triggers.append(workload)
            self._next_id += 1

    def stop(self) -> None:
        """Kill the process."""
        self._is_running = False
        self._thread.join()
        self._supervisor.kill(force=True)

    def _serve(self) -> None:
        while self._is_running and self._supervisor.is_alive():
            self._supervisor.run_once()
