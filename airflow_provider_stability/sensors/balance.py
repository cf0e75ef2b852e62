"""BalanceSensor: the gate in front of a paid job.

Three things end a wait, in every mode: enough credits; a permanent error, which fails the task at once,
whatever ``retries`` and ``soft_fail`` say; and the ``timeout``. Nothing else does, however long the network,
the service or its rate limit get in the way. The waiting itself, with its intervals, back-off and timeout, is
Airflow's.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.connection.parameters import check_connection_id, check_organization
from airflow_provider_stability.dag_parsing import check_literal_min_credits
from airflow_provider_stability.exceptions import (
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
)
from airflow_provider_stability.gate.credits import (
    describe,
    describe_credits,
    format_number,
    is_enough,
    parse_min_credits,
)
from airflow_provider_stability.gate.fail_fast import describe_target, fail_fast
from airflow_provider_stability.links import BillingLink, show_link_early
from airflow_provider_stability.version_compat import can_start_in_triggerer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

__all__ = ["BalanceSensor"]

_BACKSTOP: Final = 60.0
"""Seconds by which Airflow's own limit on a deferral is later than the gate's: for when no triggerer runs."""
_CLOCK_SLACK: Final = 1.0
"""Seconds that may be left of a pause after a sleep of its length, as two clocks never agree."""
_MAX_DOUBLINGS: Final = 64
_TIMED_OUT: Final = "timeout"  # "Trigger/execution timeout" in 2.11, "Trigger timeout" in 3.x
_TRIGGER: Final = "airflow_provider_stability.triggers.balance.BalanceTrigger"


class BalanceSensor(BaseSensorOperator):
    """Wait until there are enough credits for the next task.

    Reading a balance is free and changes nothing, so the gate can be retried, cleared and run as often as
    needed. It does not reserve the credits: gates that open together see the same balance.

    ``poke_interval``, ``timeout``, ``mode``, ``exponential_backoff``, ``max_wait`` and ``soft_fail`` have the
    meaning that they have for any Airflow sensor. ``soft_fail`` skips the task after a timeout, never after a
    permanent error. ``silent_fail`` (in poke and reschedule mode) and ``never_fail`` cover permanent errors
    of the connection and the service, as Airflow says they should; a wrong parameter fails the task all the
    same.

    :param min_credits: the credits that are enough: a finite number of 0 or more, or a template that renders
        to one.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``. Every poke reads it anew, so a key that
        is replaced while the gate waits is used.
    :param deferrable: whether to wait in the triggerer, where all gates share one poll and none holds a
        worker. None: as Airflow's ``[operators] default_deferrable`` says. ``mode`` is ignored then, and
        ``exponential_backoff`` is refused.
    :param start_from_trigger: whether to start in the triggerer as well, without a worker process. The task
        starts on a worker all the same on Airflow 3.1 and 3.2, with templates before 3.3, with values from
        other tasks, and if it is mapped.
    :param end_from_trigger: whether to end in the triggerer as well, once there are enough credits. Every
        other end, and ``dag.test()``, takes a worker. Listeners on the worker, such as OpenLineage's, do not
        see a task that ends in the triggerer.
    :returns: the credits, a float, pushed to XCom.
    :raises StabilityParameterError: when the DAG is parsed, for a ``min_credits`` that is wrong and is no
        template.
    :raises AirflowFailException: for permanent errors.
    :raises AirflowSensorTimeout: after ``timeout``, with the last balance and the last error.
    """

    template_fields: Sequence[str] = ("min_credits", "organization", "stability_conn_id")
    ui_color = "#d9f2e6"
    operator_extra_links = (BillingLink(),)

    def __init__(
        self,
        *,
        min_credits: float | str,
        organization: str | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        deferrable: bool | None = None,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_literal_min_credits(min_credits, self)
        self.min_credits = min_credits
        self.organization = organization
        self._names_organization = organization is not None
        self.stability_conn_id = stability_conn_id
        self.deferrable = self._is_deferrable(deferrable, in_triggerer=start_from_trigger or end_from_trigger)
        self.end_from_trigger = end_from_trigger
        self.start_from_trigger = False
        if start_from_trigger:
            self.start_from_trigger = can_start_in_triggerer(min_credits, organization, stability_conn_id)
        if self.start_from_trigger:
            from airflow.triggers.base import StartTriggerArgs

            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_TRIGGER,
                trigger_kwargs=self._trigger_kwargs()
                | {"timeout": self.timeout, "deferral_limit": self._deferral_limit()},
                next_method="execute_complete",
                timeout=timedelta(seconds=self.timeout + _BACKSTOP),
            )

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002  # Airflow's signature
        """Read the balance once, and log it in one line."""
        from airflow_provider_stability.connection.loading import connection_disappeared
        from airflow_provider_stability.gate.wait import current_wait
        from airflow_provider_stability.hooks.stability import StabilityHook
        from airflow_provider_stability.metrics import recorded

        wait = current_wait()
        if wait.pause_left > _CLOCK_SLACK:
            return False
        if wait.pause_left:
            time.sleep(wait.pause_left)
        needed = parse_min_credits(self.min_credits)
        try:
            # A hook per poke, so that a change of the connection is seen. The next poke is the retry.
            with StabilityHook(self.stability_conn_id, max_retries=0) as hook:
                settings = hook.client.settings
                wait.connection_was_read = True
                organization = self._checked_organization() or settings.organization
                available = recorded(
                    self.stability_conn_id, organization, lambda: hook.get_balance(organization).credits
                )
        except StabilityError as error:
            if getattr(error, "is_missing", False) and wait.connection_was_read:
                error = connection_disappeared(self.stability_conn_id)
            wait.add_error(error)
            if not error.transient:
                raise error from None
            self.log.warning("Still waiting; could not read the balance: %s", error)
            return False
        wait.add_credits(available)
        if not is_enough(available, needed):
            self.log.info("%s", describe(available, needed))
            return False
        self.log.info("%s: open", describe(available, needed))
        return PokeReturnValue(is_done=True, xcom_value=available)

    def execute(self, context: Context) -> Any:
        """Wait as Airflow's sensors do, and return the credits."""
        if not (self.reschedule or self.deferrable):
            show_link_early(context)
        with fail_fast(self):
            # Before the first request: no balance could be compared with a wrong threshold.
            needed = parse_min_credits(self.min_credits)
            self._checked_organization()
            check_connection_id(self.stability_conn_id)
            if not self.reschedule:  # which comes here at every poke
                what, limit = describe_credits(needed), format_number(self.timeout)
                self.log.info("Waiting for %s (%s), for at most %s s", what, describe_target(self), limit)
            if self.deferrable:
                from airflow_provider_stability.triggers.balance import BalanceTrigger

                # At once: gates that start together must not each make a request. One poll answers them all.
                self.defer(
                    trigger=BalanceTrigger(
                        **(self._trigger_kwargs() | {"min_credits": needed}),
                        end_time=time.time() + self.timeout,
                    ),
                    method_name="execute_complete",
                    timeout=timedelta(seconds=self.timeout + _BACKSTOP),
                )
            from airflow_provider_stability.gate.wait import waiting

            with waiting(context, rescheduled=self.reschedule) as wait:
                try:
                    return super().execute(context)
                except (AirflowSensorTimeout, AirflowSkipException) as end:
                    found = f"{wait.latest.summary(needed)} ({describe_target(self)})"
                    raise type(end)(f"{end} {found}") from end.__cause__

    def execute_complete(self, context: Context, event: Any = None) -> float:  # noqa: ARG002  # Airflow's
        """Take the outcome from the trigger, and return the credits."""
        from airflow_provider_stability.gate.outcome import Failed, Opened, TimedOut, from_event

        match from_event(event):
            case Opened(available):
                self.log.info("%s: open", describe(available, parse_min_credits(self.min_credits)))
                return available
            case TimedOut(message):
                timeout = format_number(self.timeout)
                raise self._timed_out(f"Timed out after {timeout} s. {message} ({describe_target(self)})")
            case Failed(error):
                if self.never_fail and not isinstance(error, StabilityParameterError):
                    raise AirflowSkipException(f"Skipping due to never_fail is set to True. {error}")
                raise error

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give each end of a deferred wait the meaning that it has in the other modes, on every Airflow."""
        with fail_fast(self):
            if next_method == "__fail__":
                self._resume_failed(next_kwargs or {})
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowSkipException as skip:
                # Airflow 3 puts words of its own before ours. And under never_fail it skips after a timeout,
                # which it does not do where a sensor waits on a worker.
                is_timeout = isinstance(skip.__cause__, AirflowSensorTimeout)
                kind = AirflowSensorTimeout if is_timeout else AirflowSkipException
                raise kind(str(skip.__cause__ or skip)) from None

    def _resume_failed(self, next_kwargs: dict[str, Any]) -> None:
        """Raise for a trigger that sent no event: no triggerer has run it, or it broke.

        Without this, 2.11 retries a wait that has timed out, and ``soft_fail`` skips after a broken trigger.
        """
        if _TIMED_OUT in str(next_kwargs.get("error")).lower():
            limit, timeout = self.execution_timeout, format_number(self.timeout)
            if limit is not None and limit.total_seconds() < self.timeout:
                # As where it waits on a worker: the task fails, and its retries apply.
                raise AirflowTaskTimeout(
                    f"The execution_timeout of {format_number(limit.total_seconds())} s ended the wait "
                    f"before the gate's timeout of {timeout} s. The last balance is in the log."
                )
            raise self._timed_out(
                f"Timed out after {timeout} s, and no triggerer ended the wait. Check that one is running, "
                "serves this task's queue, and has free capacity ([triggerer] capacity). The last balance is "
                "in the log."
            )
        self.log.error("The trigger failed:\n%s", "".join(next_kwargs.get("traceback") or []))
        if self.never_fail:
            raise AirflowSkipException("Skipping due to never_fail is set to True. The trigger failed.")
        raise StabilityConnectionError("the trigger failed; see its log for the reason")

    def _timed_out(self, message: str) -> AirflowSkipException | AirflowSensorTimeout:
        return (AirflowSkipException if self.soft_fail else AirflowSensorTimeout)(message)

    def _is_deferrable(self, wanted: bool | None, *, in_triggerer: bool) -> bool:  # noqa: FBT001
        if wanted is False and in_triggerer:
            raise StabilityParameterError(
                "deferrable is False; it must be True or left out when start_from_trigger or "
                "end_from_trigger is set"
            )
        if self.exponential_backoff:
            if wanted or in_triggerer:
                raise StabilityParameterError(
                    "exponential_backoff is True; it must be False for a deferrable gate: all gates of an "
                    "organization share one poll, so backing off saves nothing. Raise poke_interval instead"
                )
            return False  # whatever the default is
        if wanted is None:
            wanted = in_triggerer or conf.getboolean("operators", "default_deferrable", fallback=False)
        return wanted

    def _deferral_limit(self) -> float:
        """Return the seconds that Airflow lets a deferral take; the ``execution_timeout`` counts, too."""
        limits = [timedelta(seconds=self.timeout + _BACKSTOP), self.execution_timeout]
        return min(each for each in limits if each is not None).total_seconds()

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {
            "min_credits": self.min_credits,
            "organization": self.organization,
            "stability_conn_id": self.stability_conn_id,
            "poke_interval": self.poke_interval,
            "end_from_trigger": self.end_from_trigger,
            "do_xcom_push": self.do_xcom_push,
            "names_organization": self._names_organization,
        }

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        from airflow_provider_stability.gate.wait import current_wait

        # Airflow calls this between two pokes in both modes, with this signature from 2.11 to 3.3.
        # It raises 2 to the number of pokes, which overflows after a thousand: 17 h at a max_wait of 60 s.
        poke_count = min(poke_count, _MAX_DOUBLINGS)
        interval = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        wait = current_wait()
        pause = wait.pause_left
        if pause <= interval:
            return interval
        left = max(self.timeout - run_duration(), 0.0)
        if pause <= left:
            self.log.info("The service asked for a pause; next request in %.0f s", pause)
            return pause
        # The pause outlasts the wait. The next poke, at the timeout, makes no request.
        message = f"The service asked for a pause of {pause:.0f} s, but this wait ends in {left:.0f} s"
        if wait.survives:
            self.log.warning("%s; no further request will be made", message)
            return left
        # In reschedule mode before 3.3, the next process would know of no pause and make a request.
        raise self._timed_out(f"{message}; ending it now, as no request is allowed before then.")

    def _checked_organization(self) -> str | None:
        return check_organization(self.organization, is_given=self._names_organization)
