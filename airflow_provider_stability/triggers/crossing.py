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
from airflow_provider_stability.gate.credits import describe_credits
from airflow_provider_stability.gate.crossing import CrossingDetector, Direction
from airflow_provider_stability.polling.balance_poll import Failed
from airflow_provider_stability.polling.poller import join

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.polling.balance_poll import Waiter

__all__ = ["BalanceCrossingTrigger"]

_READ_AGAIN_AFTER: Final = (1, 4)  # seconds: Airflow may be starting, too

_SETTLE: Final = 5.0
"""Seconds from an event to the note that it was fired. A triggerer stores its events once a second or so (3.3
``TriggerRunnerSupervisor.run_once``) and a note at once: dying between the two, it would lose the event."""


class BalanceCrossingTrigger(BaseEventTrigger):
    """Fire when the balance crosses a threshold: ``below`` to have it topped up, ``above`` for a backlog.

    For an ``AssetWatcher``. It fires on the crossing and not on the level, which would start the DAG for
    ever, and shares the poll of the gates. The event is plain JSON: ``{"direction", "threshold", "credits",
    "organization"}``.

    A restart of the triggerer neither invents a crossing nor loses one that happened meanwhile, on Airflow
    3.3 and later, where a watcher can keep its state; give each asset a trigger of its own for that. Before,
    a crossing while no triggerer runs is lost. If the triggerer dies within seconds of firing, the event may
    come twice.

    Errors do not end it: it says them in the triggerer's log and goes on, after a wrong key with the next
    interval.

    :param threshold: credits, 0 or more. Below are fewer, above are as many or more.
    :param direction: ``below`` or ``above``.
    :param rearm_band: credits by which the balance must come back past the threshold before the next event.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :param poke_interval: seconds between two polls, at most; above 0.
    :raises StabilityParameterError: for a parameter that is none of these.
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
        # Checked here, as the DAG file makes it: a DAG that cannot work is not to be taken.
        CrossingDetector(threshold, direction, rearm_band)
        check_organization(organization)
        check_connection_id(stability_conn_id)
        if not 0 < poke_interval < math.inf:
            raise StabilityParameterError(f"poke_interval is {poke_interval!r}; allowed are seconds above 0")
        self.threshold = threshold
        self.direction = direction
        self.rearm_band = rearm_band
        self.organization = organization
        self.stability_conn_id = stability_conn_id
        self.poke_interval = poke_interval
        self._noted: bool | None = None  # what the store has of the detector's state

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process, and what tells it from others."""
        names = ("threshold", "direction", "rearm_band", "organization", "stability_conn_id", "poke_interval")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch for ever, and fire at each crossing."""
        detector = CrossingDetector(self.threshold, self.direction, self.rearm_band)
        detector.is_armed = self._noted = await self._recall()
        settling: asyncio.Task[None] | None = None
        try:
            while True:
                waiter = join(
                    self.stability_conn_id, self.organization, math.inf, self.poke_interval, is_watcher=True
                )
                try:
                    async for available in self._balances(waiter):
                        if detector.has_crossed(available):
                            self._say_crossed(available)
                            yield TriggerEvent(self._payload(available))
                            if settling is not None:
                                settling.cancel()
                            settling = asyncio.create_task(self._remember_later(detector))
                        elif detector.is_armed != self._noted and (settling is None or settling.done()):
                            await self._remember(detector)
                finally:
                    waiter.leave()
                assert isinstance(waiter.outcome, Failed)
                self.log.error("Watching on: %s. %s", waiter.outcome.error, waiter.outcome.error.advice)
                await asyncio.sleep(self.poke_interval)
        finally:
            if settling is not None:
                settling.cancel()

    async def _balances(self, waiter: Waiter) -> AsyncIterator[float]:
        """Yield the balance of each poll, until an error that waiting cannot mend."""
        said: str | None = None
        while True:
            await waiter.wait()
            if waiter.is_over:
                return
            known = waiter.known
            if waiter.is_known and known.credits is not None:
                said = None
                yield known.credits
            elif known.error_kind != said:
                said = known.error_kind
                self.log.warning("Watching on, balance unknown: %s", known.error)

    def _say_crossed(self, available: float) -> None:
        self.log.info("%s: crossed %g to %s", describe_credits(available), self.threshold, self.direction)

    def _payload(self, available: float) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "threshold": self.threshold,
            "credits": available,
            "organization": self.organization,
        }

    @property
    def _key(self) -> str:
        """Where the state is kept: another threshold of the same asset has another state."""
        what = (
            float(self.threshold),
            self.direction,
            float(self.rearm_band),
            self.organization,
            self.stability_conn_id,
        )
        return f"stability_{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}"

    async def _recall(self) -> bool | None:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        for pause in (*_READ_AGAIN_AFTER, None):
            try:
                kept = await store.aget(self._key)
            except Exception as error:  # noqa: BLE001  # to watch without a memory is better than not to watch
                self.log.warning("What was known before the restart cannot be read: %s", error)
                if pause is not None:
                    await asyncio.sleep(pause)
            else:
                return kept.get("is_armed") if isinstance(kept, dict) else None
        return None

    async def _remember_later(self, detector: CrossingDetector) -> None:
        """Note what is so once the event has been stored: who dies before that repeats it."""
        await asyncio.sleep(_SETTLE)
        await self._remember(detector)

    async def _remember(self, detector: CrossingDetector) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return
        is_armed = detector.is_armed
        try:
            await store.aset(self._key, {"is_armed": is_armed})
        except Exception as error:  # noqa: BLE001  # as above; the next poll tries again
            self.log.warning("A restart will not know of this crossing: %s", error)
        else:
            self._noted = is_armed
