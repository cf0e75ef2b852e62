"""The settings that a ``stability`` connection stands for: its fields, checked once, as a frozen object.

Knows neither Airflow nor HTTP. Every error names the connection, the field and what it must be, and shows the
value unless it may be secret.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.connection.fields import DEFAULT_BASE_URL, DEFAULTS, EXTRA_FIELDS
from airflow_provider_stability.connection.redaction import Redactor, proxy_secrets
from airflow_provider_stability.connection.rules import TOKEN_PATTERN
from airflow_provider_stability.connection.urls import (
    DEFAULT_PORTS,
    is_host,
    is_loopback,
    is_url_path,
    split_url,
)
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    MakeError = Callable[[str, str, str], StabilityConfigurationError]

__all__ = ["Settings"]

_MAX_PORT: Final = 65535


@dataclass(frozen=True)
class Settings:
    """A usable connection. The attributes from ``organization`` on are the fields of its extra.

    :param api_key: without a ``Bearer`` prefix. Not in the repr; nor is the proxy, which may hold a password.
    :param base_url: scheme, host, port and path prefix, normalized: no default port, no trailing slash.
    :param timeout: the limit for a whole call, in seconds.
    :param max_retries: retries of a call after a transient error.
    :param verify: whether to check TLS certificates, or the path of those to trust.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    organization: str | None = DEFAULTS["organization"]
    client_id: str | None = DEFAULTS["client_id"]
    client_version: str | None = DEFAULTS["client_version"]
    api_version: str = DEFAULTS["api_version"]
    timeout: float = DEFAULTS["timeout"]
    max_retries: int = DEFAULTS["max_retries"]
    verify: bool | str = DEFAULTS["verify"]
    proxy: str | None = field(default=DEFAULTS["proxy"], repr=False)
    allow_http: bool = DEFAULTS["allow_http"]

    @property
    def is_direct(self) -> bool:
        """Whether no proxy may be used: an unencrypted key must not leave this machine."""
        parts = split_url(self.base_url)
        is_plain = parts is not None and parts.scheme == "http" and is_loopback(parts.hostname or "")
        return is_plain and not self.allow_http

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must never be shown."""
        return (self.api_key, *proxy_secrets(self.proxy or ""))

    @property
    def credential(self) -> str:
        """A digest of the API key. The service's rate limit is per key, whatever the host is called."""
        return hashlib.sha256(self.api_key.encode()).hexdigest()

    @property
    def route(self) -> Settings:
        """The same for connections that call the service alike, but for organization and retries."""
        return dataclasses.replace(self, organization=None, max_retries=0)

    @classmethod
    def parse(
        cls,
        connection_id: str,
        *,
        password: str | None,
        host: str | None = None,
        port: int | None = None,
        schema: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Return the settings for the fields of an Airflow connection.

        :param connection_id: for error messages.
        :raises StabilityConfigurationError: if a field cannot be used.
        """
        key = _strip_bearer(password)
        redact = Redactor([key])

        def error(field: str, problem: str, allowed: str) -> StabilityConfigurationError:
            # Redacted: people do put the key into the wrong field.
            return StabilityConfigurationError(
                f"connection {connection_id!r}: {field} {redact(problem)}; it must be {allowed}"
            )

        values = _parse_extra(extra or {}, error)
        if schema:
            # A connection URI puts its path there.
            raise error("schema", f"is {schema!r}", "empty: https:// and a path belong in host")
        if not key:
            raise error("password", "is empty", "the API key of a Stability AI account")
        if not TOKEN_PATTERN.fullmatch(key):
            problem = "contains a space or an unprintable character"
            raise error("password", problem, "an API key, printable ASCII")
        settings = cls(
            api_key=key,
            base_url=_parse_base_url(host, port, error, allow_http=values["allow_http"]),
            **values,
        )
        if settings.is_direct and settings.proxy is not None:
            raise error(
                "extra field 'proxy'",
                f"would receive the key unencrypted, as host is {settings.base_url!r}",
                "empty, unless host is https:// or the extra field 'allow_http' is true",
            )
        return settings


def _strip_bearer(password: str | None) -> str:
    # People paste what their curl command had. Whether "Bearer" is sent depends on the API version.
    return re.sub(r"^bearer(\s+|$)", "", (password or "").strip(), flags=re.IGNORECASE)


def _parse_extra(extra: Mapping[str, Any], error: MakeError) -> dict[str, Any]:
    """Return the value of every extra field. Fields of other tools in the extra are ignored."""
    import difflib

    for name in sorted(set(extra) - set(EXTRA_FIELDS)):
        if close := difflib.get_close_matches(name.lower(), EXTRA_FIELDS, cutoff=0.8):
            raise error(f"extra field {name!r}", "is unknown", f"spelled {close[0]!r}")
    values = {}
    for each in EXTRA_FIELDS.values():
        try:
            values[each.name] = each.read(extra)
        except ValueError:
            value = extra[each.name]
            problem = f"is {value.strip() if isinstance(value, str) else value!r}"
            if each.is_secret:
                problem = "is invalid (not shown, as it may hold a password)"
            raise error(f"extra field {each.name!r}", problem, each.allowed) from None
    return values


def _parse_base_url(host: str | None, port: int | None, error: MakeError, *, allow_http: bool) -> str:
    """Return the base URL in its normal form, so that equal connections have equal settings."""
    text = (host or "").strip() or DEFAULT_BASE_URL
    allowed = f"a base URL such as {DEFAULT_BASE_URL}, with or without https:// and a port"
    parts = split_url(text if "://" in text else f"https://{text}")
    if parts is None or parts.username is not None or parts.password is not None:
        # Not shown: a host that cannot be parsed may hold a key that belongs in another field.
        raise error("host", "is not a URL, or has a user name or password in it", allowed)
    name = parts.hostname or ""
    is_http_url = parts.scheme in DEFAULT_PORTS and is_host(name) and is_url_path(parts.path)
    if not is_http_url or parts.query or parts.fragment:
        raise error("host", f"is {text!r}", allowed)
    if port is not None and not 0 <= port <= _MAX_PORT:
        raise error("port", f"is {port}", f"a number from 1 to {_MAX_PORT}, or empty")
    # Airflow 3.3.2's form sends port 0 for an empty one.
    if port and parts.port and port != parts.port:
        raise error("port", f"is {port}, but host has port {parts.port}", "the same, or empty")
    name = name.removesuffix(".")
    if parts.scheme == "http" and not allow_http and not is_loopback(name):
        raise error(
            "host",
            f"is {text!r}, which would send the key unencrypted",
            "https://, a loopback address, or any http:// with the extra field 'allow_http' set to true",
        )
    number = parts.port or port
    suffix = "" if not number or number == DEFAULT_PORTS[parts.scheme] else f":{number}"
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{bracketed}{suffix}{parts.path.rstrip('/')}"
