"""Runs the DAG of the scenarios through Airflow's own parts, without its scheduler.

``python -m support.scenarios.dag_run DESCRIPTOR PROCESSES [inline]``: the loop is that of ``dag.test()``; but
tasks run beside each other, each time in a process of its own, as executors run them, and a triggerer beside
this program runs what they defer. With ``inline`` triggers run in the task's process, as ``dag.test()`` has
it.

Over the socket of the descriptor it says ``begin TASK`` before a task's first process, and waits for an
answer; and ``end TASK WORKERS`` when there will be none any more, with their number. The environment must
lead to a migrated database.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections import Counter
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from airflow import settings
from airflow.models import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from support.airflow_runs import AIRFLOW_V_3_0_PLUS, DagBag, load_dag, warm_up

runner: Any = import_module("airflow.sdk.definitions.dag" if AIRFLOW_V_3_0_PLUS else "airflow.models.dag")
_run_task = runner._run_task

ENDS: Final = {"success", "failed", "skipped"}
WAITS: Final = {*ENDS, "deferred", "up_for_reschedule", "up_for_retry", "scheduled"}


class Executor:
    """Runs tasks beside each other, each time in a new process.

    :param control: to the one who has the services.
    :param processes: how many there may be at once.
    :param inline: whether triggers run in the task's process.
    """

    def __init__(self, control: socket.socket, processes: int, *, inline: bool) -> None:
        self._inline = inline
        self._control = control
        self._answers = control.makefile("r", encoding="utf-8")
        self._processes = processes
        self._running: dict[int, Any] = {}
        self._workers: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._open: set[str] = set()  # which workers still have to look after

    def __call__(self, *, ti: Any, task: Any = None, **_: Any) -> None:
        """Replace Airflow's function, without waiting for the task to end."""
        try:
            self._run(ti, task or ti.task)
        except BaseException:  # noqa: BLE001  # the loop would try without end
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _run(self, ti: Any, task: Any) -> None:
        self._reap(os.WNOHANG)
        if (ti.task_id, ti.run_id) in self._running.values():
            return  # its process is between a trigger and what comes after
        if ti.task_id not in self._begun and len(self._open) >= 2 * self._processes:
            # Airflow's loop comes again. Else those that have begun would wait until all have.
            time.sleep(0.005)
            return
        self._begin(ti.task_id)
        # Airflow's loop reads the task instance again at each turn.
        key = ti.task_id, ti.run_id
        if task.start_from_trigger and not ti.next_method:
            with new_session() as session:
                start_in_triggerer(find(session, *key), task, session)
                session.commit()
            self._open.discard(ti.task_id)
            return
        while len(self._running) >= self._processes:
            self._reap(0)
        with new_session() as session:
            find(session, *key).state = "queued"
            session.commit()
        # No connection to the database may be open on both sides of a fork; the loop has one.
        assert settings.Session is not None
        assert settings.engine is not None
        settings.Session().commit()
        settings.engine.dispose()
        self._workers[ti.task_id] += 1
        child = os.fork()
        if child == 0:
            try:
                work(*key, task, inline=self._inline)
            except BaseException:  # noqa: BLE001  # nothing of the child's may go on in the copy of the parent's stack
                traceback.print_exc()
            finally:
                settle(*key)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        self._running[child] = key

    def finish(self) -> None:
        """Wait for all tasks, and report their end."""
        while self._running:
            self._reap(0)
        for each in self._begun - self._ended:
            self._end(each)

    def _begin(self, task_id: str) -> None:
        if task_id in self._begun:
            return
        self._begun.add(task_id)
        self._open.add(task_id)
        self._control.sendall(f"begin {task_id}\n".encode())
        assert self._answers.readline() == "ready\n"

    def _end(self, task_id: str) -> None:
        self._ended.add(task_id)
        self._open.discard(task_id)
        self._control.sendall(f"end {task_id} {self._workers[task_id]}\n".encode())

    def _reap(self, options: int) -> None:
        """Collect processes that have ended; without options, wait for one."""
        while self._running:
            child, _ = os.waitpid(-1, options)
            if not child:
                return
            options = os.WNOHANG
            task_id, run_id = self._running.pop(child)
            with new_session() as session:
                state = find(session, task_id, run_id).state
            if state in ENDS:
                self._end(task_id)
            elif state == "deferred":
                self._open.discard(task_id)


def new_session() -> Session:
    """Return a session of its own: Airflow's is one for the thread, and closing it closes the loop's."""
    assert settings.engine is not None
    return Session(settings.engine, expire_on_commit=False)


def find(session: Any, task_id: str, run_id: str) -> Any:
    """Return a task instance."""
    return session.scalars(
        select(TaskInstance).where(TaskInstance.task_id == task_id, TaskInstance.run_id == run_id)
    ).one()


def start_in_triggerer(ti: Any, task: Any, session: Any) -> None:
    """Defer a task that no worker has seen, as the scheduler does (``DagRun.schedule_tis``)."""
    ti.start_date = datetime.now(UTC)
    if AIRFLOW_V_3_0_PLUS:
        make: Any = import_module("airflow.serialization.serialized_objects").create_scheduler_operator
        ti.task = make(task)
        ti.try_number -= 1  # which dag.test() has counted, too
        assert ti.defer_task(session=session)
    else:
        ti.task = task
        ti.defer_task(exception=None, session=session)


def work(task_id: str, run_id: str, task: Any, *, inline: bool) -> None:
    """Run a task, in the worker's process."""
    log = os.open(
        Path(os.environ["AIRFLOW_HOME"]) / "workers" / f"{task_id}.log",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o644,
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    with create_session() as session:
        ti = find(session, task_id, run_id)
        ti.task = task
        if not AIRFLOW_V_3_0_PLUS:
            _run_task(ti=ti, inline_trigger=inline, session=session)
            return
    _run_task(ti=ti, task=task, run_triggerer=inline)


def settle(task_id: str, run_id: str) -> None:
    """End a task whose process broke, with a state that no scenario has."""
    with new_session() as session:
        ti = find(session, task_id, run_id)
        if ti.state not in WAITS:
            ti.state = "removed"
            session.commit()


def main() -> None:
    """Run the DAG."""
    descriptor, processes = map(int, sys.argv[1:3])
    with socket.socket(fileno=descriptor) as control:
        executor = Executor(control, processes, inline="inline" in sys.argv)
        runner._run_task = executor
        dag = load_dag("scenarios")
        if not AIRFLOW_V_3_0_PLUS:  # where dag.test() does not, and the triggerer looks for it
            DagBag().sync_to_db()
        warm_up()
        import_module("airflow_provider_stability.hooks.stability")  # which the first poke imports
        dag.test()
        executor.finish()


if __name__ == "__main__":
    main()
