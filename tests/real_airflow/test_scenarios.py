"""Some scenarios on a real scheduler, triggerer and workers; and that no key is in anything they leave."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER
from scenarios.report import PLAYED
from scenarios.runner import LEAK, MODES, Outcome, check, gate_of, read_value
from scenarios.table import TABLE, Scenario, expected
from support.canary import Canary
from support.programs import DAGS
from support.scenarios.stage import Stage
from support.scenarios.traces import Keys, keep_what_is_deleted, rows
from support.standalone import AIRFLOW_3, Standalone

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes to end in /proc")

PATHS: Final = ("poke", "reschedule", "deferrable", *(["zero_worker"] if STARTS_IN_TRIGGERER else []))
CHOSEN: Final = (
    "open at once",
    "opens later",
    "never opens",
    "never opens, soft_fail, retries",
    "401 in the middle, soft_fail, retries",
    "429 that names no time",
    "a reset",
    "the key is rotated",
    "a proxy to https",
)
SCENARIOS: Final = [each for each in TABLE if each.name in CHOSEN]
INTERVAL: Final = 1.0
RESCHEDULED: Final = 10.0
"""Airflow's scheduler loses a reschedule now and then where intervals are shorter."""

PLAYS: Final = 4

LOST: Final = re.compile(
    r"reported that the task instance <TaskInstance: (\S+) .* finished with state success, but"
)
"""What the scheduler writes of a task that it fails itself: one that came back from the triggerer, or from a
reschedule, before it had noted that the task's first worker was gone (apache/airflow#67287 and #72716; in
2.11 and 3.3.2 ``SchedulerJobRunner.process_executor_events``). It happens on a busy machine."""

ENDS: Final = {"success", "failed", "skipped"}
Outcomes = dict[tuple[str, str], Outcome]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Outcomes:
    lost: list[list[str]] = []
    while len(lost) < PLAYS:
        play = Play(tmp_path_factory.mktemp("real"))
        found = play.outcomes()
        if not play.lost:
            pytestconfig.stash.setdefault(PLAYED, {})["Scenarios on a real scheduler"] = PATHS, found
            return found
        lost.append(play.lost)
    pytest.fail(f"Airflow's scheduler has lost tasks in each of {PLAYS} plays: {lost}")


class Play:
    """One real Airflow, and what is played on it.

    :param home: an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.connections = home / "connections"
        self.connections.mkdir()
        self.tasks = {f"{path}.{each.slug}": (each, path) for each in SCENARIOS for path in PATHS}
        self.keys = Keys({task: (Canary(), Canary()) for task in [*self.tasks, LEAK]})
        self.stages = {
            task: Stage(self.connections / f"{path}_{scenario.slug}", *self.keys.canaries[task])  # type: ignore[arg-type]
            for task, (scenario, path) in self.tasks.items()
        }
        gates = [
            gate_of(scenario, path, poke_interval=RESCHEDULED if path == "reschedule" else INTERVAL)
            for scenario, path in self.tasks.values()
        ]
        self.gates = home / "gates.json"
        self.gates.write_text(json.dumps({"gates": gates, "leak": self.keys.canaries[LEAK][0].key}))
        self.found = {task: Outcome() for task in [*self.tasks, LEAK]}
        self.run_id = ""
        self.lost: list[str] = []

    def outcomes(self) -> Outcomes:
        """Play, and return the results; they do not count if ``lost`` names a task."""
        settings = {
            "STABILITY_TEST_GATES": str(self.gates),
            "AIRFLOW__CORE__FERNET_KEY": "",
            # A worker of 3.x may notice so many seconds late that its task's process has ended (5 by default;
            # 3.3.2 ``ActivitySubprocess._monitor_subprocess``), and the later, the more tasks are lost.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SECRETS__BACKEND": "support.scenarios.secrets.Folder",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"folder": str(self.connections)}),
        }
        with ExitStack() as services:
            for task, (scenario, _) in self.tasks.items():
                services.enter_context(scenario.service(self.stages[task]))
            dags = [DAGS / "scenario_gates.py"]
            with Standalone(dags, settings=settings, parallelism=6) as airflow:
                self._play(airflow)
                if not self.lost:
                    self._read(airflow)
        names = {task: (scenario.name, path) for task, (scenario, path) in self.tasks.items()}
        return {names.get(task, (LEAK, "")): outcome for task, outcome in self.found.items()}

    def _play(self, airflow: Standalone) -> None:
        keep_what_is_deleted(airflow.database)
        self.run_id = airflow.trigger("scenarios")

        looked_at = 0.0

        def has_ended() -> bool:
            nonlocal looked_at
            # Meanwhile, what can only be seen now: command lines, and the triggers that wait.
            self._search("a command line", "\n".join(airflow.processes().values()))
            if time.monotonic() - looked_at >= 1:
                looked_at = time.monotonic()
                self._search("REST, a task", json.dumps(self._rest(airflow, "/taskInstances?limit=1000")))
            states = airflow.states("scenarios")
            self.lost = LOST.findall(airflow.log.read_text(encoding="utf-8", errors="replace"))
            return bool(self.lost) or (bool(states) and set(states.values()) <= ENDS)

        airflow.wait_until(has_ended, 240, "every task to end")

    def _read(self, airflow: Standalone) -> None:
        for task, outcome in self.found.items():
            ((outcome.state, outcome.tries, outcome.workers),) = airflow.query(
                "SELECT state, try_number, pid IS NOT NULL FROM task_instance WHERE task_id = ?", task
            )
            outcome.log = airflow.task_log("scenarios", task)
            pushed = "SELECT value FROM xcom WHERE task_id = ? AND key = 'return_value'"
            outcome.xcom = [read_value(value) for (value,) in airflow.query(pushed, task)]
            if self.keys.of(task, outcome.log):
                outcome.leaks.add("the task's log")
            if task in self.stages:
                outcome.asked_at = self.stages[task].asked_at
                outcome.stray_requests = self.stages[task].stray_requests
                if self.stages[task].has_tapped_a_key:
                    outcome.leaks.add("a server that must not have it")
        for place, row_task, text in rows(airflow.database):
            if row_task in self.found and self.keys.of(row_task, text):
                self.found[row_task].leaks.add(place)
            self._search(place, text)
        for path in (*airflow.logs(), *airflow.home.glob("airflow.db*")):
            self._search(path.name if path.parent == airflow.home else "a log", path.read_bytes())
        self._search("REST, connections", json.dumps(self._call(airflow, "/connections?limit=1000")))
        for task, outcome in self.found.items():
            self._search("REST, a log", json.dumps(self._rest(airflow, f"/taskInstances/{task}/logs/1")))
            if outcome.xcom:
                entry = self._rest(airflow, f"/taskInstances/{task}/xcomEntries/return_value")
                self._search("REST, XCom", json.dumps(entry))

    def _rest(self, airflow: Standalone, path: str) -> Any:
        return self._call(airflow, f"/dags/scenarios/dagRuns/{self.run_id}{path}")

    def _call(self, airflow: Standalone, path: str) -> Any:
        headers = {"Authorization": airflow._token, "Accept": "application/json"}
        path = path.replace("+", "%2B")  # in a run's id
        return airflow._call("GET", f"{airflow.url}/api/{'v2' if AIRFLOW_3 else 'v1'}{path}", None, headers)

    def _search(self, place: str, text: str | bytes) -> None:
        for each in self.keys.any(text.encode() if isinstance(text, str) else text):
            self.found[each].leaks.add(place)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_has_the_same_outcome_on_a_real_scheduler(
    outcomes: Outcomes, scenario: Scenario, path: str
) -> None:
    found, wanted = outcomes[scenario.name, path], expected(scenario, path)
    check(found, wanted)
    assert MODES[path].get("end_from_trigger") is None or found.workers == (found.state != "success")


def test_leaked_key_is_found_wherever_it_is(outcomes: Outcomes) -> None:
    assert outcomes[LEAK, ""].leaks >= {
        "airflow.db",
        "the task's log",
        "a log",
        "trigger.kwargs",
        "task_instance.next_kwargs",
        "rendered_task_instance_fields",
        "xcom",
        "REST, a task",
        "REST, a log",
        "REST, XCom",
    }
