"""The "Buy credits" button on a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

__all__ = ["BILLING_URL", "BillingLink"]

BILLING_URL: Final = "https://platform.stability.ai/account/credits"


class BillingLink(BaseOperatorLink):
    """Open Stability AI's billing page, where credits are bought."""

    name = "Buy credits"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        """Return the URL of the page, the same for every task."""
        return BILLING_URL
