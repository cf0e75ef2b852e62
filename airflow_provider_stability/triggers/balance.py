"""BalanceTrigger: a gate in the triggerer. The waiting is the poller's, what an end means the sensor's."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.connection.parameters import check_connection_id, check_organization
from airflow_provider_stability.exceptions import StabilityError
from airflow_provider_stability.gate.credits import describe, parse_min_credits
from airflow_provider_stability.polling.balance_poll import Failed, Opened
from airflow_provider_stability.polling.poller import join
from airflow_provider_stability.version_compat import success_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.polling.balance_poll import Waiter

__all__ = ["BalanceTrigger"]

_LONGEST_NAP: Final = 600.0  # a clock that is set is noticed after that at the latest
_LONGEST_LOOK: Final = 30.0
"""Seconds past its end that a wait gives its first look: what a call may take by default."""
_LOOK_AGAIN: Final = 0.2


class BalanceTrigger(BaseTrigger):
    """Wait until there are enough credits, together with every other gate of the same connection.

    It fires one event, plain JSON without a secret: ``{"status": "success", "credits": 52.5}``, ``{"status":
    "timeout", "message": ...}`` or ``{"status": "failed", "kind": ..., "message": ...}``. Nothing is raised.

    :param min_credits: the credits that are enough; a number or a text that stands for one.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :param poke_interval: seconds between two polls, at most; the smallest of all who wait on an organization
        counts.
    :param end_time: seconds since the epoch when the wait ends. Absolute, so that it outlives the triggerer.
        None: as Airflow's own limit on the deferral says, which a gate that starts in the triggerer has.
    :param end_from_trigger: whether to end the task here, without a worker, once there are enough credits.
    :param do_xcom_push: whether the credits are pushed to XCom then.
    :param names_organization: whether the DAG names an organization, so that None can only be what became of
        it.
    :param timeout: seconds that the wait takes at most, where there is no ``end_time``.
    :param deferral_limit: seconds from the start to Airflow's own limit on the deferral, for the same case.
    """

    def __init__(
        self,
        *,
        min_credits: float | str,
        organization: str | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        poke_interval: float = 60.0,
        end_time: float | None = None,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
        names_organization: bool = False,
        timeout: float | None = None,
        deferral_limit: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow gives it no types
        # Nothing is checked here: what a constructor raises, Airflow does not hand to the task.
        self.min_credits = min_credits
        self.organization = organization
        self.stability_conn_id = stability_conn_id
        self.poke_interval = poke_interval
        self.end_time = end_time
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self.names_organization = names_organization
        self.timeout = timeout
        self.deferral_limit = deferral_limit
        self.timeout_after: Any = None  # set by the triggerers of 3.x

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        names = (
            "min_credits",
            "organization",
            "stability_conn_id",
            "poke_interval",
            "end_time",
            "end_from_trigger",
            "do_xcom_push",
            "names_organization",
            "timeout",
            "deferral_limit",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the one event."""
        try:
            event = await self._wait()
        except StabilityError as error:  # a parameter that a template rendered to nonsense
            event = failed_event(error)
        except Exception as error:
            # In words of ours: an exception that escapes a trigger is printed unmasked when the task resumes.
            self.log.exception("The gate broke")
            broken = StabilityError(f"the gate broke: {type(error).__name__}; the trigger's log has the rest")
            event = failed_event(broken)
        # Outside of a triggerer, as in dag.test(), nobody acts on an end event.
        if event["status"] == "success" and self.end_from_trigger and self.trigger_id is not None:
            yield await self._end(event["credits"])
        else:
            yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        needed = parse_min_credits(self.min_credits)
        organization = check_organization(self.organization, is_given=self.names_organization)
        check_connection_id(self.stability_conn_id)
        waiter = join(self.stability_conn_id, organization, needed, self.poke_interval)
        try:
            return await self._wait_at(waiter, needed)
        finally:
            waiter.leave()

    async def _wait_at(self, waiter: Waiter, needed: float) -> dict[str, Any]:
        end = max(self._end_of_wait(), time.time())
        said = None
        while waiter.outcome is None:
            left = end - time.time()
            # A wait looks once before it gives up, as Airflow's sensors do, if only the service lets it.
            if left <= 0 and not (left > -_LONGEST_LOOK and waiter.may_still_hear):
                return {"status": "timeout", "message": waiter.known.summary(needed)}
            try:
                async with asyncio.timeout(min(left, _LONGEST_NAP) if left > 0 else _LOOK_AGAIN):
                    await waiter.wait()
            except TimeoutError:
                continue
            if waiter.outcome is None:
                said = self._say(waiter, needed, said)
        if isinstance(waiter.outcome, Failed):
            return failed_event(waiter.outcome.error)
        assert isinstance(waiter.outcome, Opened)
        # Without a line: Airflow writes the event, and who ends the task writes that the gate is open. Ten
        # thousand gates that open at once wait for each other's lines.
        return {"status": "success", "credits": waiter.outcome.credits}

    def _end_of_wait(self) -> float:
        if self.end_time is not None:
            return self.end_time
        if self.timeout is None:
            return float("inf")
        # Started here, so that nobody could say when. Airflow's own limit is kept in its database over a
        # restart of the triggerer, and was so many seconds from the start. 2.11 has it with the task
        # instance.
        limit = self.timeout_after or getattr(self.task_instance, "trigger_timeout", None)
        if limit is None or self.deferral_limit is None:
            return time.time() + self.timeout
        return float(limit.timestamp()) - self.deferral_limit + self.timeout

    def _say(self, waiter: Waiter, needed: float, said: str | None) -> str | None:
        """Write what is known into this gate's own log, and that it is the same as before if it is."""
        known = waiter.known
        if waiter.is_known and known.credits is not None:
            line = describe(known.credits, needed)
            self.log.info("%s%s", line, " (still waiting)" if line == said else "")
        elif known.error is not None:
            line = known.error
            self.log.warning("Waiting on, balance unknown: %s%s", line, " (still)" if line == said else "")
        else:
            return said
        return line

    async def _end(self, available: float) -> TriggerEvent:
        """Return the event that ends the task here, with the same line and XCom as a worker's."""
        # Before the push: what is written right before an event, 3.x may put into the triggerer's own log, as
        # the supervisor hears of events and of lines on two ways (3.3.2 ``TriggerRunnerSupervisor``).
        self.log.info("%s: open", describe(available, parse_min_credits(self.min_credits)))
        if not self.do_xcom_push:
            return TaskSuccessEvent()
        try:
            return await success_event(self, available)
        except Exception:
            self.log.exception("The XCom could not be pushed from here; a worker ends the task")
            return TriggerEvent({"status": "success", "credits": available})


def failed_event(error: StabilityError) -> dict[str, Any]:
    """Return the payload of an event for an error that waiting cannot mend."""
    return {"status": "failed", "kind": type(error).__name__, "message": str(error)}
