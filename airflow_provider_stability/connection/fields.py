"""The fields of a ``stability`` connection, each defined once.

``EXTRA_FIELDS`` is the only definition of a field in the connection's ``extra``. From it come the connection
form of every Airflow version, parsing, error messages, and the header that carries the value. To add a field:
one entry here, and an attribute of the same name in ``settings.Settings``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.connection.rules import (
    BOOLEAN,
    CERTIFICATES,
    PROXY_URL,
    TEXT,
    TOKEN,
    Rule,
    choice,
    integer,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CONNECTION_TYPE",
    "DEFAULTS",
    "DEFAULT_BASE_URL",
    "DEFAULT_CONNECTION_ID",
    "EXTRA_FIELDS",
    "HIDDEN_FIELDS",
    "HOOK_NAME",
    "PLACEHOLDERS",
    "RELABELING",
    "ExtraField",
]

CONNECTION_TYPE: Final = "stability"
DEFAULT_CONNECTION_ID: Final = "stability_default"
HOOK_NAME: Final = "Stability AI"
DEFAULT_BASE_URL: Final = "https://api.stability.ai"

RELABELING: Final = {"host": "Base URL", "password": "API key"}
PLACEHOLDERS: Final = {"host": DEFAULT_BASE_URL, "password": "sk-..."}
HIDDEN_FIELDS: Final = ("schema", "login", "port", "extra")
"""``port`` can still be used, as connection URIs set it; in the form, the port is part of the base URL."""

_API_VERSIONS: Final = ("v1", "v1alpha")


@dataclass(frozen=True)
class ExtraField:
    """One field of the connection's extra.

    :param name: the key in the JSON, and the attribute of ``Settings``.
    :param label: its label in the form.
    :param rule: what it may contain.
    :param help: the sentence below it in the form.
    :param default: what an absent or empty field means, as the form shows it.
    :param header: the header that carries the value to the service; None if it goes elsewhere.
    :param header_versions: the API versions that know the header.
    :param is_secret: whether the value may hold a secret, and is left out of error messages.
    """

    name: str
    label: str
    rule: Rule
    help: str
    default: str | float | bool | None = None
    header: str | None = None
    header_versions: tuple[str, ...] = _API_VERSIONS
    is_secret: bool = False

    def read(self, extra: Mapping[str, Any]) -> Any:
        """Return the typed value of this field in an extra.

        :raises ValueError: if the value is not allowed.
        """
        value = extra.get(self.name)
        value = value.strip() if isinstance(value, str) else value
        # Forms send empty fields as empty strings.
        value = self.default if value is None or value == "" else value
        return None if value is None else self.rule.parse(value)

    @property
    def allowed(self) -> str:
        """What an error message and the documentation say it must be."""
        return self.rule.allowed

    @property
    def form(self) -> dict[str, Any]:
        """The field in the form of Airflow 3.2 and later; every field may be left empty."""
        schema: dict[str, Any] = {"type": [self.rule.kind, "null"]}
        if self.default is not None:
            schema["default"] = self.default
        return {"label": self.label, "description": self.help, "schema": schema}


EXTRA_FIELDS: Final = {
    field.name: field
    for field in (
        ExtraField(
            "organization",
            "Organization",
            TOKEN,
            "The organization whose credits count, such as org-123456. "
            "Empty: the account's default organization.",
            header="Organization",
        ),
        ExtraField(
            "client_id",
            "Client id",
            TEXT,
            "Sent as Stability-Client-ID, so that Stability AI can tell your systems apart.",
            header="Stability-Client-ID",
            header_versions=("v1",),
        ),
        ExtraField(
            "client_version",
            "Client version",
            TEXT,
            "Sent as Stability-Client-Version.",
            header="Stability-Client-Version",
            header_versions=("v1",),
        ),
        ExtraField(
            "api_version",
            "API version",
            choice(*_API_VERSIONS),
            "Use v1alpha only for an old gateway: the service has retired that preview.",
            default="v1",
        ),
        ExtraField(
            "timeout",
            "Timeout (seconds)",
            number(above=0, maximum=3600),
            "The maximum duration of a call, from connecting to the last byte of the response.",
            default=30,
        ),
        ExtraField(
            "max_retries",
            "Retries per call",
            integer(minimum=0, maximum=10),
            "How often an operator retries a call after a transient error. A sensor does not retry: "
            "it pokes again.",
            default=3,
        ),
        ExtraField(
            "verify",
            "Verify TLS",
            CERTIFICATES,
            "true, false, or the path of a file or directory of CA certificates to trust.",
            default="true",
        ),
        ExtraField(
            "proxy",
            "Proxy URL",
            PROXY_URL,
            "Such as http://proxy.example:3128. Empty: the proxy of the environment, if any.",
            is_secret=True,
        ),
        ExtraField(
            "allow_http",
            "Allow plain http",
            BOOLEAN,
            "Send the key unencrypted to a host other than this machine. For closed networks only.",
            default=False,
        ),
    )
}

DEFAULTS: Final[dict[str, Any]] = {name: field.read({}) for name, field in EXTRA_FIELDS.items()}
"""What an empty extra means."""
