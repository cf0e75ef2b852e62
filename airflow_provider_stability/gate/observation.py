"""The last balance that was read, and the last error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_stability.gate.credits import describe

if TYPE_CHECKING:
    from airflow_provider_stability.exceptions import StabilityError

__all__ = ["Observation", "format_utc"]


@dataclass(frozen=True)
class Observation:
    """What the requests for a balance have shown so far, in plain values. Times are seconds since the epoch.

    :param error: the last error's message, which never holds a secret; ``error_kind`` is its class.
    :param is_balance_known: whether the last request returned a balance.
    """

    credits: float | None = None
    credits_at: float = 0.0
    error: str | None = None
    error_kind: str | None = None
    error_at: float = 0.0
    is_balance_known: bool = False

    def with_credits(self, available: float, now: float) -> Observation:
        """Return this after a request that returned a balance."""
        return replace(self, credits=available, credits_at=now, is_balance_known=True)

    def with_error(self, error: StabilityError, now: float) -> Observation:
        """Return this after a request that failed."""
        return replace(
            self, error=str(error), error_kind=type(error).__name__, error_at=now, is_balance_known=False
        )

    @property
    def state(self) -> str | None:
        """What deserves a log line as soon as it changes: that the balance is known, or why it is not."""
        return "known" if self.is_balance_known else self.error_kind

    def summary(self, needed: float) -> str:
        """Return what somebody needs to read when a wait has ended without enough credits."""
        if self.credits is None:
            text = "No balance was read."
        else:
            text = f"Last balance, at {format_utc(self.credits_at)}: {describe(self.credits, needed)}."
        if self.error is not None:
            text += f" Last error, at {format_utc(self.error_at)}: {self.error}."
        return text


def format_utc(seconds: float) -> str:
    """Return seconds since the epoch in the form ``2026-01-31 12:00:00 UTC``."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
