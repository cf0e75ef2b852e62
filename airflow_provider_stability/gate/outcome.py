"""How a wait ends, and the trigger event that says so: plain JSON without a secret, as Airflow stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_stability.exceptions import StabilityError, permanent_error

__all__ = ["Failed", "Opened", "Outcome", "TimedOut", "from_event", "to_event"]


@dataclass(frozen=True)
class Opened:
    """There are enough credits."""

    credits: float


@dataclass(frozen=True)
class TimedOut:
    """The time is over. The message has the last balance and the last error."""

    message: str


@dataclass(frozen=True)
class Failed:
    """A permanent error: a value, as one exception raised in many gates would grow a traceback from each."""

    error: StabilityError


Outcome = Opened | TimedOut | Failed


def to_event(outcome: Outcome) -> dict[str, Any]:
    """Return the payload of the event with which a trigger reports an outcome."""
    match outcome:
        case Opened(available):
            return {"status": "success", "credits": available}
        case TimedOut(message):
            return {"status": "timeout", "message": message}
        case Failed(error):
            return {"status": "failed", "kind": type(error).__name__, "message": str(error)}


def from_event(event: object) -> Outcome:
    """Return the outcome that a trigger's event stands for.

    :raises StabilityError: for an event that is none of ours.
    """
    match event:
        case {"status": "success", "credits": int() | float() as available}:
            return Opened(float(available))
        case {"status": "timeout", "message": str() as message}:
            return TimedOut(message)
        case {"status": "failed", "kind": str() as kind, "message": str() as message}:
            return Failed(permanent_error(kind, message))
    raise StabilityError(
        f"the trigger's event is {event!r}; it must have the status success, timeout or failed"
    )
