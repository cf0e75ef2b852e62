"""The "Buy credits" button on a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

__all__ = ["BILLING_URL", "BillingLink", "show_link_early"]

log = logging.getLogger(__name__)

BILLING_URL: Final = "https://platform.stability.ai/account/credits"


class BillingLink(BaseOperatorLink):
    """Open Stability AI's billing page, where credits are bought."""

    name = "Buy credits"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        """Return the URL of the page, the same for every task."""
        return BILLING_URL


def show_link_early(context: Context) -> None:
    """Show the button while the task runs. Airflow 3 stores it only when the process ends."""
    ti = context.get("ti")
    link = BillingLink()
    # A custom XCom backend would store the link where the UI does not look.
    has_own_backend = conf.get("core", "xcom_backend", fallback="").rpartition(".")[2] != "BaseXCom"
    if ti is None or has_own_backend or not hasattr(link, "xcom_key"):
        return
    try:
        ti.xcom_push(key=link.xcom_key, value=BILLING_URL)
    except Exception as error:  # noqa: BLE001  # no button is worth a gate
        log.warning("The link %r is not shown yet: %s", link.name, error)
