"""Reads one Airflow connection for everybody in an event loop, and keeps its settings for some time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_stability.connection.loading import connection_disappeared, load_settings_async
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.connection.settings import Settings

__all__ = ["ConnectionReader"]

log = logging.getLogger(__name__)

_reads: set[asyncio.Task[Settings]] = set()
"""Reads in progress: an event loop itself keeps only weak references to its tasks."""


class ConnectionReader:
    """The settings of one connection.

    :param connection_id: the Airflow connection.
    :param max_age: seconds for which the settings are believed.
    :param max_read: seconds that a read may take before another one is started.
    :param monotonic: returns seconds that only grow.
    """

    def __init__(
        self, connection_id: str, *, max_age: float, max_read: float, monotonic: Callable[[], float]
    ) -> None:
        self._connection_id = connection_id
        self._max_age, self._max_read = max_age, max_read
        self._monotonic = monotonic
        self._settings: Settings | None = None
        self._numbers, self._taken = itertools.count(1), 0  # of reads
        self.read_at = -float("inf")
        """When the settings were read, by the monotonic clock."""
        self._reading: asyncio.Task[Settings] | None = None

    async def current(self, *, anew: bool = False) -> Settings:
        """Return the settings, at most ``max_age`` old, or older where they cannot be read just now.

        :param anew: whether to read them in any case, and not to return older ones.
        :raises StabilityConfigurationError: if they cannot be had; permanent only if the connection is wrong.
        """
        age = self._monotonic() - self.read_at
        if self._settings is not None and not anew and age < self._max_age:
            return self._settings
        try:
            return await self._read()
        except StabilityConfigurationError as error:
            if error.is_missing and self._taken:
                # Not with the settings it had, now and later: it may have been deleted.
                self._settings = None
                raise connection_disappeared(self._connection_id) from None
            if anew or not error.transient or self._settings is None:
                raise
            log.warning("Using the connection as it was before: %s", error)
            return self._settings

    async def _read(self) -> Settings:
        """Read the connection, once for all who ask meanwhile."""
        if self._reading is None:
            self._reading = asyncio.create_task(load_settings_async(self._connection_id))
            _reads.add(self._reading)
            self._reading.add_done_callback(partial(self._take, next(self._numbers)))
        reading = self._reading
        # Never cancelled: breaking off a read can break the triggerer's channel to Airflow (seen on 3.0.6).
        await asyncio.wait([reading], timeout=self._max_read)
        if reading.done():
            return reading.result()
        if self._reading is reading:
            self._reading = None
        raise StabilityConfigurationError(
            f"connection {self._connection_id!r} could not be read within {self._max_read:g} s: "
            "Airflow or its secrets backend does not answer",
            transient=True,
        )

    def _take(self, number: int, reading: asyncio.Task[Settings]) -> None:
        _reads.discard(reading)
        if self._reading is reading:
            self._reading = None
        # Looked at in any case, or asyncio would complain about an error in a read that was given up.
        is_read = not reading.cancelled() and reading.exception() is None
        # A read that was given up may return after a later one, with settings that have been replaced.
        if is_read and number > self._taken:
            self._taken = number
            self._settings, self.read_at = reading.result(), self._monotonic()
