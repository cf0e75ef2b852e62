"""Whether the service was asked no more than it allows, and no more than the gates need."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from support.soak.timeline import MARGIN, Spans

if TYPE_CHECKING:
    from support.soak.record import Gate, Record, Span, Watcher
    from support.soak.timeline import Timeline

__all__ = ["PUBLISHED", "Manners", "judge_requests"]

PUBLISHED: Final = 150
"""Requests of one key in 10 s that the service allows."""

_WINDOW: Final = 10.0
_TICK: Final = 0.05
_IN_FLIGHT: Final = 1.0  # seconds after a 429 in which what was sent before it may still come
_SHOWN: Final = 12


@dataclass(slots=True)
class Manners:
    """The result.

    :param most: requests with one key in any 10 s.
    :param too_soon: requests sooner after the one before than the smallest interval of who waited.
    :param in_a_pause: requests although the service had asked for a pause.
    """

    most: int
    too_soon: int = 0
    in_a_pause: int = 0
    complaints: list[str] = field(default_factory=list)

    def complain(self, what: str) -> None:
        """Keep one of the first few."""
        if len(self.complaints) < _SHOWN:
            self.complaints.append(f"request: {what}")


def judge_requests(record: Record, timeline: Timeline) -> Manners:
    """Judge all requests."""
    manners = Manners(_most(timeline))
    if manners.most > PUBLISHED:
        manners.complain(f"{manners.most} in {_WINDOW:g} s; allowed are {PUBLISHED}")
    _judge_intervals(record, timeline, manners)
    _judge_pauses(timeline, manners)
    return manners


def _most(timeline: Timeline) -> int:
    by_key: dict[str, list[float]] = defaultdict(list)
    for each in timeline.requests:
        by_key[each.key].append(each.arrived)
    most = 0
    for times in by_key.values():
        first = 0
        for number, at in enumerate(times):
            while times[first] <= at - _WINDOW:
                first += 1
            most = max(most, number - first + 1)
    return most


def _judge_intervals(record: Record, timeline: Timeline, manners: Manners) -> None:
    lives: dict[tuple[str, float], list[Span]] = defaultdict(list)
    waited: list[Gate | Watcher] = [*record.gates, *record.watchers]
    for each in waited:
        lives[each.organization, each.interval].append((each.joined - _TICK, each.ended + _TICK))
    present = {scope: Spans(spans) for scope, spans in lives.items()}
    # Gates only: after a refusal a watcher waits by itself for a while.
    anybody = {
        name: Spans((each.joined, each.ended) for each in record.gates if each.organization == name)
        for name in timeline.arrivals
    }
    intervals = sorted({interval for _, interval in lives})
    for organization, times in timeline.arrivals.items():
        for before, at in itertools.pairwise(times):
            wanted = (
                each
                for each in intervals
                if (organization, each) in present and present[organization, each].overlap(before, at) > 0
            )
            smallest = next(wanted, 0.0)
            if at - before >= smallest - _TICK or _is_another_wait(organization, timeline, before, at):
                continue
            if anybody[organization].overlap(before, at) < at - before:
                continue  # the last gate had left, and the next one polls at once
            manners.too_soon += 1
            manners.complain(f"of {organization} {at - before:.2f} s after another, not {smallest:g}")


def _is_another_wait(organization: str, timeline: Timeline, before: float, at: float) -> bool:
    """Return whether a new connection, or an end for all, lies between two requests."""
    return timeline.changed_between(before - MARGIN, at) or any(
        timeline.refusals_between(organization, before - MARGIN, at)
    )


def _judge_pauses(timeline: Timeline, manners: Manners) -> None:
    times = [each.arrived for each in timeline.requests]
    for began, ended in timeline.pauses:
        since = began + _IN_FLIGHT + timeline.stalled(began - _IN_FLIGHT, began + _IN_FLIGHT)
        inside = sum(since <= at <= ended - _TICK for at in times)
        if inside:
            manners.in_a_pause += inside
            manners.complain(f"{inside} in a pause of {ended - began:g} s")
