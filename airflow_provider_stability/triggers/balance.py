"""BalanceTrigger: a gate in the triggerer. The poll waits; what an outcome means is the sensor's business."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.connection.parameters import check_connection_id, check_organization
from airflow_provider_stability.exceptions import StabilityError
from airflow_provider_stability.gate.credits import describe, parse_min_credits
from airflow_provider_stability.gate.outcome import Failed, Opened, TimedOut, to_event
from airflow_provider_stability.polling.registry import subscribe
from airflow_provider_stability.version_compat import success_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_stability.gate.outcome import Outcome
    from airflow_provider_stability.polling.subscription import Subscription

__all__ = ["BalanceTrigger"]

_MAX_SLEEP: Final = 600.0  # after that at the latest, a change of the wall clock is noticed
_MAX_FIRST_ANSWER: Final = 30.0
"""Seconds past its end that a wait gives its first answer: the default limit of a call."""
_CHECK_AGAIN: Final = 0.2

_PARAMETERS: Final = (
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


class BalanceTrigger(BaseTrigger):
    """Wait until there are enough credits, together with every other gate on the same credits.

    It fires one event, as ``gate.outcome`` defines it: plain JSON without a secret. Nothing is raised.

    :param min_credits: the credits that are enough; a number or its text.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :param poke_interval: seconds between two polls, at most; the shortest of all gates on an organization
        counts.
    :param end_time: seconds since the epoch when the wait ends. Absolute, so that it survives a restart of
        the triggerer. None: derived from Airflow's own limit on the deferral, which a gate that starts in the
        triggerer has.
    :param end_from_trigger: whether to end the task here, without a worker, once there are enough credits.
    :param do_xcom_push: whether to push the credits to XCom then.
    :param names_organization: whether the DAG names an organization. If it does, None is what its template
        rendered to, and refused.
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
        # Nothing is checked here: Airflow does not pass on to the task what a constructor raises.
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
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in _PARAMETERS}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the one event."""
        outcome: Outcome
        try:
            outcome = await self._wait()
        except StabilityError as error:  # a parameter that a template rendered to nonsense
            outcome = Failed(error)
        except Exception as error:
            # In our own words: Airflow prints an exception that escapes a trigger unmasked when the task
            # resumes.
            self.log.exception("The gate broke")
            outcome = Failed(StabilityError(f"the gate broke: {type(error).__name__}; see the trigger's log"))
        # Outside of a triggerer, as in dag.test(), nobody acts on an event that ends the task.
        if isinstance(outcome, Opened) and self.end_from_trigger and self.trigger_id is not None:
            yield await self._end_task(outcome)
        else:
            yield TriggerEvent(to_event(outcome))

    async def _wait(self) -> Outcome:
        needed = parse_min_credits(self.min_credits)
        organization = check_organization(self.organization, is_given=self.names_organization)
        check_connection_id(self.stability_conn_id)
        subscription = subscribe(self.stability_conn_id, organization, needed, self.poke_interval)
        try:
            return await self._wait_for(subscription, needed)
        finally:
            subscription.cancel()

    async def _wait_for(self, subscription: Subscription, needed: float) -> Outcome:
        end = max(self._end_of_wait(), time.time())
        last_line = None
        while subscription.outcome is None:
            left = end - time.time()
            # Like Airflow's sensors, a gate looks once before it gives up, unless the service asks for a
            # pause.
            is_first_answer_due = subscription.latest.state is None
            if left <= 0 and not (left > -_MAX_FIRST_ANSWER and is_first_answer_due):
                return TimedOut(subscription.latest.summary(needed))
            try:
                async with asyncio.timeout(min(left, _MAX_SLEEP) if left > 0 else _CHECK_AGAIN):
                    await subscription.wait()
            except TimeoutError:
                continue
            if subscription.outcome is None:
                last_line = self._log_latest(subscription, needed, last_line)
        # No line for an open gate: Airflow logs the event, and whoever ends the task logs that the gate is
        # open. Ten thousand gates that open at once would wait for each other's lines.
        return subscription.outcome

    def _end_of_wait(self) -> float:
        if self.end_time is not None:
            return self.end_time
        if self.timeout is None:
            return float("inf")
        # The gate started here, so nobody could say when it ends. Airflow keeps its own limit, so many
        # seconds after the start, in its database over a restart of the triggerer. 2.11 has it with the task
        # instance.
        limit = self.timeout_after or getattr(self.task_instance, "trigger_timeout", None)
        if limit is None or self.deferral_limit is None:
            return time.time() + self.timeout
        return float(limit.timestamp()) - self.deferral_limit + self.timeout

    def _log_latest(self, subscription: Subscription, needed: float, last_line: str | None) -> str | None:
        """Log what the poll has found into this gate's own log, and whether that is what it last logged."""
        latest = subscription.latest
        if latest.is_balance_known and latest.credits is not None:
            line = describe(latest.credits, needed)
            self.log.info("%s%s", line, " (still waiting)" if line == last_line else "")
        elif latest.error is not None:
            line = latest.error
            again = " (unchanged)" if line == last_line else ""
            self.log.warning("Still waiting; could not read the balance: %s%s", line, again)
        else:
            return last_line
        return line

    async def _end_task(self, outcome: Opened) -> TriggerEvent:
        """Return the event that ends the task here, with the same log line and XCom as a worker's."""
        # Logged before the push: 3.x may put a line from right before an event into the triggerer's own log,
        # as its supervisor gets events and lines over two channels (3.3.2 ``TriggerRunnerSupervisor``).
        self.log.info("%s: open", describe(outcome.credits, parse_min_credits(self.min_credits)))
        if not self.do_xcom_push:
            return TaskSuccessEvent()
        try:
            return await success_event(self, outcome.credits)
        except Exception:
            self.log.exception("Could not push the XCom from the triggerer; a worker will end the task")
            return TriggerEvent(to_event(outcome))
