"""The service's side of a soak: what it sent, when, and what delayed it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.soak.record import Record, Request, Span

__all__ = ["FIRST_LOOK", "FRESH", "MARGIN", "PERMANENT", "VERDICT", "Spans", "Timeline"]

FRESH: Final = 5.0
"""Maximum age in seconds of a balance on which a gate opens that joins others; it is documented."""

VERDICT: Final = 10.0
"""Seconds for which a refusal answers those who come with the same connection."""

FIRST_LOOK: Final = 10.0
"""Seconds past its end that a gate may wait for its first balance: each polls once."""

MARGIN: Final = 3.0
"""Seconds that anything immediate may take on a busy machine, apart from its stalls."""

PERMANENT: Final = (401, 403)
_UNASKED: Final = 60.0  # seconds of a pause where the service names none
_ALMOST: Final = 1.0  # seconds before the limit from which on an answer may have come too late
_IN_FLIGHT: Final = 0.5  # seconds from the decision to the client


class Timeline:
    """Requests and responses per organization, in order."""

    def __init__(self, record: Record) -> None:
        self._limit = record.limit
        self._stalls = Spans(record.stalls)
        self._outages = Spans(record.outages)
        self._keys = sorted(record.keys)
        self.requests = sorted(record.requests, key=lambda each: each.arrived)
        self.told: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.heard: dict[str, list[Request]] = defaultdict(list)
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.answers: dict[str, list[float]] = defaultdict(list)
        self.refusals: list[Request] = []
        self.pauses: list[Span] = []
        for each in self.requests:
            self.arrivals[each.organization].append(each.arrived)
            if each.answered is None:
                continue
            self.answers[each.organization].append(each.answered)
            if each.credits is not None:
                self.told[each.organization].append((each.answered, each.credits))
                if self._is_surely_heard(each, each.answered):
                    self.heard[each.organization].append(each)
            elif each.status in PERMANENT:
                self.refusals.append(each)
            elif each.status == 429 and self._reaches(each.answered):
                asked = None if each.fault is None else each.fault.retry_after
                self.pauses.append(
                    (each.answered, each.answered + (_UNASKED if asked is None else float(asked)))
                )
        for told in self.told.values():
            told.sort()
        for times in self.answers.values():
            times.sort()
        self.refusals.sort(key=_answered)
        self._hindrances = Spans([*record.outages, *record.stalls, *self.pauses])

    def told_between(self, organization: str, since: float, until: float) -> list[tuple[float, float]]:
        """Return the balances sent in a span, whether or not they arrived."""
        told = self.told.get(organization, [])
        return told[bisect_left(told, (since, float("-inf"))) : bisect_right(told, (until, float("inf")))]

    def heard_from(self, organization: str, since: float) -> Iterator[Request]:
        """Return the requests from a time on whose balance was surely heard."""
        heard = self.heard.get(organization, [])
        yield from heard[bisect_left(heard, since, key=lambda each: each.arrived) :]

    def has_answered(self, organization: str, since: float, until: float) -> bool:
        """Return whether any request was answered in a span, however."""
        times = self.answers.get(organization, [])
        return bisect_left(times, since) < bisect_right(times, until)

    def refusals_between(self, organization: str, since: float, until: float) -> Iterator[Request]:
        """Return what was refused in a span to an organization, or to the whole key."""
        start = bisect_left(self.refusals, since, key=_answered)
        for each in self.refusals[start:]:
            if _answered(each) > until:
                return
            if each.status == 401 or each.organization == organization:
                yield each

    def keys_between(self, since: float, until: float) -> set[str]:
        """Return the keys that the connection had in a span."""
        ends = [at for at, _ in self._keys[1:]] + [float("inf")]
        return {key for (at, key), end in zip(self._keys, ends, strict=True) if at <= until and end >= since}

    def changed_between(self, since: float, until: float) -> bool:
        """Return whether the connection was changed in a span."""
        return any(since <= at <= until for at, _ in self._keys[1:])

    def stalled(self, since: float, until: float) -> float:
        """Return the seconds of a span in which nothing could happen."""
        return self._stalls.overlap(since, until)

    def before(self, at: float, seconds: float) -> float:
        """Return the time that is so many seconds before another, stalls not counted."""
        since = at - seconds
        while (earlier := at - seconds - self.stalled(since, at)) < since:
            since = earlier
        return since

    def hindered(self, since: float, until: float) -> float:
        """Return the seconds of a span in which no request could come, or none was allowed."""
        return self._hindrances.overlap(since, until)

    def _is_surely_heard(self, request: Request, answered: float) -> bool:
        return (
            answered - request.arrived <= self._limit - _ALMOST
            and not (request.fault is not None and request.fault.drip)
            and self.stalled(request.arrived - _IN_FLIGHT, answered + _IN_FLIGHT) == 0
            and self._reaches(answered)
        )

    def _reaches(self, answered: float) -> bool:
        """Return whether an answer was on its way before the service went away."""
        return not any(began - _IN_FLIGHT <= answered <= ended for began, ended in self._outages.all)


class Spans:
    """Spans of time; those that overlap count once."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.all: list[Span] = []
        for since, until in sorted(spans):
            if self.all and since <= self.all[-1][1]:
                self.all[-1] = (self.all[-1][0], max(until, self.all[-1][1]))
            else:
                self.all.append((since, until))

    def overlap(self, since: float, until: float) -> float:
        """Return the seconds of them that are in a span."""
        seconds = 0.0
        for begin, end in self.all[bisect_right(self.all, since, key=_end) :]:
            if begin >= until:
                break
            seconds += min(end, until) - max(begin, since)
        return seconds


def _end(span: Span) -> float:
    return span[1]


def _answered(request: Request) -> float:
    assert request.answered is not None
    return request.answered
