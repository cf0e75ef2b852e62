"""Gates on a real Airflow: scheduler, triggerer and workers as processes, and a key that is rotated.

It takes a minute, so it happens once, and each test looks at a part of what happened.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER
from support.canary import Canary
from support.programs import DAGS
from support.standalone import AIRFLOW_3, Standalone

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes to end in /proc")

CANARY: Final = Canary()
NEXT_CANARY: Final = Canary()
INTERVAL: Final = 5.0  # of the gates
GATES: Final = 40  # of each DAG, half on each organization
DEFAULT: Final = "org-default"  # also of a request that names none
ORGANIZATIONS: Final = (DEFAULT, "org-b")
DEFERRED: Final = ("real_deferrable", *(["real_no_worker"] if STARTS_IN_TRIGGERER else []))
EVERY: Final = (*DEFERRED, "real_reschedule")
ENDS: Final = {"success", "failed", "skipped"}
# Not whole: on SQLite, Airflow 3 gives a stored 60.0 back as 60, whatever pushed it.
TOPPED_UP: Final = 60.5


@dataclass
class Story:
    """What happened."""

    timed_out: dict[str, str] = field(default_factory=dict)
    timeout_logs: list[str] = field(default_factory=list)
    intervals: float = 0.0  # so long it was watched
    asked: Counter[str] = field(default_factory=Counter)  # meanwhile, by organization
    after_rotation: list[tuple[bool, int]] = field(default_factory=list)  # whether the new key, the answer
    waiting_after_rotation: int = 0
    triggers_left: int = 0
    rescheduled_asked: int = 0
    last_opened_after: float = 0.0
    states: dict[str, Counter[str]] = field(default_factory=dict)
    xcoms: dict[str, list[Any]] = field(default_factory=dict)
    seen_by_workers: dict[str, int] = field(default_factory=dict)
    gate_logs: list[str] = field(default_factory=list)
    searched: Counter[str] = field(default_factory=Counter)  # places of each kind
    found_a_key: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with (
        Simulator(
            credits=10, organizations={"org-b": 10, "org-c": 10, "org-d": 10}, api_key=CANARY.key
        ) as simulator,
        Standalone([DAGS / "real_gates.py"]) as airflow,
    ):
        story = Story()
        connection = {
            "connection_id": "stability_default",
            "conn_type": "stability",
            "host": simulator.base_url,
        }
        # In the database and not in the environment, so that it can change.
        airflow.api("POST", "/connections", {**connection, "password": CANARY.key})
        _wait(story, simulator, airflow)
        _rotate(story, simulator, airflow, connection)
        _top_up(story, simulator, airflow)
        _read(story, airflow)
        yield story


def _wait(story: Story, simulator: Simulator, airflow: Standalone) -> None:
    for dag_id in ("real_timeout", *DEFERRED):
        airflow.trigger(dag_id)
    airflow.wait_until(lambda: _has_ended(airflow, "real_timeout"), 240, "the timeouts")
    story.timed_out = airflow.states("real_timeout")
    story.timeout_logs = [airflow.task_log("real_timeout", task_id) for task_id in story.timed_out]
    every = GATES * len(DEFERRED)
    airflow.wait_until(lambda: _waiting(airflow) == every or _ended_gates(airflow), 180, "all gates to wait")
    for dag_id, task_id in _ended_gates(airflow):
        pytest.fail(f"{task_id} should wait, and has ended:\n{airflow.task_log(dag_id, task_id)}")
    _await_polls(simulator, 1)
    since = simulator.requests[-1].at
    airflow.wait_until(lambda: simulator.requests[-1].at > since + 2.5 * INTERVAL, 40, "some polls")
    until = simulator.requests[-1].at
    story.intervals = (until - since) / INTERVAL
    story.asked = Counter(
        each.organization or DEFAULT for each in simulator.requests if since < each.at <= until
    )


def _rotate(story: Story, simulator: Simulator, airflow: Standalone, connection: dict[str, str]) -> None:
    before = simulator.count()
    airflow.api("PATCH", "/connections/stability_default", {**connection, "password": NEXT_CANARY.key})
    simulator.rotate_key(NEXT_CANARY.key)
    _await_polls(simulator, 2)
    story.after_rotation = [
        (each.headers["authorization"].endswith(NEXT_CANARY.key), each.status)
        for each in simulator.requests[before:]
        if each.status  # 0 is one that is just being answered
    ]
    story.waiting_after_rotation = _waiting(airflow)


def _top_up(story: Story, simulator: Simulator, airflow: Standalone) -> None:
    # Only now: a poke that had read the connection just before the rotation would rightly fail.
    airflow.trigger("real_reschedule")
    airflow.wait_until(
        lambda: airflow.states("real_reschedule") == {"gate": "up_for_reschedule"}, 120, "the first poke"
    )
    for organization in (*ORGANIZATIONS, "org-c"):
        simulator.set_credits(TOPPED_UP, organization)
    at = time.time()
    airflow.wait_until(lambda: all(_has_ended(airflow, each) for each in EVERY), 180, "every task to end")
    story.rescheduled_asked = simulator.count(organization="org-c")
    # That the last poll was the last shows in nothing but that none comes.
    with pytest.raises(TimeoutError):
        simulator.wait_for_requests(simulator.count() + 1, 2 * INTERVAL)
    (story.triggers_left,) = airflow.query("SELECT count(*) FROM trigger")[0]
    opened = [
        _seconds(line)
        for each in airflow.logs()
        if ".log.trigger." in each.name
        for line in each.read_text(encoding="utf-8").splitlines()
        if " fired" in line
    ]
    story.last_opened_after = max(opened) - at


def _read(story: Story, airflow: Standalone) -> None:
    for dag_id in EVERY:
        states = airflow.states(dag_id)
        story.states[dag_id] = Counter(states.values())
        story.xcoms[dag_id] = [
            json.loads(value) if isinstance(value, bytes | str) else value
            for (value,) in airflow.query(
                "SELECT value FROM xcom WHERE dag_id = ? AND key = 'return_value'", dag_id
            )
        ]
        (story.seen_by_workers[dag_id],) = airflow.query(
            "SELECT count(pid) FROM task_instance WHERE dag_id = ?", dag_id
        )[0]
        if dag_id in DEFERRED:
            story.gate_logs += [airflow.task_log(dag_id, task_id) for task_id in states]
    _search(story, airflow)


def _search(story: Story, airflow: Standalone) -> None:
    """Look for the keys in all that is left of a whole run: of the database it takes every table."""
    places: list[tuple[str, str, bytes]] = [
        *(("log", str(each), each.read_bytes()) for each in airflow.logs()),
        *(("database", str(each), each.read_bytes()) for each in airflow.home.glob("airflow.db*")),
        *(("home", str(each), each.read_bytes()) for each in airflow.home.rglob("*") if each.is_file()),
        *(("process", line, line.encode()) for line in airflow.processes().values()),
        *(("REST", path, json.dumps(answer).encode()) for path, answer in _rest(airflow)),
    ]
    for kind, name, text in places:
        story.searched[kind] += 1
        if CANARY.found_in(text) or NEXT_CANARY.found_in(text):
            story.found_a_key.append(f"{kind} {name}")


def _rest(airflow: Standalone) -> Iterator[tuple[str, Any]]:
    """Ask for all that Airflow shows of the connection, and of one gate of each DAG."""
    yield from ((path, airflow.api("GET", path)) for path in ("/connections", "/eventLogs?limit=100"))
    for dag_id in EVERY:
        runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns")
        yield f"{dag_id} runs", runs
        tasks = f"/dags/{dag_id}/dagRuns/{runs['dag_runs'][0]['dag_run_id']}/taskInstances"
        answer = airflow.api("GET", tasks)
        yield tasks, answer  # with the rendered templates of each
        task = f"{tasks}/{answer['task_instances'][0]['task_id']}"
        for what in ("xcomEntries", "xcomEntries/return_value", "links", "tries"):
            yield f"{task}/{what}", airflow.api("GET", f"{task}/{what}")
        if AIRFLOW_3:  # 2.11 gives logs as plain text; they are searched as files
            yield f"{task}/logs/1", airflow.api("GET", f"{task}/logs/1?full_content=true")


def _waiting(airflow: Standalone) -> int:
    return sum(list(airflow.states(each).values()).count("deferred") for each in DEFERRED)


def _ended_gates(airflow: Standalone) -> list[tuple[str, str]]:
    return [
        (dag_id, task_id)
        for dag_id in DEFERRED
        for task_id, state in airflow.states(dag_id).items()
        if state in ENDS
    ]


def _has_ended(airflow: Standalone, dag_id: str) -> bool:
    states = airflow.states(dag_id)
    return bool(states) and set(states.values()) <= ENDS


def _await_polls(simulator: Simulator, count: int) -> None:
    """Return when each organization has been asked about so many more times."""
    before = Counter(each.organization or DEFAULT for each in simulator.requests)
    deadline = time.monotonic() + 10 * INTERVAL
    while any(simulator.count(organization=each) < before[each] + count for each in ORGANIZATIONS):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _seconds(line: str) -> float:
    """Return when a line was logged, in seconds since the epoch."""
    match = re.search(r"\d{4}-\d\d-\d\dT[\d:.]+", line)
    assert match
    return datetime.fromisoformat(match[0]).replace(tzinfo=UTC).timestamp()


def test_gates_of_an_organization_share_one_poll(story: Story) -> None:
    for organization in ORGANIZATIONS:
        # One at each end may or may not fall into the time.
        assert abs(story.asked[organization] - story.intervals) < 1.5, story.asked
    assert set(story.asked) == set(ORGANIZATIONS)


def test_rotated_key_is_picked_up_during_the_wait(story: Story) -> None:
    assert story.waiting_after_rotation == GATES * len(DEFERRED)
    refused = [each for each in story.after_rotation if each[1] == 401]
    # The old key once for each organization at most: both may be asked about at the same moment.
    assert len(refused) <= len(ORGANIZATIONS)
    assert not any(is_new for is_new, _ in refused)
    assert story.after_rotation[-1] == (True, 200)


@pytest.mark.parametrize("dag_id", DEFERRED)
def test_every_gate_opens_and_pushes_the_same_float(story: Story, dag_id: str) -> None:
    assert story.states[dag_id] == {"success": GATES}
    assert story.xcoms[dag_id] == [TOPPED_UP] * GATES
    assert {type(each) for each in story.xcoms[dag_id]} == {float}


def test_every_gate_opens_within_its_interval(story: Story) -> None:
    # What is above the interval is for a machine that is busy; less than a poll that was missed.
    assert 0 <= story.last_opened_after < INTERVAL + 4


def test_timeout_is_not_retried(story: Story) -> None:
    assert story.timed_out == {"fails": "failed", "skips": "skipped"}
    for log in story.timeout_logs:
        assert "Timed out after 10 s. " in log, log
        # Airflow's own limit, which comes to the rescue where the gate's does not work, has other words.
        assert "no triggerer ended the wait" not in log


def test_polling_stops_after_the_last_gate(story: Story) -> None:
    assert story.triggers_left == 0


@pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="this Airflow starts no task in the triggerer")
def test_gate_that_starts_and_ends_in_the_triggerer_uses_no_worker(story: Story) -> None:
    assert story.seen_by_workers["real_no_worker"] == 0
    assert story.seen_by_workers["real_deferrable"] == GATES  # the question is one that has an answer


def test_each_gate_logs_its_own_lines_only(story: Story) -> None:
    assert len(story.gate_logs) == GATES * len(DEFERRED)
    for log in story.gate_logs:
        assert log.count("10 credits, need 40, short 30") == 1, log
        assert log.count("60.5 credits, need 40: open") == 1, log  # from the worker or from the triggerer


def test_rescheduled_gate_opens(story: Story) -> None:
    assert story.states["real_reschedule"] == {"success": 1}
    assert story.xcoms["real_reschedule"] == [TOPPED_UP]
    assert story.rescheduled_asked == 2


def test_no_key_is_left_anywhere(story: Story) -> None:
    assert not story.found_a_key
    assert set(story.searched) == {"log", "database", "home", "process", "REST"}
