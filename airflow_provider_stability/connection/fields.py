"""The fields of a ``stability`` connection: names, labels, help, what is allowed. Imports nothing.

The only definition. The connection form of every Airflow version (``provider_info``, the hook's two methods),
the error messages of ``settings`` and the table in the README all come from it or are tested against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = [
    "CONNECTION_TYPE",
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
"""``port`` stays usable, as connections written as a URI have it; a form has it in the base URL."""


@dataclass(frozen=True)
class ExtraField:
    """One field of the connection's extra.

    :param name: the key in the JSON.
    :param label: its name in the form.
    :param kind: its JSON type; numbers and booleans are also read from strings, as forms and URIs send them.
    :param help: the sentence under it in the form.
    :param allowed: what an error message says is allowed.
    :param default: what counts where it is absent or empty.
    """

    name: str
    label: str
    kind: Literal["string", "number", "integer", "boolean"]
    help: str
    allowed: str
    default: str | float | bool | None = None

    @property
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema that Airflow 3.2 and later draw the form from; every field may be left empty."""
        schema: dict[str, Any] = {"type": [self.kind, "null"]}
        if self.default is not None:
            schema["default"] = self.default
        return schema


_TEXT: Final = "printable ASCII without line breaks, at most 256 characters"

EXTRA_FIELDS: Final = {
    field.name: field
    for field in (
        ExtraField(
            "organization",
            "Organization",
            "string",
            "Whose credits are meant, such as org-123456. Empty: the account's default organization.",
            f"{_TEXT}, no spaces",
        ),
        ExtraField(
            "client_id",
            "Client id",
            "string",
            "Sent as Stability-Client-ID, so that Stability AI can tell your systems apart.",
            _TEXT,
        ),
        ExtraField(
            "client_version",
            "Client version",
            "string",
            "Sent as Stability-Client-Version.",
            _TEXT,
        ),
        ExtraField(
            "api_version",
            "API version",
            "string",
            "v1, or v1alpha for an old gateway: the service has retired that preview.",
            "v1 or v1alpha",
            "v1",
        ),
        ExtraField(
            "timeout",
            "Timeout (seconds)",
            "number",
            "The longest a call may take, from connecting to the last byte of the answer.",
            "a number above 0, at most 3600",
            30,
        ),
        ExtraField(
            "max_retries",
            "Retries per call",
            "integer",
            "How often an operator repeats a call after a passing error. A sensor's poke is never repeated.",
            "a whole number from 0 to 10",
            3,
        ),
        ExtraField(
            "verify",
            "Verify TLS",
            "string",
            "true, false, or the path of a file or folder with the certificates to trust.",
            "true, false, or an existing path",
            "true",
        ),
        ExtraField(
            "proxy",
            "Proxy URL",
            "string",
            "Such as http://proxy.example:3128. Empty: the proxy of the environment, if any.",
            "an http:// or https:// URL",
        ),
        ExtraField(
            "allow_http",
            "Allow plain http",
            "boolean",
            "Send the key without encryption to a host other than this machine. For closed networks only.",
            "true or false",
            default=False,
        ),
    )
}
