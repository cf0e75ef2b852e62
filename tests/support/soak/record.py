"""What is written down in a soak, by either side. Times are seconds since the epoch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_stability.simulator import Fault, RecordedRequest

__all__ = ["Gate", "Record", "Request", "Span", "Watcher", "read", "request_of", "write"]

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate, from its coming to its end.

    :param end_time: its own; None for a gate that waits for ever.
    :param outcome: ``opened``, ``timeout``, ``failed``, ``cancelled`` (on order), or anything else
        that came of it.
    :param credits: those that it opened on.
    :param error: the kind that it failed with.
    """

    number: int
    organization: str
    needed: float
    interval: float
    joined: float
    ended: float
    end_time: float | None = None
    outcome: str
    credits: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """A crossing trigger, from its start to its cancellation.

    :param events: when it fired, and on how many credits.
    :param outcome: ``cancelled`` on order, or what else happened.
    """

    number: int
    organization: str
    threshold: float
    direction: str
    band: float
    interval: float
    joined: float
    ended: float
    events: list[tuple[float, float]] = field(default_factory=list)
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as the service saw it.

    :param answered: when its answer was decided; None where it got none.
    :param credits: the balance in the response.
    :param key: the key that it showed.
    """

    organization: str
    arrived: float
    answered: float | None = None
    status: int = 0
    credits: float | None = None
    key: str = ""
    fault: Fault | None = None


@dataclass(slots=True, kw_only=True)
class Record:
    """All of it.

    :param keys: the keys that the connection had, each with the time from which on.
    :param outages: when the service was unreachable.
    :param stalls: when the gates' process, or that of the service, did not get to do anything.
    :param limit: seconds that a request may take, as the connection says.
    """

    limit: float
    gates: list[Gate] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    keys: list[tuple[float, str]] = field(default_factory=list)
    outages: list[Span] = field(default_factory=list)
    stalls: list[Span] = field(default_factory=list)


def request_of(recorded: RecordedRequest) -> Request:
    """Return what the judgement needs of what the simulator keeps."""
    is_for_balance = recorded.path.endswith("/balance")  # else it asks which organization is the default
    return Request(
        organization=(recorded.organization or DEFAULT_ORGANIZATION) if is_for_balance else "",
        arrived=recorded.at,
        answered=recorded.answered_at,
        status=recorded.status,
        credits=recorded.credits,
        key=recorded.headers.get("Authorization", "").removeprefix("Bearer "),
        fault=recorded.fault,
    )


def write(file: TextIO, kind: str, what: Any) -> None:
    """Write one thing down, as a line."""
    file.write(json.dumps([kind, asdict(what) if isinstance(what, Gate | Watcher) else what]) + "\n")


def read(path: Path, record: Record) -> None:
    """Add what the gates' process has written down."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            kind, what = json.loads(line)
            if kind == "gate":
                record.gates.append(Gate(**what))
            elif kind == "watcher":
                what["events"] = [(at, available) for at, available in what["events"]]
                record.watchers.append(Watcher(**what))
            elif kind == "key":
                record.keys.append((what[0], what[1]))
            elif kind == "stall":
                record.stalls.append((what[0], what[1]))
