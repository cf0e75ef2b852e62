"""Metrics of polls, through Airflow's own StatsD or OpenTelemetry, as the user configured it.

====================== ======= ==========================================
``stability.credits``  gauge   the balance, one sample per poll
``stability.polls``    counter balance requests
``stability.errors``   counter failed balance requests, tagged by ``error``
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


def record_poll(connection_id: str, organization: str | None, result: float | StabilityError) -> None:
    """Record one balance request and its result. Never raises: a gate must not fail because of a metric.

    :param organization: None for the account's default.
    :param result: the credits, or the error.
    """
    tags = {"connection": connection_id, "organization": organization or "default"}
    try:
        Stats.incr("stability.polls", tags=tags)
        if isinstance(result, StabilityError):
            Stats.incr("stability.errors", tags={**tags, "error": type(result).__name__})
        else:
            Stats.gauge("stability.credits", result, tags=tags)
    except Exception:
        log.debug("A metric could not be recorded", exc_info=True)


def recorded(connection_id: str, organization: str | None, read: Callable[[], float]) -> float:
    """Return the balance that a function reads, or raise its error, and record either."""
    try:
        available = read()
    except StabilityError as error:
        record_poll(connection_id, organization, error)
        raise
    record_poll(connection_id, organization, available)
    return available
