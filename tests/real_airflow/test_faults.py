"""Gates on a real Airflow while its parts, its database and the service go down and come back.

All faults happen to the same gates, one after the other, and each test looks at a part of what happened.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER
from support.canary import Canary
from support.components import Components
from support.postgres import Postgres
from support.processes import free_ports
from support.programs import DAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes to end in /proc")

INTERVAL: Final = 2.0  # of the gates
GATES: Final = 10  # of each DAG, half on each organization
DEFAULT: Final = "org-default"  # also of a request that names none
ORGANIZATIONS: Final = (DEFAULT, "org-b")
DEFERRED: Final = ("faults_deferrable", *(["faults_no_worker"] if STARTS_IN_TRIGGERER else []))
OTHERS: Final = {"faults_reschedule": "org-c", "faults_poke": "org-d"}
ALL: Final = {**dict.fromkeys(DEFERRED, GATES), "faults_reschedule": 2, "faults_poke": 1}
TOPPED_UP: Final = 60.5
PATIENCE: Final = 150.0


@dataclass
class Phase:
    """What happened from one moment to another."""

    seconds: float
    asked: Counter[str]
    states: Counter[str]  # of the gates in the triggerer
    ended: list[tuple[str, str]]


@dataclass
class Story:
    """What happened."""

    phases: dict[str, Phase] = field(default_factory=dict)
    topped_up_at: float = 0.0
    told_before: set[float] = field(default_factory=set)  # by the service, until then
    states: dict[str, Counter[str]] = field(default_factory=dict)
    xcoms: dict[str, list[Any]] = field(default_factory=dict)
    ended_at: list[float] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    seen_by_workers: dict[str, int] = field(default_factory=dict)
    gate_logs: list[str] = field(default_factory=list)
    triggers_left: int = -1
    has_key: list[Any] = field(default_factory=list)


class Outages:
    """Lets things go wrong, and writes the story."""

    def __init__(
        self, airflow: Components, simulator: Simulator, postgres: Postgres, serving: ExitStack
    ) -> None:
        self.airflow = airflow
        self.simulator = simulator
        self.postgres = postgres
        self.serving = serving
        self.story = Story()
        self._since = time.time()

    def all_wait(self) -> None:
        """The gates come, and wait."""
        self.airflow.unpause(*ALL)
        self._until(lambda: self._states(DEFERRED)["deferred"] == GATES * len(DEFERRED), "the gates to wait")
        self._await_others()
        self._end_phase("before")
        self._await_polls(3)
        self._end_phase("waiting")

    def kill_triggerer(self) -> None:
        self.airflow.kill("triggerer")
        self._since = time.time()
        # It goes by the gate that pokes how long that takes.
        self._await(["org-d"], 3)
        self._end_phase("no triggerer")
        self.airflow.start("triggerer")
        self._await_polls(3)
        self._end_phase("triggerer is back")

    def kill_scheduler(self) -> None:
        self.airflow.kill("scheduler")
        self._await_polls(3)
        self._end_phase("no scheduler")
        self.airflow.start("scheduler")
        self._await_others()
        self._end_phase("scheduler is back")

    def restart_database(self) -> None:
        self.postgres.stop()
        self._pass(3 * INTERVAL)
        self.postgres.start()
        self.airflow.revive()
        self._end_phase("no database")
        self._await_polls(3)
        self._await_others()
        self._end_phase("database is back")

    def take_service_down(self) -> None:
        self.serving.close()
        self._pass(4 * INTERVAL)
        self._end_phase("no service")
        self.serving.enter_context(self.simulator)
        self._await_polls(2)
        self._end_phase("service is back")

    def top_up(self) -> None:
        self.story.topped_up_at = time.time()
        for organization in (*ORGANIZATIONS, *OTHERS.values()):
            self.simulator.set_credits(TOPPED_UP, organization)
        ends = {"success", "failed", "skipped", "upstream_failed"}
        self._until(
            lambda: sum(n for state, n in self._states(ALL).items() if state in ends) == sum(ALL.values()),
            "every gate to end",
        )
        self._until(lambda: not self._triggers(), "the triggers to be gone")
        # That the last poll was the last shows in nothing but that none comes.
        with pytest.raises(TimeoutError):
            self.simulator.wait_for_requests(self.simulator.count() + 1, 3 * INTERVAL)

    def read(self, canary: Canary) -> None:
        """Look at what is left."""
        story, airflow = self.story, self.airflow
        story.triggers_left = self._triggers()
        story.told_before = {
            each.credits
            for each in self.simulator.requests
            if each.credits is not None and (each.answered_at or 0) < story.topped_up_at
        }
        for dag_id in ALL:
            story.states[dag_id] = Counter(airflow.states(dag_id).values())
            story.xcoms[dag_id] = [
                _decoded(value)
                for (value,) in airflow.query(
                    "SELECT value FROM xcom WHERE dag_id = ? AND key = 'return_value'", dag_id
                )
            ]
            rows = airflow.query(
                "SELECT end_date, try_number, pid FROM task_instance WHERE dag_id = ?", dag_id
            )
            story.ended_at += [_timestamp(end) for end, _, _ in rows]
            story.tries[dag_id] = max(tries for _, tries, _ in rows)
            story.seen_by_workers[dag_id] = sum(pid is not None for _, _, pid in rows)
            if dag_id in DEFERRED:
                story.gate_logs += [airflow.task_log(dag_id, each) for each in airflow.states(dag_id)]
        story.has_key = [*canary.files([airflow.home, self.postgres.log])]
        if canary.found_in(self.postgres.dump()):
            story.has_key.append("the database")

    def _end_phase(self, name: str) -> None:
        now = time.time()
        asked = Counter(
            each.organization or DEFAULT for each in self.simulator.requests if each.at >= self._since
        )
        ended = [
            (dag_id, task_id)
            for dag_id in ALL
            for task_id, state in self.airflow.states(dag_id).items()
            if state in {"success", "failed", "skipped"}
        ]
        self.story.phases[name] = Phase(now - self._since, asked, self._states(DEFERRED), ended)
        self._since = now

    def _states(self, dag_ids: Any) -> Counter[str]:
        return Counter(state for each in dag_ids for state in self.airflow.states(each).values())

    def _triggers(self) -> int:
        return int(self.airflow.query("SELECT count(*) FROM trigger")[0][0])

    def _await_polls(self, count: int) -> None:
        self._await(ORGANIZATIONS, count)

    def _await_others(self) -> None:
        """Return when the gates outside of the triggerer have looked again, all of them."""
        self._await(OTHERS.values(), 2)

    def _await(self, organizations: Any, count: int) -> None:
        """Return when each organization has been asked about so many more times."""
        before = Counter(each.organization or DEFAULT for each in self.simulator.requests)

        def come() -> bool:
            asked = Counter(each.organization or DEFAULT for each in self.simulator.requests)
            return all(asked[each] >= before[each] + count for each in organizations)

        self._until(come, f"requests about {list(organizations)}")

    def _until(self, condition: Any, what: str) -> None:
        try:
            self.airflow.wait_until(condition, PATIENCE, what)
        except RuntimeError as error:
            error.add_note(f"{ {each: self.airflow.states(each) for each in ALL} }")
            error.add_note(f"{self.story.phases}")
            raise

    def _pass(self, seconds: float) -> None:
        """Let an outage last."""
        until = time.monotonic() + seconds
        self.airflow.wait_until(lambda: time.monotonic() > until, 2 * seconds, "the time to pass")


def _decoded(value: Any) -> Any:
    """Return an XCom: 2.11 keeps it as bytes, and Airflow 3 as JSON."""
    return json.loads(bytes(value)) if isinstance(value, memoryview) else value


def _timestamp(moment: datetime) -> float:
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    canary = Canary()
    with ExitStack() as stack, ExitStack() as serving:
        simulator = Simulator(
            port=free_ports(1)[0],  # the same after the service was down
            credits=10,
            organizations=dict.fromkeys(("org-b", "org-c", "org-d"), 10.0),
            api_key=canary.key,
        )
        serving.enter_context(simulator)
        postgres = stack.enter_context(Postgres())
        airflow = stack.enter_context(
            Components(
                [DAGS / "real_faults.py"],
                postgres,
                connections={"stability_default": simulator.connection(timeout=5)},
            )
        )
        outages = Outages(airflow, simulator, postgres, serving)
        outages.all_wait()
        outages.kill_triggerer()
        outages.kill_scheduler()
        outages.restart_database()
        outages.take_service_down()
        outages.top_up()
        outages.read(canary)
        yield outages.story


def test_no_fault_ends_a_gate(story: Story) -> None:
    for name, phase in story.phases.items():
        assert not phase.ended, name
        assert phase.states == {"deferred": GATES * len(DEFERRED)}, name
    assert story.told_before == {10.0}
    assert min(story.ended_at) >= story.topped_up_at


def test_polling_continues_at_one_request_per_interval(story: Story) -> None:
    for name, phase in story.phases.items():
        if name in {"before", "no triggerer", "no service"}:
            continue
        for organization in ORGANIZATIONS:
            # One at each end, and the first of a new triggerer, which cannot know when the last was.
            assert phase.asked[organization] <= phase.seconds / INTERVAL + 2, (name, phase)
    for name in ("no triggerer", "no service"):
        assert not any(story.phases[name].asked[each] for each in ORGANIZATIONS), name
    assert not any(story.phases["no service"].asked.values())


@pytest.mark.parametrize("dag_id", ALL)
def test_every_gate_opens_and_pushes_its_credits(story: Story, dag_id: str) -> None:
    assert story.states[dag_id] == {"success": ALL[dag_id]}
    assert story.xcoms[dag_id] == [TOPPED_UP] * ALL[dag_id]
    assert {type(each) for each in story.xcoms[dag_id]} == {float}


def test_gate_in_the_triggerer_needs_no_retry(story: Story) -> None:
    # That of the gate which pokes died with its worker: the question is one that has an answer.
    assert story.tries["faults_poke"] > 1
    assert {dag_id: story.tries[dag_id] for dag_id in DEFERRED} == dict.fromkeys(DEFERRED, 1)


@pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="this Airflow starts no task in the triggerer")
def test_gate_without_a_worker_uses_none_during_faults(story: Story) -> None:
    assert story.seen_by_workers["faults_no_worker"] == 0
    assert story.seen_by_workers["faults_deferrable"] == GATES


def test_each_gate_logs_the_outage_and_opens_once(story: Story) -> None:
    assert len(story.gate_logs) == GATES * len(DEFERRED)
    for log in story.gate_logs:
        assert log.count("Still waiting; could not read the balance") == 1, log
        assert log.count("60.5 credits, need 40: open") == 1, log  # from the worker or from the triggerer


def test_no_trigger_is_left(story: Story) -> None:
    assert story.triggers_left == 0


def test_no_trace_of_the_key_is_in_files_or_database(story: Story) -> None:
    assert not story.has_key
