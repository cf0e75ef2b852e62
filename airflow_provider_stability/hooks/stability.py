"""StabilityHook: the Stability AI API with the credentials of an Airflow connection.

Light to import, as DAG files import it with the sensor: ``requests`` and the client come with the first call.
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

_MAX_TEST_MESSAGE = 2000  # what Airflow 3.3's connection test takes (datamodels/connection_test.py)


class StabilityHook(BaseHook):
    """Call Stability AI with the credentials of an Airflow connection.

    The connection is read at the first call and kept; a new hook reads it anew. One pooled session per hook;
    use the hook as a context manager, or call ``close``, to end it.

    :param stability_conn_id: the connection, of type ``stability``.
    :param max_retries: how often a call is repeated after a passing error, 0 to 10, instead of what the
        connection says. Sensors use 0: they ask again anyway.
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
        """End the session. The next call reads the connection anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def client(self) -> StabilityClient:
        """The client for this connection.

        :raises StabilityConfigurationError: where the connection is missing or cannot be used.
        """
        if self._client is None:
            from airflow_provider_stability.api.client import StabilityClient

            self._client = StabilityClient(self._settings(), max_retries=self._max_retries)
        return self._client

    def _settings(self) -> Settings:
        return load_settings(self.stability_conn_id, self.get_connection)

    def get_conn(self) -> requests.Session:
        """Return the session, to call anything else with the same credentials.

        It carries the connection's organization, client id, time limit, TLS and proxy settings, and sends the
        key to the base URL's host only. It raises what ``requests`` raises; ``run`` raises this package's
        errors.
        """
        return self.client.session

    def get_account(self) -> Account:
        """Return the account that the key belongs to.

        :raises StabilityError: see ``airflow_provider_stability.exceptions``.
        """
        return self.client.get_account()

    def get_balance(self, organization: str | None = None) -> Balance:
        """Return the credits of an organization.

        :param organization: its id. None: the connection's; where that has none, the account's default.
        :raises StabilityError: see ``airflow_provider_stability.exceptions``.
        """
        return self.client.get_balance(organization)

    def run(self, endpoint: str, method: str = "GET", **request_kwargs: Any) -> requests.Response:
        """Call any path of the API and return the whole answer: status, headers and data.

        :param endpoint: the path below the base URL, with its version, such as ``/v1/engines/list``.
        :param method: the HTTP method. GET, HEAD and OPTIONS are repeated after passing errors; others never,
            since a repeated generation could be paid for twice.
        :param request_kwargs: as for ``requests.Session.request``: ``json``, ``headers``, ``params``,
            ``timeout`` ...
        :raises StabilityError: for every status of 300 or more and every failure on the way.
        """
        return self.client.run(endpoint, method, **request_kwargs)

    def test_connection(self) -> tuple[bool, str]:
        """Make the two free calls; say who is connected, to which organization, with how many credits.

        :returns: whether it works, and the words. 0 credits are connected all the same.
        """
        try:
            # Not repeated: somebody is looking at the button.
            with StabilityHook(self.stability_conn_id, max_retries=0) as hook:
                account = hook.get_account()
                balance = hook.get_balance()
                wanted = hook.client.settings.organization
        except StabilityError as error:
            return False, f"{error}. {error.advice}"[:_MAX_TEST_MESSAGE]
        if wanted is None:
            chosen = account.default_organization
        else:
            chosen = next((each for each in account.organizations if each.id == wanted), None)
        where = (
            f"organization {chosen.name} ({chosen.id})" if chosen else f"organization {wanted or 'not named'}"
        )
        words = f"Connected as {account.email} ({account.id}), {where}: {describe_credits(balance.credits)}"
        return True, words[:_MAX_TEST_MESSAGE]

    # Airflow up to 3.1 draws the connection form from these two; it wants them in the class itself. Later
    # versions read the same definition from provider_info and leave them alone.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields for the extra, as flask_appbuilder draws them."""
        # Only where the form is drawn is there a flask_appbuilder.
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, IntegerField, StringField
        from wtforms.validators import Optional

        # Airflow takes no other kinds of field, so a number with a fraction is a text here.
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
        """Return what the form hides and how it calls the standard fields."""
        return {
            "hidden_fields": list(HIDDEN_FIELDS),
            "relabeling": dict(RELABELING),
            "placeholders": dict(PLACEHOLDERS),
        }
