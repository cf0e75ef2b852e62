"""The trigger runner of Airflow 2.11, a thread of the triggerer, here without a database."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.jobs.triggerer_job_runner import TriggerRunner

from benchmarks.support.forked import ForkedRunner, drop_log_lines
from benchmarks.support.probe import Events, Probe

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Runner"]

_GRACE_PERIOD = 30  # seconds that the triggerer waits for this thread to end
_STOP = signal.SIGINT


class _MeasuredRunner(TriggerRunner):  # type: ignore[misc,no-any-unimported,unused-ignore]
    def __init__(self, channel: Connection) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.events = Events()
        self._probe = Probe(channel, self.events, lambda: len(self.triggers))
        self._probe.commands["create"] = self._create

    async def arun(self) -> None:
        self._probe.attach()
        await super().arun()  # type: ignore[no-untyped-call,unused-ignore]

    def _create(self, triggers: list[tuple[int, str, dict[str, Any]]]) -> None:
        for number, path, kwargs in triggers:
            trigger: Any = self.get_trigger_by_classpath(path)(**kwargs)
            trigger.trigger_id, trigger.triggerer_job_id = number, 1
            trigger.task_instance = SimpleNamespace(
                dag_id="gates",
                task_id=f"gate_{number}",
                run_id="benchmark",
                map_index=-1,
                try_number=1,
                trigger_timeout=None,
            )
            self.to_create.append((number, trigger))  # type: ignore[arg-type,unused-ignore]


def _run(channel: Connection) -> None:
    """Run the runner as TriggererJobRunner does, until the stop signal."""
    drop_log_lines()
    is_stopped = threading.Event()
    signal.signal(_STOP, lambda _number, _frame: is_stopped.set())
    runner: Any = _MeasuredRunner(channel)
    runner.start()
    is_stopped.wait()
    runner.stop = True
    runner.join(_GRACE_PERIOD)


class Runner(ForkedRunner):
    """A process with the trigger runner, until ``stop``."""

    def __init__(self) -> None:
        super().__init__(_run)
