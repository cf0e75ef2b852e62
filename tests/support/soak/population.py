"""The gates of a soak, in a process of their own: ``python -m support.soak.population OPTIONS``.

It takes orders as lines of JSON on standard input, and ends with it. The triggers run in a plain event loop:
what a trigger runner adds to them is Airflow's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from airflow import __version__ as airflow_version

from airflow_provider_stability.polling.registry import registries
from airflow_provider_stability.triggers.balance import BalanceTrigger
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger
from support.soak.leftovers import objects, resources, threads_left
from support.soak.record import Gate, Watcher, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CONNECTION: Final = "AIRFLOW_CONN_STABILITY_DEFAULT"
_LOOK_EVERY: Final = 0.1
_STALL: Final = 0.5  # seconds that the event loop is late from which on it counts as one
_WATCHERS: Final = 0.05  # of all
_MORTAL: Final = 0.4  # of the gates: those that have an end
_LATE: Final = 0.03  # those whose end is over when they come
_CANCELLED: Final = 0.1
_PATIENT: Final = 0.02  # those that want more than there will ever be
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of the process; see ``Plan``.

    :param organizations: by name; None is the account's default.
    :param default: the name that the account's default has at the service.
    :param record: the file in which to write down what becomes of each.
    """

    seed: int
    gates: int
    organizations: list[str | None]
    default: str
    intervals: list[float]
    life: float
    comes_after: float
    recovers_after: float
    record: str


class Population:
    """Gates that come and go, always as many.

    :param orders: lines of JSON.
    :param answer: where the answers go.
    """

    def __init__(self, options: Options, record: TextIO, answer: TextIO) -> None:
        self._options = options
        self._record = record
        self._answer = answer
        self._random = random.Random(options.seed)  # noqa: S311  # to be had again is the point
        self._tasks: dict[asyncio.Task[None], bool] = {}
        self._counts: Counter[str] = Counter()
        self._number = 0
        self._longest_stall = 0.0
        self._is_ending = False
        self._loop = asyncio.get_running_loop()

    async def run(self, orders: AsyncIterator[dict[str, Any]]) -> None:
        """Live until told to end."""
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch_the_loop())
            async for order in orders:
                if order["do"] == "connect":
                    self._connect(order["connection"])
                elif order["do"] == "begin":
                    for _ in range(self._options.gates):
                        self._come()
                elif order["do"] == "report":
                    self._reply(self._report())
                elif order["do"] == "end":
                    break
            watch.cancel()
        await self._end()

    def _connect(self, connection: str) -> None:
        os.environ[_CONNECTION] = connection
        write(self._record, "key", (time.time(), json.loads(connection)["password"]))

    def _come(self) -> None:
        if self._is_ending:
            return
        self._number += 1
        is_watcher = self._random.random() < _WATCHERS
        task = self._loop.create_task(
            self._watch(self._number) if is_watcher else self._wait(self._number), name="soak-gate"
        )
        self._tasks[task] = False
        task.add_done_callback(self._tasks.pop)
        if is_watcher or self._random.random() < _CANCELLED:
            self._loop.call_later(self._random.uniform(0, self._options.life), self._cancel, task)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks[task] = True
            task.cancel()

    async def _wait(self, number: int) -> None:
        chance, options = self._random, self._options
        organization = chance.choice(options.organizations)
        needed = 10_000.0 if chance.random() < _PATIENT else round(chance.uniform(0, 110), 2)
        interval = chance.choice(options.intervals)
        end_time = None
        if needed < 1000 and chance.random() < _MORTAL:
            end_time = time.time() + chance.uniform(0, options.life)
            if chance.random() < _LATE:
                end_time -= options.life
        trigger = BalanceTrigger(
            min_credits=needed, organization=organization, poke_interval=interval, end_time=end_time
        )
        joined = time.time()
        outcome, available, error = "nothing", None, None
        try:
            async for event in trigger.run():
                payload: Any = event.payload
                outcome, available, error = payload["status"], payload.get("credits"), payload.get("kind")
                if outcome == "success":
                    outcome = "opened"
        except asyncio.CancelledError:
            outcome = self._cancelled()
        except Exception as raised:  # noqa: BLE001  # nothing may escape a trigger; what does, is judged
            outcome = repr(raised)
        gate = Gate(
            number=number,
            organization=organization or options.default,
            needed=needed,
            interval=interval,
            joined=joined,
            ended=time.time(),
            end_time=end_time,
            outcome=outcome,
            credits=available,
            error=error,
        )
        self._gone("gate", gate, outcome)

    async def _watch(self, number: int) -> None:
        chance, options = self._random, self._options
        organization = chance.choice(options.organizations)
        given: dict[str, Any] = {
            "threshold": round(chance.uniform(5, 60), 2),
            "direction": chance.choice(["below", "above"]),
        }
        band, interval = (
            round(chance.choice([0.0, chance.uniform(0, 5)]), 2),
            chance.choice(options.intervals),
        )
        trigger = BalanceCrossingTrigger(
            **given, rearm_band=band, organization=organization, poke_interval=interval
        )
        joined = time.time()
        events: list[tuple[float, float]] = []
        outcome = "nothing"
        try:
            async for event in trigger.run():
                payload: Any = event.payload
                events.append((time.time(), payload["credits"]))
                self._counts["fired"] += 1
        except asyncio.CancelledError:
            outcome = self._cancelled()
        except Exception as raised:  # noqa: BLE001  # as above
            outcome = repr(raised)
        watcher = Watcher(
            number=number,
            organization=organization or options.default,
            **given,
            band=band,
            interval=interval,
            joined=joined,
            ended=time.time(),
            events=events,
            outcome=outcome,
        )
        self._gone("watcher", watcher, outcome)

    def _cancelled(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        return "cancelled" if self._tasks[task] or self._is_ending else "cancelled by itself"

    def _gone(self, kind: str, what: Gate | Watcher, outcome: str) -> None:
        write(self._record, kind, what)
        self._counts[outcome] += 1
        options = self._options
        after = options.recovers_after if outcome == "failed" else options.comes_after
        if not self._is_ending:
            self._loop.call_later(self._random.uniform(0, after), self._come)

    async def _watch_the_loop(self) -> None:
        before = time.time()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = time.time()
            if (late := now - before - _LOOK_EVERY) > _STALL:
                write(self._record, "stall", (before, now))
                self._longest_stall = max(self._longest_stall, late)
            before = now

    def _report(self) -> dict[str, Any]:
        self._record.flush()
        return {
            "waiting": len(self._tasks),
            "counts": dict(self._counts),
            "longest_stall": self._longest_stall,
            **resources(),
        }

    def _reply(self, answer: dict[str, Any]) -> None:
        self._answer.write(json.dumps(answer) + "\n")
        self._answer.flush()

    async def _end(self) -> None:
        """Send everybody away, and tell what is left then."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([*self._tasks])
        deadline = time.monotonic() + _PATIENCE
        # A poll that is cancelled takes some turns of the loop to end.
        while (left := self._polls_left()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self._reply({**self._report(), "polls": left})

    def _polls_left(self) -> list[str]:
        registry = registries.get(self._loop)
        pollers = [f"poller of {name}" for name in registry.pollers] if registry is not None else []
        tasks = [each.get_name() for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        return sorted(pollers + tasks)


def be_quiet() -> None:
    """Let log lines be made as in a triggerer, and dropped: a file per gate is not what is looked at."""
    if airflow_version.startswith("2."):
        logging.lastResort = None
        for handler in logging.getLogger("airflow").handlers + logging.getLogger().handlers:
            handler.emit = handler.format  # type: ignore[method-assign,assignment]
    else:
        from airflow.sdk.log import configure_logging, reset_logging  # noqa: PLC0415  # 3.x has it

        reset_logging()  # type: ignore[no-untyped-call]
        nowhere = Path(os.devnull).open("wb", buffering=0)  # noqa: SIM115  # for as long as the process lives
        configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)


async def orders() -> AsyncIterator[dict[str, Any]]:
    """Yield what comes in on standard input."""
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


def main() -> None:
    """Serve until told to end, and answer last what has outlived the event loop."""
    options = Options(**json.loads(sys.argv[1]))
    # What anybody prints must not get between the answers.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    be_quiet()
    sys.excepthook = sys.__excepthook__  # Airflow's is quiet, too
    before = resources()

    async def live() -> None:
        with Path(options.record).open("w", encoding="utf-8") as record:  # noqa: ASYNC230  # before it begins
            await Population(options, record, answer).run(orders())

    asyncio.run(live())
    deadline = time.monotonic() + _PATIENCE
    while (threads := threads_left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Looking for objects also collects garbage, which may hold sockets.
    left: dict[str, Any] = {"threads": threads, "objects": objects()}
    left["sockets"] = resources()["sockets"] - before["sockets"]
    answer.write(json.dumps(left) + "\n")
    answer.flush()


if __name__ == "__main__":
    main()
