"""Measures one contender once: ``one_run.py OPTIONS RESULT``, both JSON.

The process starts the service and the trigger runner, and ends with its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow import __version__ as airflow_version

from benchmarks.support.contenders import CONTENDERS, IDLE, connections
from benchmarks.support.probe import STEP
from benchmarks.support.response_check import NEEDED
from benchmarks.support.service import Service
from benchmarks.support.tables import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.support.contenders import Trigger

_BATCHES: Final = 5  # triggers reach a triggerer a few at a time, so that polls are spread over the interval
_ANSWER_TIMEOUT: Final = 180.0  # seconds; the event loop of a peer can stall for long
_SETTLING: Final = 0.5  # of an interval


@dataclass(frozen=True)
class Options:
    """What to measure.

    :param contender: name of the contender.
    :param gates: number of gates.
    :param organizations: number of organizations.
    :param interval: seconds between two polls.
    :param intervals: for how many intervals CPU and requests are measured.
    :param mode: ``wait``; ``fail``, where the key is refused; ``stop``, where the process is stopped during a
        poll; or ``fault``, where the service has the fault ``fault``.
    :param is_plain: whether to use a plain event loop instead of Airflow's trigger runner.
    :param fault: arguments of the simulator's ``fail``.
    """

    contender: str
    gates: int
    organizations: int = 1
    interval: float = 5.0
    intervals: int = 3
    mode: str = "wait"
    is_plain: bool = False
    fault: dict[str, Any] | None = None


class Run:
    """A trigger runner with gates, and the service that they poll."""

    def __init__(self, options: Options, service: Service, runner: Any) -> None:
        self.options = options
        self.service = service
        self.runner = runner
        self.contender = CONTENDERS[options.contender]
        self._scopes: list[str | None] = [*service.organizations] or [None]
        self._created = 0
        self._events: list[tuple[int, float, bool]] = []

    def ask(self, command: str, value: object = None) -> Any:
        """Send a command to the runner's process and return its answer."""
        self.runner.channel.send((command, value))
        if not self.runner.channel.poll(_ANSWER_TIMEOUT):
            raise TimeoutError(f"the trigger runner did not answer {command!r} within {_ANSWER_TIMEOUT:g} s")
        return self.runner.channel.recv()

    def scope_of(self, trigger_id: int) -> str | None:
        """Return the organization of a trigger. Trigger ids start at 1."""
        return self._scopes[(trigger_id - 1) % len(self._scopes)]

    def create(self, count: int) -> None:
        """Create gates, and return when all run."""
        ids = range(self._created + 1, self._created + count + 1)
        self._created += count
        triggers = [self._trigger(each) for each in ids]
        size = -(-count // _BATCHES)
        for start in range(0, count, size):
            self.runner.create(triggers[start : start + size])
            if count > 1:
                time.sleep(self.options.interval / _BATCHES)
        while self.ask("running") < self._created:
            time.sleep(0.1)

    def _trigger(self, number: int) -> Trigger:
        return self.contender.trigger(self.scope_of(number), self.options.interval)

    def events(self) -> list[tuple[int, float, bool]]:
        """Return all events so far: trigger id, time, and whether the gate opened."""
        self._events += self.ask("events", len(self._events))
        return self._events

    def wait_for_events(self, seconds: float) -> list[tuple[int, float, bool]]:
        """Wait for an event of each gate, at most ``seconds``, and return the events."""
        end = time.monotonic() + seconds
        while len(self.events()) < self._created and time.monotonic() < end:
            time.sleep(0.2)
        return self._events

    def sleep_intervals(self, count: float) -> None:
        """Sleep for ``count`` poll intervals."""
        time.sleep(count * self.options.interval)

    def top_up(self) -> float:
        """Let all gates open, and return the monotonic time of that."""
        if self.options.contender == IDLE:
            at = time.monotonic()
            self.ask("open")
            return at
        if not self.contender.waits_for_404:
            return self.service.set_credits(NEEDED + 10)
        at = time.monotonic()
        self.service.heal()
        return at


def measure(run: Run) -> dict[str, float | None]:
    """Measure gates that wait and then open."""
    options = run.options
    run.create(1)
    run.sleep_intervals(_SETTLING)
    before = run.ask("memory")
    run.ask("lag", value=True)
    run.create(options.gates - 1)
    # Another half interval, so that the window starts and ends between polls of gates that started together.
    run.sleep_intervals(1 + _SETTLING)
    opening = run.ask("lag", value=False)
    result: dict[str, float | None] = {
        "opening stall": max(opening),
        "memory": (run.ask("memory") - before) / max(1, options.gates - 1),
    }
    start, cpu, clock = time.time(), run.ask("cpu"), time.monotonic()
    run.sleep_intervals(options.intervals)
    result["cpu"] = (run.ask("cpu") - cpu) / (time.monotonic() - clock) * 60
    requests = run.service.requests(start, start + options.intervals * options.interval)
    result["requests"] = sum(requests.values()) / options.intervals
    result["429"] = requests.get("429", 0)
    run.ask("lag", value=True)
    run.sleep_intervals(2)
    lags = run.ask("lag", value=False)
    result["lag p99"], result["lag max"] = percentile(_at_any_time(lags), 0.99), max(lags)
    return result | _open(run)


def _open(run: Run) -> dict[str, float | None]:
    run.ask("lag", value=True)
    at = run.top_up()
    found = run.wait_for_events(30 + 2 * run.options.interval)
    stall = max(run.ask("lag", value=False), default=0.0)
    times = [when - at for _, when, is_open in found if is_open]
    by_scope: dict[str | None, list[float]] = {}
    for trigger_id, when, _ in found:
        by_scope.setdefault(run.scope_of(trigger_id), []).append(when)
    is_complete = len(times) == run.options.gates
    # Airflow 2.11 queues an event immediately.
    fired = [when - at for when in run.ask("fired")] or times
    return {
        "opened": len(times),
        "first fired": min(fired, default=None),
        "last fired": max(fired) if is_complete else None,
        "first open": min(times, default=None),
        "last open": max(times) if is_complete else None,
        "spread": max(max(each) - min(each) for each in by_scope.values()) if is_complete else None,
        "open stall": stall,
    }


def _at_any_time(lags: list[float]) -> list[float]:
    """Return the lags of callbacks at any time, from those that the probe measured.

    The probe measures a stall of one second once, although 200 callbacks could have been due during it.
    """
    found = []
    for lag in lags:
        remaining = lag
        found.append(remaining)
        while (remaining := remaining - STEP) > 0:
            found.append(remaining)
    return found


def measure_fault(run: Run) -> dict[str, float | None]:
    """Measure the requests of gates while the service fails."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLING)
    assert run.options.fault is not None
    run.service.heal()
    run.service.fail(**run.options.fault)
    start, cpu, clock = time.time(), run.ask("cpu"), time.monotonic()
    run.sleep_intervals(run.options.intervals)
    requests = run.service.requests(start, start + run.options.intervals * run.options.interval)
    return {
        "requests": sum(requests.values()) / run.options.intervals,
        "total": sum(requests.values()),
        "cpu": (run.ask("cpu") - cpu) / (time.monotonic() - clock) * 60,
        "ended": len(run.events()),
    }


def measure_failing(run: Run) -> dict[str, float | None]:
    """Measure the cost of failing all gates at once."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLING)
    cpu = run.ask("cpu")
    run.service.fail(status=401)
    found = run.wait_for_events(30.0)
    cpu = run.ask("cpu") - cpu
    times = [when for _, when, _ in found]
    return {"cpu": cpu, "ended": len(times), "spread": max(times) - min(times) if times else None}


def measure_stop(run: Run) -> dict[str, float | None]:
    """Measure how long the process takes to stop during a poll that hangs."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLING)
    run.service.heal()
    run.service.fail(delay=600)
    run.sleep_intervals(1 + _SETTLING)
    end = os.pidfd_open(run.runner.pid)
    start = time.monotonic()
    os.kill(run.runner.pid, signal.SIGINT)
    has_ended = bool(select.select([end], [], [], 60)[0])
    took = time.monotonic() - start
    os.close(end)
    return {"stop": took if has_ended else None}


_MODES = {"wait": measure, "fault": measure_fault, "fail": measure_failing, "stop": measure_stop}


def main(options: Options) -> dict[str, float | None]:
    """Run the measurement, and end all processes."""
    contender = CONTENDERS[options.contender]
    organizations = options.organizations if options.organizations > 1 else 0
    with Service(organizations=organizations, is_limited=contender.is_limited) as service:
        if contender.waits_for_404:
            service.fail(status=404)
        os.environ.update(connections(service.base_url))
        with _runner(is_plain=options.is_plain) as runner:
            return _MODES[options.mode](Run(options, service, runner))


@contextmanager
def _runner(*, is_plain: bool) -> Iterator[Any]:
    if is_plain:
        from benchmarks.support.runner_plain import Runner
    elif airflow_version.startswith("2."):
        from benchmarks.support.runner_2 import Runner  # type: ignore[assignment]
    else:
        from benchmarks.support.runner_3 import Runner  # type: ignore[assignment]
    runner = Runner()
    try:
        yield runner
    finally:
        runner.stop()


def _end_with_parent() -> None:
    """End this process and its children when its parent ends, for whatever reason."""

    def watch() -> None:
        # Not sys.stdin: a forked process would inherit its lock while it is held.
        os.read(0, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    found = main(Options(**json.loads(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # the thread above never ends
