"""AccountOperator: the account behind an API key, as an XCom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_stability.connection.fields import DEFAULT_CONNECTION_ID
from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.fail_fast import fail_fast
from airflow_provider_stability.hooks.stability import StabilityHook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stability.api.models import Account

__all__ = ["AccountOperator"]


class AccountOperator(BaseOperator):
    """Push the account of the connection's key to XCom. Free, and safe to retry.

    The account includes an e-mail address, which everybody who can read the DAG's XComs can read. To leave it
    out, list the ``fields`` that you need.

    :param fields: the account's fields to push, such as ``["id", "organizations"]``. None: all that the
        service sends.
    :param stability_conn_id: the connection, of type ``stability``.
    :returns: a plain dict, readable without this package. A listed field that the service omits, as it may
        omit ``profile_picture``, is None.
    :raises AirflowFailException: for errors that a retry cannot fix, such as a wrong key or an unknown field.
    :raises StabilityError: for transient errors, after the connection's ``max_retries``.
    """

    template_fields: Sequence[str] = ("fields", "stability_conn_id")
    ui_color = "#ece8f8"

    def __init__(
        self,
        *,
        fields: Sequence[str] | None = None,
        stability_conn_id: str = DEFAULT_CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fields = fields
        self.stability_conn_id = stability_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  # Airflow's signature
        """Read the account and return it for XCom."""
        with fail_fast(self):
            fields = _check_fields(self.fields)
            with StabilityHook(self.stability_conn_id) as hook:
                account = hook.get_account()
            values = _select(account, fields)
        default = account.default_organization
        self.log.info(
            "Account %s: %d organization(s), default %s; fields to XCom: %s",
            account.id,
            len(account.organizations),
            default.id if default else "none",
            ", ".join(values),
        )
        return values


def _check_fields(fields: object) -> list[str] | None:
    """Check the names before the request. A string is a sequence too, of its letters."""
    if fields is None:
        return None
    names = list(fields) if isinstance(fields, Iterable) and not isinstance(fields, str) else []
    if not names or not all(isinstance(each, str) for each in names):
        raise StabilityParameterError(f"fields is {fields!r}; it must be None or a list of field names")
    return names


def _select(account: Account, fields: list[str] | None) -> dict[str, Any]:
    values = account.to_dict()
    if fields is None:
        return values
    known = set(type(account).model_fields) | set(values)
    if unknown := [each for each in fields if each not in known]:
        raise StabilityParameterError(
            f"fields has {', '.join(map(repr, unknown))}; "
            f"it must be None or a list of {', '.join(sorted(known))}"
        )
    return {each: values.get(each) for each in fields}
