"""StabilityHook: calls the Stability AI API with the credentials of an Airflow connection.

Light, as DAG files import it: ``requests`` and the client are imported with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_stability.connection.fields import (
    CONNECTION_TYPE,
    DEFAULT_CONNECTION_ID,
    EXTRA_FIELDS,
    HIDDEN_FIELDS,
    HOOK_NAME,
    PLACEHOLDERS,
    RELABELING,
)
from airflow_provider_stability.connection.loading import load_settings
from airflow_provider_stability.connection.parameters import check_connection_id, check_max_retries
from airflow_provider_stability.exceptions import StabilityError
from airflow_provider_stability.gate.credits import describe_credits

if TYPE_CHECKING:
    from types import TracebackType

    import requests

    from airflow_provider_stability.api.client import StabilityClient
    from airflow_provider_stability.api.models import Account, Balance
    from airflow_provider_stability.connection.settings import Settings

__all__ = ["StabilityHook"]

_MAX_TEST_MESSAGE = 2000  # the limit of Airflow 3.3's connection test (datamodels/connection_test.py)


class StabilityHook(BaseHook):
    """Call Stability AI with the credentials of an Airflow connection.

    The hook reads the connection at its first call and keeps it, with one pooled session. Use it as a context
    manager, or call ``close``, to end the session.

    :param stability_conn_id: the connection, of type ``stability``.
    :param max_retries: retries of a call after a transient error, 0 to 10. None: the connection's.
    """

    conn_name_attr = "stability_conn_id"
    default_conn_name = DEFAULT_CONNECTION_ID
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(
        self, stability_conn_id: str = DEFAULT_CONNECTION_ID, *, max_retries: int | None = None
    ) -> None:
        super().__init__()
        check_max_retries(max_retries)
        check_connection_id(stability_conn_id)
        self.stability_conn_id = stability_conn_id
        self._max_retries = max_retries
        self._client: StabilityClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session. The next call reads the connection again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def client(self) -> StabilityClient:
        """The client for this connection.

        :raises StabilityConfigurationError: if the connection is missing, unreadable or invalid.
        """
        if self._client is None:
            from airflow_provider_stability.api.client import StabilityClient

            self._client = StabilityClient(self._settings(), max_retries=self._max_retries)
        return self._client

    def _settings(self) -> Settings:
        return load_settings(self.stability_conn_id, self.get_connection)

    def get_conn(self) -> requests.Session:
        """Return the session, to make other calls with the same credentials.

        It has the connection's headers, timeout, TLS and proxy settings, and sends the key to the base URL's
        host only. It raises the exceptions of ``requests``; ``run`` raises those of this package.
        """
        return self.client.session

    def get_account(self) -> Account:
        """Return the account that the key belongs to.

        :raises StabilityError: see ``airflow_provider_stability.exceptions``.
        """
        return self.client.get_account()

    def get_balance(self, organization: str | None = None) -> Balance:
        """Return the credits of an organization.

        :param organization: its id. None: the connection's; if that has none, the account's default.
        :raises StabilityError: see ``airflow_provider_stability.exceptions``.
        """
        return self.client.get_balance(organization)

    def run(self, endpoint: str, method: str = "GET", **request_kwargs: Any) -> requests.Response:
        """Call any path of the API and return the whole response: status, headers and body.

        :param endpoint: the path below the base URL, with its version, such as ``/v1/engines/list``.
        :param method: the HTTP method. GET, HEAD and OPTIONS are retried after transient errors; others are
            not, as a retried generation could be paid for twice.
        :param request_kwargs: as for ``requests.Session.request``: ``json``, ``headers``, ``params``,
            ``timeout`` ...
        :raises StabilityError: for every status of 300 or more, and if no valid response arrives.
        """
        return self.client.run(endpoint, method, **request_kwargs)

    def test_connection(self) -> tuple[bool, str]:
        """Read account and balance, which is free, and describe them.

        :returns: whether it works, and a message with account, organization and credits. An account with
            0 credits works.
        """
        try:
            # Without retries: somebody is waiting at the button.
            with StabilityHook(self.stability_conn_id, max_retries=0) as hook:
                account = hook.get_account()
                balance = hook.get_balance()
                organization = hook.client.settings.organization
        except StabilityError as error:
            return False, f"{error}. {error.advice}"[:_MAX_TEST_MESSAGE]
        if organization is None:
            chosen = account.default_organization
        else:
            chosen = next((each for each in account.organizations if each.id == organization), None)
        where = (
            f"organization {chosen.name} ({chosen.id})"
            if chosen
            else f"organization {organization or 'not named'}"
        )
        message = f"Connected as {account.email} ({account.id}), {where}: {describe_credits(balance.credits)}"
        return True, message[:_MAX_TEST_MESSAGE]

    # Airflow up to 3.1 draws the connection form from these two methods, and requires them in this class.
    # Later versions read provider_info, which has the same definition.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields for the extra, for flask_appbuilder."""
        # Only installed where the form is drawn.
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional

        # Airflow accepts no other kinds of field, so a number with a fraction is a string here.
        kinds = {"boolean": BooleanField, "integer": IntegerField}
        widgets = {}
        for field in EXTRA_FIELDS.values():
            kind = kinds.get(field.rule.kind, StringField)
            options: dict[str, Any] = {"description": field.help, "default": field.default}
            if kind is not BooleanField:
                options |= {"widget": BS3TextFieldWidget(), "validators": [Optional()]}
            widgets[field.name] = kind(field.label, **options)
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return which standard fields the form hides, and its labels for the others."""
        return {
            "hidden_fields": list(HIDDEN_FIELDS),
            "relabeling": dict(RELABELING),
            "placeholders": dict(PLACEHOLDERS),
        }
