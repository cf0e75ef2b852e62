"""Plays all scenarios in every mode that needs no scheduler, and reads the results."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from support.canary import Canary
from support.processes import PATIENCE
from support.programs import DAGS
from support.scenarios.leash import running
from support.scenarios.stage import Stage
from support.scenarios.traces import Keys, keep_what_is_deleted, rows

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from scenarios.table import Scenario

__all__ = ["LEAK", "MODES", "Outcome", "check", "gate_of", "play", "read_value"]

SILENCE: Final = 120.0  # seconds in which no task begins or ends, after which something hangs
LEAK: Final = "leak"  # the task that shows that a leak would be found

MODES: Final[dict[str, dict[str, Any]]] = {
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False},
    "deferrable": {"deferrable": True},
    "zero_worker": {"start_from_trigger": True, "end_from_trigger": True},
    "dag_test": {"deferrable": True},
}


@dataclass
class Outcome:
    """The result of a scenario in one mode.

    :param workers: processes that it took.
    :param stray_requests: how many went to a host that must get none.
    :param leaks: where traces of its keys are.
    """

    state: str = ""
    xcom: list[Any] = field(default_factory=list)
    tries: int = 0
    workers: int = 0
    asked_at: list[float] = field(default_factory=list)
    stray_requests: int = 0
    log: str = field(default="", repr=False)
    leaks: set[str] = field(default_factory=set)


def check(found: Outcome, wanted: Scenario) -> None:
    """Assert what must hold of an outcome wherever it was played."""
    assert not found.leaks, found.leaks
    assert (found.state, found.tries) == (wanted.state, 1), found.log
    xcom = [] if wanted.xcom is None else [(type(wanted.xcom), wanted.xcom)]
    assert [(type(each), each) for each in found.xcom] == xcom, found.xcom
    assert not found.stray_requests, found.stray_requests
    few, many = wanted.requests
    assert few <= len(found.asked_at) <= many, found.log
    if wanted.pause:
        assert found.asked_at[1] - found.asked_at[0] >= wanted.pause, found.asked_at
    for line in wanted.says:
        assert re.search(line, found.log), f"no {line!r} in:\n{found.log}"


def gate_of(scenario: Scenario, path: str, **more: Any) -> dict[str, Any]:
    """Return the parameters of the sensor."""
    return {
        "task_id": f"{path}.{scenario.slug}",
        "stability_conn_id": f"{path}_{scenario.slug}",
        "min_credits": 40,
        "poke_interval": 0.2,
        "timeout": 300,
        **scenario.gate,
        **MODES[path],
        **more,
    }


def play(
    scenarios: Sequence[Scenario], paths: Sequence[str], database: Path, home: Path
) -> dict[tuple[str, str], Outcome]:
    """Play scenarios on paths.

    :param database: a migrated one; it is copied.
    :param home: an empty folder.
    :returns: by the scenario's name and the path; and for ``leak`` and the path of each batch.
    """
    # Where a triggerer runs, too, it would take the triggers that dag.test() runs itself.
    inline = Batch(scenarios, [each for each in paths if each == "dag_test"], database, home / "inline", 3)
    others = Batch(scenarios, [each for each in paths if each != "dag_test"], database, home / "others", 5)
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(inline.play, inline=True), pool.submit(others.play, inline=False)]:
            each.result()
    return inline.outcomes() | others.outcomes()


class Batch:
    """One Airflow home, and what is played in it.

    :param processes: how many workers there may be at once.
    """

    def __init__(
        self, scenarios: Sequence[Scenario], paths: Sequence[str], database: Path, home: Path, processes: int
    ) -> None:
        self.home = home / "airflow"
        self.connections = home / "connections"
        self.processes = processes
        self.scenarios = {f"{path}.{each.slug}": (each, path) for each in scenarios for path in paths}
        self.keys = Keys({task: (Canary(), Canary()) for task in [*self.scenarios, LEAK]})
        self.stages: dict[str, Stage] = {}
        self.workers: dict[str, int] = {}
        for folder in ("dags", "workers"):
            (self.home / folder).mkdir(parents=True)
        self.connections.mkdir()
        (self.home / "dags" / "gates.py").write_bytes((DAGS / "scenario_gates.py").read_bytes())
        gates = [gate_of(each, path) for each, path in self.scenarios.values()]
        work = {"gates": gates, "leak": self.keys.canaries[LEAK][0].key}
        (home / "gates.json").write_text(json.dumps(work), encoding="utf-8")
        copy_database(database, self.database)
        keep_what_is_deleted(self.database)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "airflow.db"

    def play(self, *, inline: bool) -> None:
        """Play all.

        :param inline: whether triggers run in the tasks' processes; else a triggerer has them.
        """
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(self.processes), *(["inline"] if inline else [])]
        with ExitStack() as stack:
            for each in (ours, theirs):
                stack.enter_context(each)
            ours.settimeout(SILENCE)
            if not inline:
                triggerer = self._program("triggerer.log", "-m", "airflow", "triggerer", "--skip-serve-logs")
                stack.enter_context(triggerer)
            runner = stack.enter_context(
                self._program(
                    "runner.log",
                    "-m",
                    "support.scenarios.dag_run",
                    *arguments,
                    descriptors=(theirs.fileno(),),
                )
            )
            theirs.close()
            try:
                self._serve(ours, stack)
            except TimeoutError:
                raise RuntimeError(f"a task does not end:\n{self._tail('runner.log')}") from None
            assert runner.wait(4 * PATIENCE) == 0, self._tail("runner.log")

    def _serve(self, control: socket.socket, stack: ExitStack) -> None:
        """Let each scenario's service be there before its task is."""
        services: dict[str, ExitStack] = {}
        for line in control.makefile("r", encoding="utf-8"):
            match line.split():
                case ["begin", task]:
                    if task in self.scenarios:
                        scenario, path = self.scenarios[task]
                        connection = self.connections / f"{path}_{scenario.slug}"
                        canary, other = self.keys.canaries[task]
                        self.stages[task] = Stage(connection, canary, other)
                        services[task] = stack.enter_context(ExitStack())
                        services[task].enter_context(scenario.service(self.stages[task]))
                    control.sendall(b"ready\n")
                case ["end", task, workers]:
                    self.workers[task] = int(workers)
                    services.get(task, stack.enter_context(ExitStack())).close()

    def _tail(self, name: str) -> str:
        return (self.home / name).read_text(encoding="utf-8", errors="replace")[-6000:]

    def _program(
        self, log: str, *program: str, descriptors: tuple[int, ...] = ()
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return running(
            program, folder=self.home, log=log, environment=self._environment(), descriptors=descriptors
        )

    def _environment(self) -> dict[str, str]:
        # Not coverage: it slows what is forked, and a process that is forked ends without writing it.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "STABILITY_", "COVERAGE_"))
        }
        return kept | {
            "NO_COLOR": "1",
            "STABILITY_TEST_GATES": str(self.home.parent / "gates.json"),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API_AUTH__JWT_SECRET": "of no use",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__FERNET_KEY": "",  # so that what is stored can be searched
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}?timeout=60",
            "AIRFLOW__SECRETS__BACKEND": "support.scenarios.secrets.Folder",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"folder": str(self.connections)}),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def outcomes(self) -> dict[tuple[str, str], Outcome]:
        """Read the results."""
        by_task = {task: self._outcome(task) for task in [*self.scenarios, LEAK]}
        self._search(by_task)
        name = {task: (scenario.name, path) for task, (scenario, path) in self.scenarios.items()}
        return {name.get(task, (LEAK, self.home.parent.name)): each for task, each in by_task.items()}

    def _outcome(self, task: str) -> Outcome:
        outcome = Outcome(workers=self.workers.get(task, 0))
        stage = self.stages.get(task)
        if stage is not None:
            outcome.asked_at = stage.asked_at
            outcome.stray_requests = stage.stray_requests
            if stage.has_tapped_a_key:
                outcome.leaks.add("a server that must not have it")
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60)) as connection:
            found = "SELECT state, try_number FROM task_instance WHERE dag_id = 'scenarios' AND task_id = ?"
            for state, tries in connection.execute(found, (task,)):
                outcome.state, outcome.tries = str(state), tries
            pushed = (
                "SELECT value FROM xcom WHERE dag_id = 'scenarios' AND task_id = ? AND key = 'return_value'"
            )
            outcome.xcom = [read_value(value) for (value,) in connection.execute(pushed, (task,))]
        for each in (self.home / "workers" / f"{task}.log", *sorted(self.home.rglob(f"task_id={task}/**/*"))):
            if each.is_file():
                text = each.read_text(encoding="utf-8", errors="replace")
                outcome.log += text
                if self.keys.of(task, text):
                    outcome.leaks.add("the trigger's log" if "task_id=" in str(each) else "the worker's log")
        return outcome

    def _search(self, by_task: dict[str, Outcome]) -> None:
        """Find the keys elsewhere than in the tasks' own logs."""
        for place, task, text in rows(self.database):
            if task in by_task and self.keys.of(task, text):
                by_task[task].leaks.add(place)
            for each in self.keys.any(text.encode()):
                by_task[each].leaks.add(place)
        for path in self.home.rglob("*"):
            if path.is_file():
                for each in self.keys.any(path.read_bytes()):
                    by_task[each].leaks.add(str(path.relative_to(self.home)))


def read_value(stored: Any) -> Any:
    """Return an XCom's value from its row: JSON, as text or bytes, or a number by SQLite's doing."""
    return json.loads(stored) if isinstance(stored, bytes | str) else stored


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, but not what waits in it."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        # With all that refers to them: a triggerer starts what a watcher needs again and again, and the
        # numbers of the examples' watchers are the first, which would be given to gates.
        new.execute("PRAGMA foreign_keys = ON")
        new.execute('DELETE FROM "trigger"')
        new.commit()
        # On SQLite the number of a trigger that is gone is given to the next one, whose lines a triggerer
        # may then write into the log of the first. Other databases give each number once; so does this.
        new.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT)")
        new.execute("DROP TABLE counted")
        new.execute("PRAGMA writable_schema = ON")
        new.execute(
            "UPDATE sqlite_master SET sql = replace(sql, '(id)', '(id AUTOINCREMENT)') "
            "WHERE type = 'table' AND name = 'trigger'"
        )
        new.commit()
