"""Whether each watcher fired at the crossings, and only there. Knows nothing of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from support.soak.judge_gates import Verdicts
from support.soak.timeline import MARGIN, VERDICT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.soak.record import Watcher
    from support.soak.timeline import Timeline

__all__ = ["judge_watchers"]

_SETTLED: Final = 0.5
_TICK: Final = 0.05


def judge_watchers(watchers: Iterable[Watcher], timeline: Timeline) -> Verdicts:
    """Judge each event, and each crossing that should have been one."""
    verdicts = Verdicts()
    for watcher in watchers:
        name = (
            f"watcher {watcher.number} on {watcher.organization}, "
            f"{watcher.direction} {watcher.threshold:g} by {watcher.band:g}"
        )
        if watcher.outcome != "cancelled":
            verdicts.add("lost", f"{name}: it ended with {watcher.outcome}")
        since, is_first = watcher.joined - MARGIN, True
        for at, available in watcher.events:
            told = _told_at(watcher, timeline, at, available)
            complaint = _fired_wrongly(watcher, timeline, since, told, available, is_first=is_first)
            verdicts.add("wrong" if complaint else "fired", complaint and f"{name}: {complaint}")
            since, is_first = told or at, False
        for complaint in _missed(watcher, timeline):
            verdicts.add("lost", f"{name}: {complaint}")
    return verdicts


def _told_at(watcher: Watcher, timeline: Timeline, at: float, available: float) -> float | None:
    """Return when the balance on which it fired had been sent; None if it had not."""
    span = timeline.told_between(watcher.organization, timeline.before(at, MARGIN), at + _TICK)
    return max((when for when, each in span if each == available), default=None)


def _fired_wrongly(
    watcher: Watcher,
    timeline: Timeline,
    since: float,
    told: float | None,
    available: float,
    *,
    is_first: bool,
) -> str | None:
    """Return what is wrong with an event.

    :param since: when the balance of its previous event was sent.
    :param told: the same for this event.
    """
    if not _is_past(watcher, available):
        return f"it fired on {available:g} credits"
    if told is None:
        return f"it fired on {available:g} credits, which the service had not told"
    span = timeline.told_between(watcher.organization, since, told)
    if not any(_is_back(watcher, each, by_band=not is_first) for _, each in span):
        return f"it fired on {available:g} credits, and the balance had not been back before"
    return None


def _missed(watcher: Watcher, timeline: Timeline) -> list[str]:
    """Return where the balance was surely seen on the one side, then on the other, and nothing fired."""
    found: list[str] = []
    armed: float | None = None
    for request in timeline.heard_from(watcher.organization, watcher.joined + _SETTLED):
        assert request.answered is not None
        assert request.credits is not None
        if request.answered + MARGIN > watcher.ended:
            break
        if _is_back(watcher, request.credits, by_band=True):
            armed = request.answered
        elif armed is not None and _is_past(watcher, request.credits):
            until = request.answered + MARGIN + timeline.stalled(request.answered, request.answered + MARGIN)
            has_fired = any(
                armed - _TICK <= at <= until and _is_past(watcher, available)
                for at, available in watcher.events
            )
            if not has_fired and not _was_deaf(watcher, timeline, armed, request.answered):
                found.append(f"the balance crossed to {request.credits:g} credits, and it did not fire")
            armed = None
    return found


def _was_deaf(watcher: Watcher, timeline: Timeline, since: float, until: float) -> bool:
    """After a refusal a watcher polls again with its next interval; it may miss balances in between."""
    gone = VERDICT + 2 * watcher.interval + MARGIN
    gone += timeline.stalled(since - gone, until)
    return any(True for _ in timeline.refusals_between(watcher.organization, since - gone, until + MARGIN))


def _is_past(watcher: Watcher, available: float) -> bool:
    is_below = available < watcher.threshold
    return is_below if watcher.direction == "below" else not is_below


def _is_back(watcher: Watcher, available: float, *, by_band: bool) -> bool:
    band = watcher.band if by_band else 0.0
    if _is_past(watcher, available):
        return False
    if watcher.direction == "below":
        return available >= watcher.threshold + band
    return available <= watcher.threshold - band
