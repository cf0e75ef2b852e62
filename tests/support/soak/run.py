"""Runs a soak and judges it."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from support.soak.gates_process import GatesProcess
from support.soak.judge_gates import judge_gates
from support.soak.judge_requests import judge_requests
from support.soak.judge_watchers import judge_watchers
from support.soak.record import Record, read
from support.soak.service import Chaos, Service
from support.soak.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.soak.judge_gates import Verdicts
    from support.soak.judge_requests import Manners
    from support.soak.plan import Plan

__all__ = ["Look", "Result", "soak"]

_LOOK_EVERY: Final = 0.1
_STALL: Final = 0.5
_LOOKS: Final = 20  # at the memory, from the warm-up to the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the gates' process has at a moment.

    :param at: seconds since the beginning.
    :param memory: bytes.
    :param requests: that the service has seen so far.
    """

    at: float
    waiting: int
    counts: dict[str, int]
    memory: int
    threads: int
    sockets: int
    longest_stall: float


@dataclass(slots=True, kw_only=True)
class Result:
    """The result of a soak.

    :param left: what was there after the last gate had gone, by kind; empty where nothing was.
    :param memory: at times since the beginning, from the warm-up on.
    """

    gates: Verdicts
    watchers: Verdicts
    manners: Manners
    record: Record
    done: Counter[str]
    looks: list[Look] = field(default_factory=list)
    left: dict[str, Any] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)


def soak(plan: Plan, say: Callable[[Look], None]) -> Result:
    """Run one.

    :param say: called with a sample now and then.
    """
    record = Record(limit=plan.limit)
    looks: list[Look] = []
    memory: list[tuple[float, int]] = []
    with (
        tempfile.TemporaryDirectory(prefix="stability-soak-") as home,
        _Stalls(record),
        Service(plan, record) as service,
        GatesProcess(plan, Path(home)) as process,
    ):
        chaos = Chaos(plan, service, lambda connection: process.order("connect", connection=connection))
        process.order("connect", connection=service.connection)
        process.ask("report")  # it has started
        process.order("begin")
        chaos.begin()
        began = time.monotonic()
        ends = [index * plan.report_every for index in range(1, int(plan.seconds / plan.report_every) + 1)]
        step = (plan.seconds - plan.warm_up) / _LOOKS
        looked = [plan.warm_up + index * step for index in range(_LOOKS + 1)]
        for at in sorted({*ends, *looked}):
            chaos.run(began + at - time.monotonic())
            look = Look(at=time.monotonic() - began, **process.ask("report"))
            if at in looked:
                memory.append((look.at, look.memory))
            if at in ends:
                looks.append(look)
                say(look)
        chaos.end()
        left = process.ask("end")
        polls = left.pop("polls")
        looks.append(Look(at=time.monotonic() - began, **left))
        outlived = process.answer()
        service.stop()
        read(process.record, record)
    timeline = Timeline(record)
    return Result(
        gates=judge_gates(record.gates, timeline, plan.limit, max(plan.intervals)),
        watchers=judge_watchers(record.watchers, timeline),
        manners=judge_requests(record, timeline),
        record=record,
        done=Counter(chaos.done),
        looks=looks,
        left={name: what for name, what in {"polls": polls, **outlived}.items() if what},
        memory=memory,
    )


class _Stalls:
    """Notes when this process, and with it the service, did not get to do anything."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="soak-stalls")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.time()
        while not self._is_over.wait(_LOOK_EVERY):
            now = time.time()
            if now - before - _LOOK_EVERY > _STALL:
                self._record.stalls.append((before, now))
            before = now
