"""Crossings on a real Airflow: asset watchers in a triggerer that is killed and comes back.

All happens to the same watchers, one after the other, and each test looks at a part of what happened.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from packaging.version import Version

from airflow_provider_stability.simulator import Simulator
from support.canary import Canary
from support.components import Components
from support.postgres import Postgres
from support.programs import DAGS
from support.standalone import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes to end in /proc"),
    pytest.mark.skipif(Version("3.3") > AIRFLOW_VERSION, reason="watchers keep no state before Airflow 3.3"),
]

INTERVAL: Final = 1.0
GATES: Final = 5
LOW, HIGH = "events_low", "events_high"
PATIENCE: Final = 120.0


@dataclass
class Story:
    """What happened."""

    fired: dict[str, list[tuple[str, float]]] = field(default_factory=dict)  # by what was done before
    seconds: float = 0.0  # for so long the requests were counted
    asked: int = 0
    events_when_told: int = -1  # as soon as the state says that an event was fired
    expected_when_told: int = -2
    runs: dict[str, Counter[str]] = field(default_factory=dict)
    told: dict[str, list[list[float]]] = field(default_factory=dict)
    gates: Counter[str] = field(default_factory=Counter)
    triggers_left: list[str] = field(default_factory=list)
    has_key: list[Any] = field(default_factory=list)


class Watch:
    """Changes the balance, kills the triggerer, and writes the story."""

    def __init__(self, airflow: Components, simulator: Simulator, postgres: Postgres) -> None:
        self.airflow = airflow
        self.simulator = simulator
        self.postgres = postgres
        self.story = Story()
        self._known: list[tuple[str, float]] = []

    def begin(self) -> None:
        """The gates wait, and the watchers have seen a balance."""
        self.airflow.unpause("events_gates")
        self._until(lambda: len(self._states()) == 2, "the watchers to keep a state")
        self._until(
            lambda: Counter(self.airflow.states("events_gates").values())["deferred"] == GATES,
            "the gates to wait",
        )
        self._await_polls(1)
        since, before = time.time(), self.simulator.count()
        self._await_polls(5)
        self.story.seconds, self.story.asked = time.time() - since, self.simulator.count() - before
        self._note("the first balance", 0)

    def have(self, credits_: float, events: int = 0) -> None:
        """Set the balance, and note what fires."""
        self.simulator.set_credits(credits_)
        self._note(f"{len(self.story.fired)}: {credits_:g}", events)

    def have_without_triggerer(self, credits_: float, events: int = 0, *, after: str = "") -> None:
        """Set the balance while no triggerer runs, and note what fires once it is back.

        :param after: the watcher that has fired last: a triggerer that dies too soon after that repeats it.
        """
        self._until(lambda: not self._states().get(after), "the event to be noted")
        self.airflow.kill("triggerer")
        before = self.simulator.count()
        self.simulator.set_credits(credits_)
        self.airflow.start("triggerer")
        self._until(lambda: self.simulator.count() > before, "the first poll after the restart")
        self._note(f"{len(self.story.fired)}: {credits_:g} while down", events)

    def fire_and_see_the_order(self) -> None:
        """Check that the event is stored by the time the state records it."""
        before = len(self._events())
        self.simulator.set_credits(10)
        self._until(lambda: not self._states()[LOW], "the state to say that the event was fired")
        self.story.events_when_told = len(self._events())
        self.story.expected_when_told = before + 1
        self._note("a look at the order", 1)

    def end(self) -> None:
        """Open the gates, and wait for all that runs."""
        self.simulator.set_credits(900)
        self._until(lambda: set(self.airflow.states("events_gates").values()) == {"success"}, "the gates")
        self._note("the end", 1)
        count = sum(len(each) for each in self.story.fired.values())
        self._until(lambda: self._runs()["success"] == count, "the runs to succeed")

    def read(self, canary: Canary) -> None:
        """Look at what is left."""
        story, airflow = self.story, self.airflow
        for dag_id in (LOW, HIGH):
            story.runs[dag_id] = self._runs(dag_id)
            rows = airflow.query(
                "SELECT x.value FROM xcom x JOIN dag_run r ON r.run_id = x.run_id AND r.dag_id = x.dag_id"
                " WHERE x.dag_id = ? AND x.key = 'return_value' ORDER BY r.id",
                dag_id,
            )
            story.told[dag_id] = [value for (value,) in rows]
        story.gates = Counter(airflow.states("events_gates").values())
        story.triggers_left = [each for (each,) in airflow.query("SELECT classpath FROM trigger")]
        story.has_key = [*canary.files([airflow.home, self.postgres.log])]
        if canary.found_in(self.postgres.dump()):
            story.has_key.append("the database")

    def _note(self, name: str, events: int) -> None:
        """Note what has fired since the last note: wait for so many, then for some polls for one too many.

        One that comes late all the same is noted with what was done next, where it is wrong, too.
        """
        expected = len(self._known) + events
        self._until(lambda: len(self._events()) >= expected, f"{name}: event {expected}")
        self._await_polls(2)
        known = self._events()
        self.story.fired[name], self._known = known[len(self._known) :], known

    def _events(self) -> list[tuple[str, float]]:
        rows = self.airflow.query(
            "SELECT a.name, e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id ORDER BY e.id"
        )
        return [(name, extra["payload"]["credits"]) for name, extra in rows]

    def _states(self) -> dict[str, bool]:
        """Return whether each watcher is armed, as far as it has kept that."""
        rows = self.airflow.query(
            "SELECT a.name, s.value FROM asset_state_store s JOIN asset a ON a.id = s.asset_id"
        )
        return {name: '"is_armed": true' in value for name, value in rows}

    def _runs(self, *dag_ids: str) -> Counter[str]:
        names = dag_ids or (LOW, HIGH)
        rows = self.airflow.query("SELECT dag_id, state FROM dag_run")
        return Counter(state for dag_id, state in rows if dag_id in names)

    def _await_polls(self, count: int) -> None:
        wanted = self.simulator.count() + count
        self._until(lambda: self.simulator.count() >= wanted, "polls")

    def _until(self, condition: Any, what: str) -> None:
        try:
            self.airflow.wait_until(condition, PATIENCE, what)
        except RuntimeError as error:
            error.add_note(f"{self.story} {self._events()} {self._states()}")
            error.add_note(f"{self.airflow.states('events_gates')}")
            raise


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    canary = Canary()
    with (
        Simulator(credits=50, api_key=canary.key) as simulator,
        Postgres() as postgres,
        Components(
            [DAGS / "real_events.py"],
            postgres,
            connections={"stability_default": simulator.connection(timeout=5)},
        ) as airflow,
    ):
        watch = Watch(airflow, simulator, postgres)
        watch.begin()
        watch.have(10, events=1)
        watch.have(22)  # back, but not by the band
        watch.have(10)
        watch.have(30)
        watch.have(150, events=1)
        watch.have(50)
        watch.have_without_triggerer(10, events=1)
        watch.have_without_triggerer(10, after=LOW)
        watch.have_without_triggerer(150, events=1)
        watch.have(50)
        watch.fire_and_see_the_order()
        watch.end()
        watch.read(canary)
        yield watch.story


def test_crossing_fires_once_across_triggerer_restarts(story: Story) -> None:
    assert list(story.fired.values()) == [
        [],
        [(LOW, 10)],
        [],
        [],
        [],
        [(HIGH, 150)],
        [],
        [(LOW, 10)],
        [],
        [(HIGH, 150)],
        [],
        [(LOW, 10)],
        [(HIGH, 900)],
    ], story.fired


def test_state_is_stored_after_the_event(story: Story) -> None:
    assert story.events_when_told == story.expected_when_told


def test_each_event_starts_one_run_with_its_credits(story: Story) -> None:
    assert story.runs == {LOW: {"success": 3}, HIGH: {"success": 3}}
    assert story.told == {LOW: [[10.0], [10.0], [10.0]], HIGH: [[150.0], [150.0], [900.0]]}


def test_watchers_and_gates_of_an_organization_share_one_poll(story: Story) -> None:
    assert story.asked <= story.seconds / INTERVAL + 2
    assert story.gates == {"success": GATES}


def test_only_the_watchers_are_left(story: Story) -> None:
    watcher = "airflow_provider_stability.triggers.crossing.BalanceCrossingTrigger"
    assert story.triggers_left == [watcher, watcher]


def test_no_trace_of_the_key_is_in_files_or_database(story: Story) -> None:
    assert not story.has_key
