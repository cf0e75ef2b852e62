"""BalanceCrossingTrigger: an asset event when a balance crosses a threshold. Airflow 3.0 and later."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.connection.parameters import check_connection_id, check_organization
from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.credits import describe_credits, format_number
from airflow_provider_stability.gate.crossing import CrossingDetector, Direction
from airflow_provider_stability.gate.outcome import Failed
from airflow_provider_stability.polling.registry import subscribe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.polling.subscription import Subscription

__all__ = ["BalanceCrossingTrigger"]

_LOAD_DELAYS: Final = (1, 4)  # seconds between attempts: Airflow may still be starting

_SAVE_DELAY: Final = 5.0
"""Seconds from an event until the trigger saves that it has fired. A triggerer
stores events about once a second (3.3 ``TriggerRunnerSupervisor.run_once``), but this state at once: if it
died between the two, the event would be lost."""


class BalanceCrossingTrigger(BaseEventTrigger):
    """Fire when the balance crosses a threshold: ``below`` for an alert, ``above`` to start a backlog.

    For an ``AssetWatcher``. It fires on the crossing and not on the level, which would start the DAG over and
    over, and shares the poll of the gates. The event is plain JSON: ``{"direction", "threshold", "credits",
    "organization"}``.

    On Airflow 3.3 and later, where a watcher can keep its state, a restart of the triggerer neither invents a
    crossing nor loses one; each asset needs a trigger of its own for that. Before, a crossing while no
    triggerer runs is lost. If the triggerer dies within seconds of firing, the event may come twice.

    Errors do not end it: it logs them in the triggerer's log and continues, after a wrong key with the next
    interval.

    :param threshold: credits, 0 or more. Below are fewer, above are as many or more.
    :param direction: ``below`` or ``above``.
    :param rearm_band: credits by which the balance must come back past the threshold before the next event.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :param poke_interval: seconds between two polls, at most; above 0.
    :raises StabilityParameterError: for any other value.
    """

    def __init__(
        self,
        *,
        threshold: float,
        direction: Direction,
        rearm_band: float = 0.0,
        organization: str | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow gives it no types
        # Checked here, as the DAG file makes it: a DAG that cannot work must not be accepted.
        CrossingDetector(threshold, direction, rearm_band)
        check_organization(organization)
        check_connection_id(stability_conn_id)
        if not 0 < poke_interval < math.inf:
            raise StabilityParameterError(
                f"poke_interval is {poke_interval!r}; it must be a finite number of seconds above 0"
            )
        self.threshold = threshold
        self.direction = direction
        self.rearm_band = rearm_band
        self.organization = organization
        self.stability_conn_id = stability_conn_id
        self.poke_interval = poke_interval
        self._saved: bool | None = None  # what the store has of the detector's state

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process, and what tells it from others."""
        names = ("threshold", "direction", "rearm_band", "organization", "stability_conn_id", "poke_interval")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch for ever, and fire at each crossing."""
        detector = CrossingDetector(self.threshold, self.direction, self.rearm_band)
        detector.is_armed = self._saved = await self._load()
        saving: asyncio.Task[None] | None = None
        try:
            while True:
                subscription = subscribe(
                    self.stability_conn_id, self.organization, math.inf, self.poke_interval, is_watcher=True
                )
                try:
                    async for available in self._balances(subscription):
                        if detector.has_crossed(available):
                            self._log_crossing(available)
                            yield TriggerEvent(self._payload(available))
                            if saving is not None:
                                saving.cancel()
                            saving = asyncio.create_task(self._save_later(detector))
                        elif detector.is_armed != self._saved and (saving is None or saving.done()):
                            await self._save(detector)
                finally:
                    subscription.cancel()
                assert isinstance(subscription.outcome, Failed)
                error = subscription.outcome.error
                self.log.error("Still watching after an error: %s. %s", error, error.advice)
                await asyncio.sleep(self.poke_interval)
        finally:
            if saving is not None:
                saving.cancel()

    async def _balances(self, subscription: Subscription) -> AsyncIterator[float]:
        """Yield the balance of each poll, until a permanent error."""
        logged: str | None = None
        while True:
            await subscription.wait()
            if subscription.outcome is not None:
                return
            latest = subscription.latest
            if latest.is_balance_known and latest.credits is not None:
                logged = None
                yield latest.credits
            elif latest.error_kind != logged:
                logged = latest.error_kind
                self.log.warning("Still watching; could not read the balance: %s", latest.error)

    def _log_crossing(self, available: float) -> None:
        threshold = format_number(self.threshold)
        self.log.info(
            "%s: now %s the threshold of %s", describe_credits(available), self.direction, threshold
        )

    def _payload(self, available: float) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "threshold": self.threshold,
            "credits": available,
            "organization": self.organization,
        }

    @property
    def _key(self) -> str:
        """Where the state is stored: another threshold of the same asset has another state."""
        what = (
            float(self.threshold),
            self.direction,
            float(self.rearm_band),
            self.organization,
            self.stability_conn_id,
        )
        return f"stability_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}"

    async def _load(self) -> bool | None:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        for delay in (*_LOAD_DELAYS, None):
            try:
                kept = await store.aget(self._key)
            except Exception as error:  # noqa: BLE001  # watching without a memory is better than not watching
                self.log.warning("Could not read the state from before the restart: %s", error)
                if delay is not None:
                    await asyncio.sleep(delay)
            else:
                return kept.get("is_armed") if isinstance(kept, dict) else None
        return None

    async def _save_later(self, detector: CrossingDetector) -> None:
        """Save the state once the event is stored: a triggerer that dies before repeats the event."""
        await asyncio.sleep(_SAVE_DELAY)
        await self._save(detector)

    async def _save(self, detector: CrossingDetector) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return
        is_armed = detector.is_armed
        try:
            await store.aset(self._key, {"is_armed": is_armed})
        except Exception as error:  # noqa: BLE001  # as above; the next poll tries again
            self.log.warning("Could not save the state; a restart would not know of it: %s", error)
        else:
            self._saved = is_armed
