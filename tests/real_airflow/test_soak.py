"""A short soak: many gates on a service that fails at random."""

from __future__ import annotations

from support.soak.plan import SHORT
from support.soak.report import faults_of, report
from support.soak.run import soak


def test_short_soak_finds_no_fault() -> None:
    result = soak(SHORT, lambda _: None)
    assert not faults_of(result), report(result)
    # A soak in which nothing happens would pass, too.
    gates, kinds = result.gates.counts, set(result.done)
    assert min(gates["opened"], gates["timeout"], gates["failed"], gates["cancelled"]) >= 10, report(result)
    assert kinds >= {"429", "500", "reset", "cut", "wrong body", "silence", "away", "key rotated", "403"}
    assert result.watchers.counts["fired"] >= 1
