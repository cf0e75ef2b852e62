"""BalanceOperator and BalanceBranchOperator: the current credits, without waiting for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseBranchOperator, BaseOperator

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.connection.parameters import check_organization
from airflow_provider_stability.dag_parsing import check_literal_min_credits
from airflow_provider_stability.gate.credits import (
    describe,
    describe_credits,
    is_enough,
    parse_min_credits,
)
from airflow_provider_stability.gate.fail_fast import fail_fast
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.links import BillingLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.providers.common.compat.sdk import Context

__all__ = ["BalanceBranchOperator", "BalanceOperator"]


class BalanceOperator(BaseOperator):
    """Push an organization's current credits to XCom. Free, and safe to retry.

    :param organization: whose credits count. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :returns: ``{"credits": float, "organization": str or None}``; None stands for the account's default.
    :raises AirflowFailException: for errors that a retry cannot fix, such as a wrong key.
    :raises StabilityError: for transient errors, after the connection's ``max_retries``.
    """

    template_fields: Sequence[str] = ("organization", "stability_conn_id")
    ui_color = "#ece8f8"

    def __init__(
        self,
        *,
        organization: str | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.organization = organization
        self._names_organization = organization is not None
        self.stability_conn_id = stability_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  # Airflow's signature
        """Read the balance and return it for XCom."""
        with fail_fast(self):
            organization = check_organization(self.organization, is_given=self._names_organization)
            with StabilityHook(self.stability_conn_id) as hook:
                available = hook.get_balance(organization).credits
                organization = organization or hook.client.settings.organization
        self.log.info("%s in %s", describe_credits(available), organization or "the default organization")
        return {"credits": available, "organization": organization}


class BalanceBranchOperator(BaseBranchOperator):
    """Follow one branch if there are enough credits now, another if not. To wait, use ``BalanceSensor``.

    :param min_credits: how many credits are enough: a finite number of 0 or more, or a template that renders
        to one.
    :param follow_task_ids_if_true: a task id, task group id, or list of them, to follow if there are enough.
    :param follow_task_ids_if_false: the same, if there are not.
    :param organization: whose credits count. None: the connection's organization, else the account's default.
    :param stability_conn_id: the connection, of type ``stability``.
    :raises AirflowFailException: for errors that a retry cannot fix, such as a wrong key.
    :raises StabilityError: for transient errors, after the connection's ``max_retries``. Neither branch is
        followed if the balance is unknown.
    """

    template_fields: Sequence[str] = ("min_credits", "organization", "stability_conn_id")
    ui_color = "#ece8f8"
    operator_extra_links = (BillingLink(),)

    def __init__(
        self,
        *,
        min_credits: float | str,
        follow_task_ids_if_true: str | Iterable[str],
        follow_task_ids_if_false: str | Iterable[str],
        organization: str | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_literal_min_credits(min_credits, self)
        self.min_credits = min_credits
        self.follow_task_ids_if_true = follow_task_ids_if_true
        self.follow_task_ids_if_false = follow_task_ids_if_false
        self.organization = organization
        self._names_organization = organization is not None
        self.stability_conn_id = stability_conn_id

    def choose_branch(self, context: Context) -> str | Iterable[str]:  # noqa: ARG002  # Airflow's signature
        """Return the tasks to follow."""
        with fail_fast(self):
            needed = parse_min_credits(self.min_credits)
            organization = check_organization(self.organization, is_given=self._names_organization)
            with StabilityHook(self.stability_conn_id) as hook:
                available = hook.get_balance(organization).credits
        enough = is_enough(available, needed)
        chosen = self.follow_task_ids_if_true if enough else self.follow_task_ids_if_false
        self.log.info("%s: following %s", describe(available, needed), chosen)
        return chosen
