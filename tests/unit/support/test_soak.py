"""Whether the judgement of a soak finds what it looks for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest

from airflow_provider_stability.simulator import Fault
from support.soak.judge_gates import judge_gates
from support.soak.judge_requests import judge_requests
from support.soak.judge_watchers import judge_watchers
from support.soak.record import Gate, Record, Request, Watcher
from support.soak.report import faults_of, growth
from support.soak.run import Result
from support.soak.timeline import Timeline

ORG = "org-01"
KEY = "sk-now"
LIMIT = 3.0
INTERVAL = 5.0


def told(at: float, available: float | None = 50.0, **more: Any) -> Request:
    status = 200 if available is not None else 503
    given: dict[str, Any] = {"organization": ORG, "status": status, "key": KEY, "answered": at + 0.01}
    return Request(arrived=at, credits=available, **(given | more))


def refused(at: float, status: int = 401, **more: Any) -> Request:
    return told(at, None, status=status, **more)


def gate(outcome: str, ended: float, **more: Any) -> Gate:
    given: dict[str, Any] = {"number": 1, "organization": ORG, "needed": 40.0, "interval": INTERVAL}
    given |= {"joined": 100.0, "credits": 50.0 if outcome == "opened" else None}
    return Gate(outcome=outcome, ended=ended, **(given | more))


def watcher(events: list[tuple[float, float]], **more: Any) -> Watcher:
    given: dict[str, Any] = {"number": 1, "organization": ORG, "threshold": 40.0, "direction": "above"}
    given |= {"band": 5.0, "interval": INTERVAL, "joined": 100.0, "ended": 200.0, "outcome": "cancelled"}
    return Watcher(events=events, **(given | more))


def record(*requests: Request, **more: Any) -> Record:
    found = Record(limit=LIMIT, requests=list(requests), keys=[(0.0, KEY)])
    return dataclasses.replace(found, **more)


POOR = [told(at, 10.0) for at in (101.0, 106.0, 111.0, 116.0, 121.0, 126.0)]
RICH = [*POOR[:2], told(111.0), *(told(at, 10.0) for at in (116.0, 121.0, 126.0))]


@pytest.mark.parametrize(
    ("verdict", "given", "what"),
    [
        ("opened", gate("opened", 111.1), record(*RICH)),
        # It joined others, who had been told a moment before.
        ("opened", gate("opened", 112.0, joined=111.9), record(*RICH)),
        ("wrong", gate("opened", 111.1), record(*POOR)),
        ("wrong", gate("opened", 111.1, credits=60.0), record(*RICH)),
        ("wrong", gate("opened", 111.1, needed=50.5), record(*RICH)),
        ("wrong", gate("opened", 121.1, joined=121.0), record(*RICH)),
        ("wrong", gate("opened", 111.1), record(*RICH[:2], told(111.0, organization="org-02"))),
        ("wrong", gate("opened", 111.1), record(*RICH[:2], told(112.0))),
        ("lost", gate("opened", 120.0), record(*RICH[:3], told(119.9))),
        ("lost", gate("cancelled", 128.0), record(*RICH)),
        ("lost", gate("timeout", 125.0, end_time=125.0), record(*RICH)),
        ("cancelled", gate("cancelled", 113.0), record(*RICH)),
        ("cancelled", gate("cancelled", 128.0, joined=110.9), record(*RICH)),
        ("cancelled", gate("cancelled", 128.0, needed=51.0), record(*RICH)),
        # It may not have been heard: too late, in drips, and as the service went away.
        ("cancelled", gate("cancelled", 120.0), record(told(111.0, answered=113.9), *POOR)),
        ("cancelled", gate("cancelled", 120.0), record(told(111.0, fault=Fault(drip=0.1)), *POOR)),
        ("cancelled", gate("cancelled", 120.0), record(*RICH, outages=[(111.3, 112.0)])),
        ("opened", gate("opened", 118.0), record(*RICH, stalls=[(111.5, 117.5)])),
        ("timeout", gate("timeout", 120.1, end_time=120.0), record(*POOR)),
        ("lost", gate("timeout", 119.0, end_time=120.0), record(*POOR)),
        ("lost", gate("timeout", 124.0, end_time=120.0), record(*POOR)),
        ("lost", gate("timeout", 120.0), record(*POOR)),
        ("lost", gate("cancelled", 126.0, end_time=120.0), record(*POOR)),
        ("timeout", gate("timeout", 104.0, end_time=100.5), record(told(107.0, 10.0))),
        ("failed", gate("failed", 111.1, error="AuthenticationError"), record(*POOR[:2], refused(111.0))),
        ("lost", gate("failed", 111.1, error="ServerError"), record(*POOR[:2], told(111.0, None))),
        ("lost", gate("failed", 111.1, error="AuthenticationError"), record(*POOR)),
        ("lost", gate("cancelled", 120.0), record(*POOR[:2], refused(111.0))),
        ("lost", gate("cancelled", 120.0), record(*POOR[:2], refused(111.0, 403))),
        (
            "cancelled",
            gate("cancelled", 120.0),
            record(*POOR[:2], refused(111.0, 403, organization="org-02"), told(116.0, 1.0)),
        ),
        # The key had been changed in the connection, and waiting on was right.
        (
            "lost",
            gate("failed", 111.1, error="AuthenticationError"),
            record(*POOR[:2], refused(111.0), keys=[(0.0, KEY), (110.8, "sk-next")]),
        ),
        (
            "failed",
            gate("failed", 111.1, error="AuthenticationError"),
            record(*POOR[:2], refused(111.0), keys=[(0.0, KEY), (111.02, "sk-next")]),
        ),
        ("lost", gate("cancelled", 150.0), record(*POOR)),
        ("cancelled", gate("cancelled", 150.0), record(*POOR, outages=[(127.0, 145.0)])),
        ("lost", gate("nothing", 110.0), record(*POOR)),
        ("lost", gate("cancelled by itself", 110.0), record(*POOR)),
    ],
)
def test_judgement_of_a_gate(verdict: str, given: Gate, what: Record) -> None:
    found = judge_gates([given], Timeline(what), LIMIT, INTERVAL)
    assert found.counts == {verdict: 1}, found.complaints
    assert bool(found.complaints) == (verdict in ("wrong", "lost"))


UP = [told(101.0, 10.0), told(106.0, 50.0), told(111.0, 20.0), told(116.0, 60.0), told(121.0, 60.0)]


@pytest.mark.parametrize(
    ("counts", "given", "requests"),
    [
        ({"fired": 2}, watcher([(106.1, 50.0), (116.1, 60.0)]), UP),
        ({"fired": 1, "lost": 1}, watcher([(116.1, 60.0)]), UP),
        ({"fired": 1, "lost": 1}, watcher([(106.1, 50.0)]), UP),
        ({"fired": 2, "wrong": 1}, watcher([(106.1, 50.0), (116.1, 60.0), (121.1, 60.0)]), UP),
        ({"wrong": 1}, watcher([(121.1, 60.0)], joined=119.5), UP),
        ({"wrong": 1, "lost": 2}, watcher([(111.1, 20.0)]), UP),
        ({"wrong": 1, "fired": 2}, watcher([(106.1, 50.0), (116.1, 60.0), (121.1, 70.0)]), UP),
        # It had not come back by the band: there is one crossing, not two.
        (
            {"fired": 1},
            watcher([(106.1, 50.0)], ended=120.0),
            [*UP[:2], told(111.0, 38.0), told(116.0, 60.0)],
        ),
        ({"fired": 1}, watcher([(111.1, 20.0)], direction="below", ended=115.0), UP),
        ({"fired": 2, "lost": 1}, watcher([(106.1, 50.0), (116.1, 60.0)], outcome="nothing"), UP),
        # After a refusal it looks again later.
        ({}, watcher([], ended=115.0), [UP[0], refused(103.0), UP[1]]),
    ],
)
def test_judgement_of_a_watcher(counts: dict[str, int], given: Watcher, requests: list[Request]) -> None:
    found = judge_watchers([given], Timeline(record(*requests)))
    assert dict(found.counts) == counts, found.complaints


def test_judgement_of_requests() -> None:
    waiting = gate("cancelled", 200.0)
    found = judge(record(*POOR, gates=[waiting]))
    assert (found.most, found.too_soon, found.in_a_pause, found.complaints) == (2, 0, 0, [])

    found = judge(record(*POOR, told(118.0), gates=[waiting]))
    assert found.too_soon == 2  # to the one before, and to the one after it
    # Where nobody waited any more, the next to come has to look.
    gone, come = gate("cancelled", 117.0), gate("cancelled", 200.0, joined=117.5)
    assert judge(record(*POOR, told(118.0), gates=[gone, come])).too_soon == 1
    sooner = gate("opened", 118.0, interval=2.0, joined=117.0)
    assert judge(record(*POOR[:4], told(118.0), gates=[waiting, sooner])).too_soon == 0

    limited = told(111.0, None, status=429, fault=Fault(status=429, retry_after=7.5))
    assert judge(record(*POOR[:2], limited, told(116.0, 1.0), gates=[waiting])).in_a_pause == 1
    assert judge(record(*POOR[:2], limited, told(119.0, 1.0), gates=[waiting])).in_a_pause == 0
    unnamed = told(111.0, None, status=429, fault=Fault(status=429))
    assert judge(record(*POOR[:2], unnamed, told(170.0, 1.0), gates=[waiting])).in_a_pause == 1

    many = [told(100 + number / 16, organization=f"org-{number}") for number in range(170)]
    assert (
        judge(record(*many[:80], *(dataclasses.replace(each, key="sk-next") for each in many[80:]))).most
        == 90
    )
    found = judge(record(*many))
    assert found.most == 160
    assert "160 in 10 s" in found.complaints[0]


def judge(what: Record) -> Any:
    return judge_requests(what, Timeline(what))


def test_memory_may_vary_but_must_not_grow() -> None:
    restless = [(60.0 * number, 100_000_000 + 100_000 * (number % 3)) for number in range(20)]
    growing = [(at, memory + 500_000 * number) for number, (at, memory) in enumerate(restless)]
    assert abs(growth(restless)) < 100_000
    assert growth(growing) == pytest.approx(19 * 500_000, rel=0.02)
    what = record(*POOR, gates=[gate("cancelled", 128.0)])
    empty = judge_gates([], Timeline(what), LIMIT, INTERVAL)

    def result(memory: list[tuple[float, int]], **left: Any) -> Result:
        return Result(
            gates=empty,
            watchers=empty,
            manners=judge(what),
            record=what,
            done=Counter(),
            left=left,
            memory=memory,
        )

    assert faults_of(result(restless)) == []
    assert faults_of(result(growing)) == ["the memory grows"]
    assert faults_of(result(restless, threads=["stability-poll"])) == [
        "left behind: threads: ['stability-poll']"
    ]
