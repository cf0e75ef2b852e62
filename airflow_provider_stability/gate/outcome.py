"""How a wait ends, and the trigger event that says so.

An event is plain JSON without a secret, as Airflow stores it: ``{"status": "success", "credits": 52.5}``,
``{"status": "timeout", "message": ...}`` or ``{"status": "failed", "kind": ..., "message": ...}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_stability.exceptions import StabilityError, permanent_error

__all__ = ["Failed", "Opened", "Outcome", "TimedOut", "from_event"]


@dataclass(frozen=True)
class Opened:
    """There are enough credits."""

    credits: float

    def to_event(self) -> dict[str, Any]:
        """Return the payload of the trigger's event."""
        return {"status": "success", "credits": self.credits}


@dataclass(frozen=True)
class TimedOut:
    """The wait's time is over.

    :param message: the last balance and the last error.
    """

    message: str

    def to_event(self) -> dict[str, Any]:
        """Return the payload of the trigger's event."""
        return {"status": "timeout", "message": self.message}


@dataclass(frozen=True)
class Failed:
    """A permanent error.

    A value and not an exception: raised in many gates, one exception would grow a traceback from each of
    them.
    """

    error: StabilityError

    def to_event(self) -> dict[str, Any]:
        """Return the payload of the trigger's event."""
        return {"status": "failed", "kind": type(self.error).__name__, "message": str(self.error)}


Outcome = Opened | TimedOut | Failed


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
