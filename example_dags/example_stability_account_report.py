"""Account report: who the key belongs to and what each organization has left, without the e-mail address."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.operators.balance import BalanceOperator

with DAG("example_stability_account_report", start_date=datetime(2025, 1, 1), schedule=None, catchup=False):
    # XComs can be read by everybody who can read the DAG: only what is needed goes there.
    account = AccountOperator(task_id="account", fields=["id", "organizations"])

    @task
    def organization_ids(account: dict[str, Any]) -> list[str]:
        """Return the ids to ask for, one mapped task each."""
        return [organization["id"] for organization in account["organizations"]]

    balances = BalanceOperator.partial(task_id="balance").expand(
        organization=organization_ids(account.output)
    )

    @task
    def report(account: dict[str, Any], balances: list[dict[str, Any]]) -> list[str]:
        """Return one line per organization."""
        credits_of = {balance["organization"]: balance["credits"] for balance in balances}
        return [f"{each['name']}: {credits_of[each['id']]} credits" for each in account["organizations"]]

    report(account.output, balances.output)
