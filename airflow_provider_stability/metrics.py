"""What a poll tells Airflow's own metrics (StatsD, OpenTelemetry: as the user configured them).

====================== ======= ==========================================
``stability.credits``  gauge   the balance, one sample per poll
``stability.polls``    counter requests for a balance
``stability.errors``   counter those that failed, tagged by ``error``
====================== ======= ==========================================

Each is tagged by ``connection`` and ``organization`` (``default`` for the account's default).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_stability.exceptions import StabilityError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["record_poll", "recorded"]

log = logging.getLogger(__name__)


def record_poll(connection_id: str, organization: str | None, found: float | StabilityError) -> None:
    """Record one request for a balance and what came of it. Never raises: no metric is worth a gate."""
    tags = {"connection": connection_id, "organization": organization or "default"}
    try:
        Stats.incr("stability.polls", tags=tags)
        if isinstance(found, StabilityError):
            Stats.incr("stability.errors", tags={**tags, "error": type(found).__name__})
        else:
            Stats.gauge("stability.credits", found, tags=tags)
    except Exception:
        log.debug("A metric was not recorded", exc_info=True)


def recorded(connection_id: str, organization: str | None, read: Callable[[], float]) -> float:
    """Return the balance that a function reads, or raise its error, and record either."""
    try:
        available = read()
    except StabilityError as error:
        record_poll(connection_id, organization, error)
        raise
    record_poll(connection_id, organization, available)
    return available
