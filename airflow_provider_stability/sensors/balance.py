"""BalanceSensor: the gate in front of a paid job.

What ends a wait, in every mode: enough credits; an error that waiting cannot mend (the task fails at once,
whatever ``retries`` and ``soft_fail`` say); the ``timeout``. Nothing else does: the network, the service and
its rate limit may break for as long as they like. The waiting itself, with its intervals, back-off and
timeout, is Airflow's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_stability.connection_fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.credits import (
    check_literal_min_credits,
    describe,
    is_enough,
    parse_min_credits,
)
from airflow_provider_stability.exceptions import StabilityError
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.links import BILLING_URL, BillingLink
from airflow_provider_stability.settings import check_organization
from airflow_provider_stability.task_failure import permanent_errors_fail_at_once
from airflow_provider_stability.waiting import Wait, current_wait, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

__all__ = ["BalanceSensor"]

_SLEW: Final = 1.0
"""Seconds that may be left of a pause when a sleep for its length is over: clocks differ."""

_MOST_DOUBLINGS: Final = 64


class BalanceSensor(BaseSensorOperator):
    """Wait until there are enough credits for what comes next.

    Reading a balance is free and changes nothing, so the gate can be repeated, cleared and run many times
    over. The credits are not reserved: gates that open together see the same balance.

    ``poke_interval``, ``timeout``, ``mode``, ``exponential_backoff``, ``max_wait`` and ``soft_fail`` mean
    what they mean to any Airflow sensor. ``soft_fail`` makes a skip of a timeout, never of an error that
    waiting cannot mend. ``silent_fail`` and ``never_fail`` do cover such errors, as Airflow says they should.

    :param min_credits: the credits that are enough: a finite number of 0 or more, or a template that renders
        to one.
    :param organization: whose credits. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``. It is read anew for every poke, so a key
        that is changed while a gate waits is taken up.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_literal_min_credits(min_credits, self)
        self.min_credits = min_credits
        self.organization = organization
        self._names_organization = organization is not None
        self.stability_conn_id = stability_conn_id

    def execute(self, context: Context) -> Any:
        """Wait as Airflow's sensors do, and return the credits."""
        self._offer_link(context)
        with permanent_errors_fail_at_once():
            # Before the first request: no answer could be compared with a broken threshold.
            needed = parse_min_credits(self.min_credits)
            self._checked_organization()
            with waiting(context, rescheduled=self.reschedule) as wait:
                try:
                    return super().execute(context)
                except (AirflowSensorTimeout, AirflowSkipException) as end:
                    raise type(end)(f"{end} {wait.summary(needed)}") from end.__cause__

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002  # Airflow's signature
        """Ask once, and say in one line what is known."""
        wait = current_wait()
        if wait.pause_left > _SLEW:
            return False
        if wait.pause_left:
            time.sleep(wait.pause_left)
        needed = parse_min_credits(self.min_credits)
        try:
            # A hook per poke, so that a connection which changes is seen. No repetition: the next poke is
            # one.
            with StabilityHook(self.stability_conn_id, max_retries=0) as hook:
                available = hook.get_balance(self._checked_organization()).credits
        except StabilityError as error:
            wait.failed(error)
            if not error.transient:
                raise
            self.log.warning("Waiting on, balance unknown: %s", error)
            return False
        wait.found(available)
        if not is_enough(available, needed):
            self.log.info("%s", describe(available, needed))
            return False
        self.log.info("%s: open", describe(available, needed))
        return PokeReturnValue(is_done=True, xcom_value=available)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        # Airflow's hook between two pokes, of both modes, with this signature from 2.11 to 3.3.
        # It raises 2 to the number of pokes, which overflows after a thousand (17 hours at a max_wait of 60
        # s).
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
        end = AirflowSkipException if self.soft_fail else AirflowSensorTimeout
        raise end(f"{said}; ending now, as no request could be made before.")

    def _checked_organization(self) -> str | None:
        return check_organization(self.organization, is_given=self._names_organization)

    def _offer_link(self, context: Context) -> None:
        """Show the link from the start. Airflow 3 stores it when the process ends: late for a long poke."""
        ti = context.get("ti")
        link = BillingLink()
        # A backend of the user's own would store the link where the UI does not look.
        own_backend = conf.get("core", "xcom_backend", fallback="").rpartition(".")[2] != "BaseXCom"
        if ti is None or self.reschedule or own_backend or not hasattr(link, "xcom_key"):
            return
        try:
            ti.xcom_push(key=link.xcom_key, value=BILLING_URL)
        except Exception as error:  # noqa: BLE001  # no button is worth a gate
            self.log.warning("The link %r is not shown yet: %s", link.name, error)
