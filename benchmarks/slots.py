"""The cost of waiting in workers, per gate: processes started, and seconds for which they hold a slot.

Measured with a real scheduler, triggerer and LocalExecutor (``airflow standalone``) and a simulated service.
The ways to wait take turns in the same Airflow: ten gates start, wait about 40 s for a top-up, and end. Needs
Linux, and takes about 8 minutes.

This file is also the DAG file. Airflow gets one copy for each way to wait, named after it, so that parsing
the others costs it nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_stability.simulator import Simulator

GATES: Final = 10
WAIT: Final = 40.0  # seconds from the start of the last gate to the top-up
NEEDED: Final = 40
HTTP: Final = "http_stability"

_EVERY: Final[dict[str, Any]] = {"poke_interval": 10, "timeout": 600}


def _ours(task_id: str, **kwargs: Any) -> None:
    from airflow_provider_stability.sensors.balance import BalanceSensor

    BalanceSensor(task_id=task_id, min_credits=NEEDED, **_EVERY, **kwargs)


def _http(task_id: str, **kwargs: Any) -> None:
    # Not installed where types are checked.
    sensor: Any = import_module("airflow.providers.http.sensors.http").HttpSensor
    sensor(
        task_id=task_id,
        http_conn_id=HTTP,
        endpoint="v1/user/balance",
        response_check=lambda response: response.json()["credits"] >= NEEDED,
        **_EVERY,
        **kwargs,
    )


def _by_hand(task_id: str) -> None:
    from airflow.providers.common.compat.sdk import BaseHook, PokeReturnValue, task

    @task.sensor(task_id=task_id, **_EVERY)
    def gate() -> PokeReturnValue:
        import requests

        connection = BaseHook.get_connection(HTTP)
        answer = requests.get(
            f"{connection.host}/v1/user/balance", headers=connection.extra_dejson, timeout=10
        )
        answer.raise_for_status()
        found = answer.json()["credits"]
        return PokeReturnValue(is_done=found >= NEEDED, xcom_value=found)

    gate()


@dataclass(frozen=True)
class Way:
    """A way to wait: its name in the table, and how to make a gate of it."""

    name: str
    make: Callable[..., None]
    parameters: dict[str, Any] = field(default_factory=dict)


BASE: Final = "http_poke"  # the reference of the ratios
WAYS: Final = {
    BASE: Way("HttpSensor, poke", _http),
    "ours_poke": Way("BalanceSensor, poke", _ours),
    "http_deferrable": Way("HttpSensor, deferrable=True", _http, {"deferrable": True}),
    "ours_deferrable": Way("BalanceSensor, deferrable=True", _ours, {"deferrable": True}),
    "by_hand": Way("a hand-written @task.sensor", _by_hand),
    "ours_reschedule": Way("BalanceSensor, reschedule", _ours, {"mode": "reschedule"}),
    "ours_no_worker": Way(
        "BalanceSensor, start_ and end_from_trigger",
        _ours,
        {"start_from_trigger": True, "end_from_trigger": True},
    ),
}


def define_dag(dag_id: str) -> Any:
    """Return the DAG with the gates of one way."""
    from airflow.providers.common.compat.sdk import DAG

    way = WAYS[dag_id]
    with DAG(dag_id, start_date=datetime(2025, 1, 1, tzinfo=UTC), schedule=None) as dag:
        for number in range(GATES):
            way.make(f"gate_{number}", **way.parameters)
    return dag


class Workers(threading.Thread):
    """Watches the processes that run tasks.

    :param processes: returns the command lines of all processes, by process id.
    """

    # Airflow 3 forks one process for each start of a task and names it after the task instance. 2.11 has two,
    # of which the supervisor lives as long as the slot is taken.
    _TITLE = re.compile(r"airflow worker -- [0-9a-f]{8}-|airflow task supervisor: ")
    _PERIOD = 0.2

    def __init__(self, processes: Callable[[], dict[int, str]]) -> None:
        super().__init__(daemon=True)
        self._processes = processes
        self._seen: dict[tuple[int, float], float] = {}  # by id and start: when it was last seen
        self._boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._ended = threading.Event()

    def run(self) -> None:
        """Watch until ``stop``."""
        while not self._ended.wait(self._PERIOD):
            now = time.time()
            for process, title in self._processes().items():
                if self._TITLE.match(title) and (start := self._start(process)):
                    self._seen[process, start] = now

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self.join()

    def lives(self) -> Iterator[float]:
        """Yield the lifetime of each process in seconds, accurate to half a period."""
        for (_, start), last in self._seen.items():
            yield last + self._PERIOD / 2 - start

    def is_idle(self) -> bool:
        """Return whether no task has run for five periods."""
        return not self._seen or max(self._seen.values()) < time.time() - 5 * self._PERIOD

    def _start(self, process: int) -> float | None:
        try:
            stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        except OSError:  # it has ended meanwhile
            return None
        # The 22nd field. The second is the name in brackets, which may contain anything.
        ticks = int(stat.rpartition(")")[2].split()[19])
        return self._boot + ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """The cost of one way to wait, per gate."""

    starts: float
    seconds: float
    requests: float


def measure(airflow: Any, simulator: Simulator, dag_id: str) -> Cost:
    """Run the gates of one way to wait, from their start to after the top-up."""
    simulator.set_credits(10)
    simulator.reset_requests()
    workers = Workers(airflow.processes)
    workers.start()
    try:
        airflow.trigger(dag_id)
        airflow.wait_until(
            lambda: sum(state in _WAITING for state in airflow.states(dag_id).values()) == GATES,
            120,
            f"the gates of {dag_id} to wait",
        )
        airflow.wait_until(_timer(WAIT), WAIT + 10, "the top-up")
        simulator.top_up(50)
        airflow.wait_until(
            lambda: set(airflow.states(dag_id).values()) == {"success"}, 120, f"the gates of {dag_id} to open"
        )
        airflow.wait_until(workers.is_idle, 60, "the workers to end")
    finally:
        workers.stop()
    lives = list(workers.lives())
    return Cost(len(lives) / GATES, sum(lives) / GATES, simulator.count() / GATES)


_WAITING: Final = {"running", "deferred", "up_for_reschedule"}


def _timer(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def main() -> None:
    """Measure each way to wait, and print the table."""
    root = Path(__file__).parents[1]
    sys.path[:0] = [str(root), str(root / "tests")]
    from airflow_provider_stability.simulator import Simulator
    from benchmarks.support.processes import end_on_sigterm
    from benchmarks.support.tables import Bars, machine, number, ratio, show, table
    from support.standalone import Standalone

    end_on_sigterm()
    costs = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Simulator() as simulator:
        dags = [Path(folder) / f"{dag_id}.py" for dag_id in WAYS]
        for each in dags:
            shutil.copy(__file__, each)
        connections = {
            "stability_default": simulator.connection(),
            HTTP: json.dumps(
                {
                    "conn_type": "http",
                    "host": simulator.base_url,
                    "extra": {"Authorization": f"Bearer {simulator.api_key}"},
                }
            ),
        }
        # Enough slots that no gate waits for another.
        with Standalone(dags, connections=connections, parallelism=GATES + 2) as airflow:
            for dag_id, way in WAYS.items():
                show(f"{way.name} ...")
                costs[dag_id] = measure(airflow, simulator, dag_id)
    base = costs[BASE]
    show(f"\nPer gate; {GATES} gates at a time, top-up {WAIT:g} s after the last has started, a poll every")
    show(f"{_EVERY['poke_interval']} s. Ratios are relative to {WAYS[BASE].name}. {machine()}\n")
    head = ("way to wait", "worker processes", "ratio", "worker seconds", "ratio", "requests")
    rows = [
        (
            WAYS[dag_id].name,
            number(cost.starts),
            ratio(cost.starts, base.starts),
            number(cost.seconds),
            ratio(cost.seconds, base.seconds),
            number(cost.requests),
        )
        for dag_id, cost in costs.items()
    ]
    show(table(head, rows))
    bars = Bars()
    bars.at_most("worker processes per gate on the zero-worker path", costs["ours_no_worker"].starts, 0)
    bars.show()
    sys.exit(not bars.all_met)


if __name__ == "__main__":
    main()
elif Path(__file__).stem in WAYS:
    dag = define_dag(Path(__file__).stem)
