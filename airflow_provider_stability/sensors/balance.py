"""BalanceSensor: the gate in front of a paid job.

What ends a wait, in every mode: enough credits; an error that waiting cannot mend (the task fails at once,
whatever ``retries`` and ``soft_fail`` say); the ``timeout``. Nothing else does: the network, the service and
its rate limit may break for as long as they like. The waiting itself, with its intervals, back-off and
timeout, is Airflow's.
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
from airflow_provider_stability.connection.parameters import BACKSTOP, check_connection_id, check_organization
from airflow_provider_stability.exceptions import (
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    permanent_error,
)
from airflow_provider_stability.gate.credits import (
    check_literal_min_credits,
    describe,
    describe_credits,
    is_enough,
    parse_min_credits,
)
from airflow_provider_stability.gate.fail_fast import permanent_errors_fail_at_once, whose
from airflow_provider_stability.gate.observation import Wait, current_wait, waiting
from airflow_provider_stability.links import BILLING_URL, BillingLink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stability.hooks.stability import StabilityHook

__all__ = ["BalanceSensor"]

_SLEW: Final = 1.0
"""Seconds that may be left of a pause when a sleep for its length is over: clocks differ."""

_TRIGGER: Final = "airflow_provider_stability.triggers.balance.BalanceTrigger"
_MOST_DOUBLINGS: Final = 64
_TIMED_OUT: Final = "timeout"  # "Trigger/execution timeout" in 2.11, "Trigger timeout" in 3.x


class BalanceSensor(BaseSensorOperator):
    """Wait until there are enough credits for what comes next.

    Reading a balance is free and changes nothing, so the gate can be repeated, cleared and run many times
    over. The credits are not reserved: gates that open together see the same balance.

    ``poke_interval``, ``timeout``, ``mode``, ``exponential_backoff``, ``max_wait`` and ``soft_fail`` mean
    what they mean to any Airflow sensor. ``soft_fail`` makes a skip of a timeout, never of an error that
    waiting cannot mend. ``silent_fail`` (in poke and reschedule mode) and ``never_fail`` do cover such errors
    of the connection and the service, as Airflow says they should; a wrong parameter fails the task all the
    same.

    :param min_credits: the credits that are enough: a finite number of 0 or more, or a template that renders
        to one.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``. It is read anew for every poke, so a key
        that is changed while a gate waits is taken up.
    :param deferrable: whether to wait in the triggerer, where all gates share one poll and none holds a
        worker. None: as Airflow's ``[operators] default_deferrable`` says. ``mode`` is of no account then,
        and ``exponential_backoff`` is refused.
    :param start_from_trigger: whether to start there too, without a worker process. Falls back to starting on
        a worker on Airflow 3.1 and 3.2, with templates before 3.3, with values from other tasks, and in
        mapped tasks.
    :param end_from_trigger: whether to end there too, once there are enough credits. Every other end, and
        ``dag.test()``, takes a worker. Listeners on the worker, such as OpenLineage's, do not see a task end
        there.
    :returns: the credits, a float, pushed to XCom.
    :raises StabilityParameterError: when the DAG is parsed, for a ``min_credits`` that can be seen to be
        wrong.
    :raises AirflowFailException: for errors that waiting cannot mend.
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
        self.start_from_trigger = start_from_trigger and self._can_start_in_triggerer()
        if self.start_from_trigger:
            from airflow.triggers.base import StartTriggerArgs

            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_TRIGGER,
                trigger_kwargs=self._trigger_kwargs()
                | {"timeout": self.timeout, "deferral_limit": self._deferral_limit()},
                next_method="execute_complete",
                timeout=timedelta(seconds=self.timeout + BACKSTOP),
            )

    def execute(self, context: Context) -> Any:
        """Wait as Airflow's sensors do, and return the credits."""
        self._offer_link(context)
        with permanent_errors_fail_at_once(self):
            # Before the first request: no answer could be compared with a broken threshold.
            needed = parse_min_credits(self.min_credits)
            self._checked_organization()
            check_connection_id(self.stability_conn_id)
            if not self.reschedule:  # which is here at every look
                what = describe_credits(needed)
                self.log.info("Waiting for %s (%s), for %g s at most", what, whose(self), self.timeout)
            if self.deferrable:
                from airflow_provider_stability.triggers.balance import BalanceTrigger

                # At once: gates that start together must not each ask from a worker. One poll answers all.
                self.defer(
                    trigger=BalanceTrigger(
                        **(self._trigger_kwargs() | {"min_credits": needed}),
                        end_time=time.time() + self.timeout,
                    ),
                    method_name="execute_complete",
                    timeout=timedelta(seconds=self.timeout + BACKSTOP),
                )
            with waiting(context, rescheduled=self.reschedule) as wait:
                try:
                    return super().execute(context)
                except (AirflowSensorTimeout, AirflowSkipException) as end:
                    raise type(end)(f"{end} {wait.summary(needed)} ({whose(self)})") from end.__cause__

    def execute_complete(self, context: Context, event: Any = None) -> float:  # noqa: ARG002  # Airflow's
        """Take up what the trigger found, and return the credits."""
        match event:
            case {"status": "success", "credits": int() | float() as available}:
                self.log.info("%s: open", describe(available, parse_min_credits(self.min_credits)))
                return float(available)
            case {"status": "timeout", "message": str() as known}:
                raise self._timed_out(f"The wait of {self.timeout:g} s is over. {known} ({whose(self)})")
            case {"status": "failed", "kind": str() as kind, "message": str() as message}:
                if self.never_fail:
                    raise AirflowSkipException(f"Skipping due to never_fail is set to True. {message}")
                raise permanent_error(kind, message)
        raise StabilityError(f"the trigger sent {event!r}; allowed is an event of success, timeout or failed")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give each end of a deferred wait the meaning it has in the other modes, on every version."""
        with permanent_errors_fail_at_once(self):
            if next_method == "__fail__":
                self._resume_failed(next_kwargs or {})
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except AirflowSkipException as skip:
                # Airflow 3 has put words of its own in front of ours; and under never_fail it makes a skip
                # of a timeout, which it does not where a sensor waits on a worker.
                is_timeout = isinstance(skip.__cause__, AirflowSensorTimeout)
                kind = AirflowSensorTimeout if is_timeout else AirflowSkipException
                raise kind(str(skip.__cause__ or skip)) from None

    def _resume_failed(self, next_kwargs: dict[str, Any]) -> None:
        """Raise for a trigger that did not come to its end: no triggerer was there, or it broke.

        Without this, 2.11 retries a wait whose time is over, and ``soft_fail`` makes a skip of a broken
        trigger.
        """
        if _TIMED_OUT in str(next_kwargs.get("error")).lower():
            limit = self.execution_timeout
            if limit is not None and limit.total_seconds() < self.timeout:
                # As where it waits on a worker: the task fails, and its retries count.
                raise AirflowTaskTimeout(
                    f"The execution_timeout of {limit.total_seconds():g} s is over; the gate's timeout is "
                    f"{self.timeout:g} s. What it knew is in its log."
                )
            raise self._timed_out(
                f"The wait of {self.timeout:g} s is over, and no triggerer has ended it: does one run, for "
                "this task's queue, with room for it ([triggerer] capacity)? What it knew is in its log."
            )
        self.log.error("The trigger failed:\n%s", "".join(next_kwargs.get("traceback") or []))
        if self.never_fail:
            raise AirflowSkipException("Skipping due to never_fail is set to True. The trigger failed.")
        raise StabilityConnectionError("the trigger failed; its log has the reason")

    def _timed_out(self, said: str) -> AirflowSkipException | AirflowSensorTimeout:
        """Return what ends a wait whose time is over."""
        return (AirflowSkipException if self.soft_fail else AirflowSensorTimeout)(said)

    def _is_deferrable(self, wanted: bool | None, *, in_triggerer: bool) -> bool:  # noqa: FBT001
        if wanted is False and in_triggerer:
            raise StabilityParameterError(
                "deferrable is False; allowed with start_from_trigger or end_from_trigger is True, "
                "or to leave it out"
            )
        if self.exponential_backoff:
            if wanted or in_triggerer:
                raise StabilityParameterError(
                    "exponential_backoff is True; allowed with deferrable is False: all gates of an "
                    "organization share one poll, and backing off makes it no rarer. Raise poke_interval"
                )
            return False  # whatever the default is
        if wanted is None:
            wanted = in_triggerer or conf.getboolean("operators", "default_deferrable", fallback=False)
        return wanted

    def _can_start_in_triggerer(self) -> bool:
        """Tell whether this Airflow can, with these parameters; else the task defers from a worker."""
        from airflow_provider_stability.version_compat import RENDERS_IN_TRIGGERER, STARTS_IN_TRIGGERER

        values = (self.min_credits, self.organization, self.stability_conn_id)
        has_template = any(isinstance(each, str) and ("{{" in each or "{%" in each) for each in values)
        is_plain = all(each is None or isinstance(each, str | int | float) for each in values)
        return STARTS_IN_TRIGGERER and is_plain and (RENDERS_IN_TRIGGERER or not has_template)

    def _deferral_limit(self) -> float:
        """Return the seconds that Airflow lets a deferral take; the ``execution_timeout`` counts, too."""
        limits = [timedelta(seconds=self.timeout + BACKSTOP), self.execution_timeout]
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

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002  # Airflow's signature
        """Ask once, and say in one line what is known."""
        from airflow_provider_stability.connection.loading import connection_disappeared
        from airflow_provider_stability.hooks.stability import StabilityHook

        wait = current_wait()
        if wait.pause_left > _SLEW:
            return False
        if wait.pause_left:
            time.sleep(wait.pause_left)
        needed = parse_min_credits(self.min_credits)
        try:
            # A hook per poke, so that a connection which changes is seen. The next poke is the repetition.
            with StabilityHook(self.stability_conn_id, max_retries=0) as hook:
                settings = hook.client.settings
                wait.was_read = True
                available = self._ask(hook, settings.organization)
        except StabilityConfigurationError as error:
            if error.is_missing and wait.was_read:
                return self._wait_on(wait, connection_disappeared(self.stability_conn_id))
            return self._wait_on(wait, error)
        except StabilityError as error:
            return self._wait_on(wait, error)
        wait.found(available)
        if not is_enough(available, needed):
            self.log.info("%s", describe(available, needed))
            return False
        self.log.info("%s: open", describe(available, needed))
        return PokeReturnValue(is_done=True, xcom_value=available)

    def _wait_on(self, wait: Wait, error: StabilityError) -> bool:
        wait.failed(error)
        if not error.transient:
            raise error
        self.log.warning("Waiting on, balance unknown: %s", error)
        return False

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        # Airflow's hook between two pokes, of both modes, with this signature from 2.11 to 3.3.
        # It raises 2 to the number of pokes, which overflows after a thousand: 17 h at a max_wait of 60 s.
        poke_count = min(poke_count, _MOST_DOUBLINGS)
        interval = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        wait = current_wait()
        pause = wait.pause_left
        if pause <= interval:
            return interval
        left = self.timeout - run_duration()
        if pause <= left:
            self.log.info("The service asks for a pause: next request in %.0f s", pause)
            return pause
        return self._sit_out(wait, pause, left)

    def _sit_out(self, wait: Wait, pause: float, left: float) -> float:
        """Return the time to the timeout, for a pause that outlasts it: the poke then makes no request."""
        said = f"The service asks for a pause of {pause:.0f} s, and this wait ends in {max(left, 0.0):.0f} s"
        if wait.survives:
            self.log.warning("%s: no further request", said)
            return max(left, 0.0)
        # Rescheduled by an Airflow without a memory, the next process would ask in the middle of the pause.
        raise self._timed_out(f"{said}; ending now, as no request could be made before.")

    def _ask(self, hook: StabilityHook, default: str | None) -> float:
        """Return the balance, and tell the metrics."""
        from airflow_provider_stability.metrics import record_poll

        organization = self._checked_organization() or default
        try:
            available = hook.get_balance(organization).credits
        except StabilityError as error:
            record_poll(self.stability_conn_id, organization, error)
            raise
        record_poll(self.stability_conn_id, organization, available)
        return available

    def _checked_organization(self) -> str | None:
        return check_organization(self.organization, is_given=self._names_organization)

    def _offer_link(self, context: Context) -> None:
        """Show the link from the start. Airflow 3 stores it when the process ends: late for a long poke."""
        ti = context.get("ti")
        link = BillingLink()
        # A backend of the user's own would store the link where the UI does not look.
        own_backend = conf.get("core", "xcom_backend", fallback="").rpartition(".")[2] != "BaseXCom"
        is_brief = self.reschedule or self.deferrable
        if ti is None or is_brief or own_backend or not hasattr(link, "xcom_key"):
            return
        try:
            ti.xcom_push(key=link.xcom_key, value=BILLING_URL)
        except Exception as error:  # noqa: BLE001  # no button is worth a gate
            self.log.warning("The link %r is not shown yet: %s", link.name, error)
