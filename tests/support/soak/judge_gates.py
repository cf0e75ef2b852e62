"""Judges how each gate ended by what the service had sent. Imports nothing of the package."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from support.soak.timeline import FIRST_LOOK, FRESH, MARGIN, VERDICT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.soak.record import Gate, Request
    from support.soak.timeline import Timeline

__all__ = ["Verdicts", "judge_gate", "judge_gates"]

RIGHT: Final = ("opened", "timeout", "failed", "cancelled")
"""The right outcomes of a gate."""

_SETTLED: Final = 0.5  # seconds after its coming from which on a request is surely for a gate, too
_TICK: Final = 0.05  # two clocks are read in one moment
_REFUSED: Final = {"AuthenticationError": 401, "PermissionDeniedError": 403}
_ROUNDS: Final = 3  # time limits that a request may queue for behind others that hang
_SHOWN: Final = 12


@dataclass(slots=True)
class Verdicts:
    """How many ended how, and for what is wrong, why.

    :param counts: those of ``RIGHT``, and ``wrong`` and ``lost``.
    :param complaints: the first few.
    """

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def add(self, verdict: str, complaint: str | None = None) -> None:
        """Count one."""
        self.counts[verdict] += 1
        if complaint is not None and len(self.complaints) < _SHOWN:
            self.complaints.append(f"{verdict}: {complaint}")


def judge_gates(gates: Iterable[Gate], timeline: Timeline, limit: float, longest_interval: float) -> Verdicts:
    """Judge them all.

    :param limit: seconds that a request may take.
    :param longest_interval: of all gates.
    """
    verdicts = Verdicts()
    silence = longest_interval + _ROUNDS * limit + MARGIN
    for gate in gates:
        verdict, complaint = judge_gate(gate, timeline, silence)
        verdicts.add(verdict, None if complaint is None else f"{_name(gate)}: {complaint}")
    return verdicts


def judge_gate(gate: Gate, timeline: Timeline, silence: float) -> tuple[str, str | None]:
    """Return the outcome of a gate, or ``wrong`` or ``lost`` with the reason.

    :param silence: seconds without a request after which polling has stopped.
    """
    if gate.outcome == "opened" and (complaint := _opened_wrongly(gate, timeline)):
        return "wrong", complaint
    complaint = _overslept(gate, timeline) or _deaf(gate, timeline) or _unasked(gate, timeline, silence)
    if complaint is None and gate.outcome == "timeout":
        complaint = _not_on_time(gate, timeline)
    elif complaint is None and gate.outcome == "failed":
        complaint = _failed_for_nothing(gate, timeline)
    elif gate.outcome not in RIGHT:
        complaint = f"it ended with {gate.outcome}"
    if complaint is None and gate.outcome == "cancelled" and gate.end_time is not None:
        complaint = _past_its_end(gate, timeline)
    return ("lost", complaint) if complaint else (gate.outcome, None)


def _opened_wrongly(gate: Gate, timeline: Timeline) -> str | None:
    """It must have opened on a balance that the service sent shortly before, and that was enough."""
    if gate.credits is None or gate.credits < gate.needed:
        return f"it opened on {gate.credits} credits"
    # A new gate may open on a balance that others were sent.
    age = min(FRESH, gate.interval) if gate.ended - gate.joined < MARGIN else 0.0
    since = timeline.before(gate.ended, age + MARGIN)
    told = timeline.told_between(gate.organization, since, gate.ended + _TICK)
    if any(available == gate.credits for _, available in told):
        return None
    known = ", ".join(f"{available:g}" for _, available in told) or "nothing"
    return f"it opened on {gate.credits:g} credits, but the service had sent {known}"


def _overslept(gate: Gate, timeline: Timeline) -> str | None:
    for request in timeline.heard_from(gate.organization, gate.joined + _SETTLED):
        assert request.answered is not None
        assert request.credits is not None
        if request.answered + MARGIN > gate.ended:
            return None
        if request.credits >= gate.needed and _late(request.answered, gate, timeline) > MARGIN:
            late = gate.ended - request.answered
            return f"{late:.1f} s before, the service had told {request.credits:g} credits"
    return None


def _deaf(gate: Gate, timeline: Timeline) -> str | None:
    """After a refusal of the key that the connection has, waiting is no use."""
    since = gate.joined + _SETTLED
    for refusal in timeline.refusals_between(gate.organization, since, gate.ended - MARGIN):
        assert refusal.answered is not None
        if (
            refusal.arrived >= since
            and _is_believed(refusal, timeline)
            and _late(refusal.answered, gate, timeline) > MARGIN
        ):
            return f"{gate.ended - refusal.answered:.1f} s before, the service had said {refusal.status}"
    return None


def _is_believed(refusal: Request, timeline: Timeline) -> bool:
    """Return whether a refusal was heard, and the connection kept the key until it was."""
    assert refusal.answered is not None
    is_prompt = refusal.answered - refusal.arrived < _SETTLED and not (
        timeline.hindered(refusal.arrived - _SETTLED, refusal.answered + _SETTLED)
    )
    return is_prompt and timeline.keys_between(refusal.arrived - MARGIN, refusal.answered + MARGIN) == {
        refusal.key
    }


def _unasked(gate: Gate, timeline: Timeline, silence: float) -> str | None:
    """As long as it waits, somebody has to ask for it."""
    if gate.ended - gate.joined < silence:
        return None
    times = timeline.arrivals.get(gate.organization, [])
    inside = times[bisect_left(times, gate.joined) : bisect_right(times, gate.ended)]
    last = gate.joined
    for at in (*inside, gate.ended):
        if at - last > silence and at - last - timeline.hindered(last, at) > silence:
            return f"nobody asked for {at - last:.1f} s"
        last = at
    return None


def _not_on_time(gate: Gate, timeline: Timeline) -> str | None:
    if gate.end_time is None:
        return "it timed out, and had no end"
    if gate.ended < gate.end_time - _TICK:
        return f"it timed out {gate.end_time - gate.ended:.1f} s early"
    return _past_its_end(gate, timeline)


def _past_its_end(gate: Gate, timeline: Timeline) -> str | None:
    assert gate.end_time is not None
    due = max(gate.end_time, gate.joined)
    if not timeline.has_answered(gate.organization, gate.joined, due):
        due += FIRST_LOOK
    late = gate.ended - due
    if late > MARGIN and late - timeline.stalled(due, gate.ended) > MARGIN:
        return f"it waited {late:.1f} s beyond its end"
    return None


def _failed_for_nothing(gate: Gate, timeline: Timeline) -> str | None:
    wanted = _REFUSED.get(gate.error or "")
    since = timeline.before(gate.ended, MARGIN)
    keys = timeline.keys_between(since, gate.ended)
    for refusal in timeline.refusals_between(gate.organization, since - VERDICT, gate.ended + _TICK):
        assert refusal.answered is not None
        # The connection is read again before a refusal is believed, and had to have the same key then.
        then = timeline.keys_between(refusal.answered, refusal.answered)
        if refusal.status == wanted and refusal.key in keys & then:
            return None
    return f"it failed with {gate.error}, which the service had not said to the connection's key"


def _late(since: float, gate: Gate, timeline: Timeline) -> float:
    return gate.ended - since - timeline.stalled(since, gate.ended)


def _name(gate: Gate) -> str:
    return f"gate {gate.number} on {gate.organization}, needs {gate.needed:g}, {gate.outcome}"
