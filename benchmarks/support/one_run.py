"""One measurement of one contender, in a process of its own: ``one_run.py OPTIONS RESULT``, both JSON.

The process starts the service and the trigger runner, and ends with whoever started it.
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

_BATCHES: Final = 5  # a triggerer gets its triggers a few at a time, and polls spread over the interval
_ANSWER: Final = 180.0  # seconds for the runner's answer: the loop of a peer stalls for many
_SETTLED: Final = 0.5


@dataclass(frozen=True)
class Options:
    """What to measure.

    :param contender: whom.
    :param gates: how many wait.
    :param organizations: on how many.
    :param interval: seconds between two polls.
    :param intervals: how many of them the measurement of CPU and requests lasts.
    :param mode: ``wait``, ``fail`` (the key is refused), ``stop`` (the process is, while a poll hangs), or
        ``fault`` with one in ``fault``.
    :param is_plain: whether in a plain event loop, instead of Airflow's trigger runner.
    :param fault: what the service does, as its simulator takes it.
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
    """A trigger runner with some gates, and the service they wait on."""

    def __init__(self, options: Options, service: Service, runner: Any) -> None:
        self.options = options
        self.service = service
        self.runner = runner
        self.contender = CONTENDERS[options.contender]
        self._scopes: list[str | None] = [*service.organizations] or [None]
        self._created = 0
        self._known: list[tuple[int, float, bool]] = []

    def ask(self, command: str, value: object = None) -> Any:
        """Ask the runner's process."""
        self.runner.channel.send((command, value))
        if not self.runner.channel.poll(_ANSWER):
            raise TimeoutError(f"the trigger runner did not answer {command!r} within {_ANSWER:g} s")
        return self.runner.channel.recv()

    def scope_of(self, trigger_id: int) -> str | None:
        """Return the organization of a trigger; they are numbered from 1."""
        return self._scopes[(trigger_id - 1) % len(self._scopes)]

    def create(self, count: int) -> None:
        """Let gates wait, and return when they run."""
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
        """Return all events so far: which trigger, when, whether it opened."""
        self._known += self.ask("events", len(self._known))
        return self._known

    def wait_for_events(self, seconds: float) -> list[tuple[int, float, bool]]:
        """Return the events as soon as each gate has had one, at the latest after so many seconds."""
        end = time.monotonic() + seconds
        while len(self.events()) < self._created and time.monotonic() < end:
            time.sleep(0.2)
        return self._known

    def sleep_intervals(self, count: float) -> None:
        """Let the gates wait."""
        time.sleep(count * self.options.interval)

    def top_up(self) -> float:
        """Make it enough for all gates, and return when that was."""
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
    run.sleep_intervals(_SETTLED)
    before = run.ask("memory")
    run.ask("lag", value=True)
    run.create(options.gates - 1)
    # Half an interval more, so that the window's ends fall between the polls of gates that started together.
    run.sleep_intervals(1 + _SETTLED)
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
    result["lag p99"], result["lag max"] = percentile(_as_met(lags), 0.99), max(lags)
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
    is_whole = len(times) == run.options.gates
    # Airflow 2.11 queues an event at once.
    fired = [when - at for when in run.ask("fired")] or times
    return {
        "opened": len(times),
        "first fired": min(fired, default=None),
        "last fired": max(fired) if is_whole else None,
        "first open": min(times, default=None),
        "last open": max(times) if is_whole else None,
        "spread": max(max(each) - min(each) for each in by_scope.values()) if is_whole else None,
        "open stall": stall,
    }


def _as_met(lags: list[float]) -> list[float]:
    """Return the lags that callbacks at any time would meet, not only those the sleeping probe met.

    One stall of a second is met once by the probe, and by 200 callbacks that were due in it.
    """
    met = []
    for lag in lags:
        left = lag
        met.append(left)
        while (left := left - STEP) > 0:
            met.append(left)
    return met


def measure_fault(run: Run) -> dict[str, float | None]:
    """Measure what gates ask while the service is broken."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLED)
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
    """Measure what it costs that all gates fail at once."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLED)
    cpu = run.ask("cpu")
    run.service.fail(status=401)
    found = run.wait_for_events(30.0)
    cpu = run.ask("cpu") - cpu
    times = [when for _, when, _ in found]
    return {"cpu": cpu, "ended": len(times), "spread": max(times) - min(times) if times else None}


def measure_stop(run: Run) -> dict[str, float | None]:
    """Measure how long the process takes to stop while a poll hangs."""
    run.create(run.options.gates)
    run.sleep_intervals(1 + _SETTLED)
    run.service.heal()
    run.service.fail(delay=600)
    run.sleep_intervals(1 + _SETTLED)
    end = os.pidfd_open(run.runner.pid)
    start = time.monotonic()
    os.kill(run.runner.pid, signal.SIGINT)
    has_ended = bool(select.select([end], [], [], 60)[0])
    took = time.monotonic() - start
    os.close(end)
    return {"stop": took if has_ended else None}


_MODES = {"wait": measure, "fault": measure_fault, "fail": measure_failing, "stop": measure_stop}


def main(options: Options) -> dict[str, float | None]:
    """Measure, and leave nothing behind."""
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
    """End this process and its children when whoever started it has gone, however that came."""

    def watch() -> None:
        # Not sys.stdin: a forked process would inherit its lock, held.
        os.read(0, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    found = main(Options(**json.loads(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # nothing is left to wait for, and the thread above never ends
