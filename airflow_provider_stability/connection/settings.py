"""What a ``stability`` connection means: its raw fields, checked once, as frozen settings.

Knows neither Airflow nor HTTP. Every error names the connection and the field, says what is allowed, and
repeats the value only where it cannot be secret.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.connection.fields import DEFAULT_BASE_URL, EXTRA_FIELDS
from airflow_provider_stability.connection.parameters import MAX_CHARACTERS, MAX_RETRIES, TOKEN
from airflow_provider_stability.connection.redaction import Redactor, proxy_secrets
from airflow_provider_stability.connection.urls import is_host, is_loopback, is_url_path, split_url
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["API_VERSIONS", "Settings"]

API_VERSIONS: Final = ("v1", "v1alpha")

_MAX_TIMEOUT: Final = 3600.0
_LAST_PORT: Final = 65535
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
# What may stand in a header value without changing the request: no control characters, so no line breaks.
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True)
class Settings:
    """A usable connection.

    :param api_key: without a ``Bearer`` prefix. Not in the repr, as the proxy is not: it may hold a password.
    :param base_url: scheme, host, port and path prefix, without a trailing slash.
    :param timeout: seconds for a whole call.
    :param max_retries: repetitions of a call after a transient error.
    :param verify: whether TLS certificates are checked, or the path of those to trust.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    organization: str | None = None
    client_id: str | None = None
    client_version: str | None = None
    api_version: str = "v1"
    timeout: float = 30.0
    max_retries: int = 3
    verify: bool | str = True
    proxy: str | None = field(default=None, repr=False)
    allow_http: bool = False

    @property
    def is_direct(self) -> bool:
        """Whether no proxy may come between: a key in clear is for this machine only."""
        parts = split_url(self.base_url)
        is_plain = parts is not None and parts.scheme == "http" and is_loopback(parts.hostname or "")
        return is_plain and not self.allow_http

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that may never be shown."""
        return (self.api_key, *proxy_secrets(self.proxy or ""))

    @property
    def credential(self) -> str:
        """What tells this key from others without showing it: the rate limit is the key's."""
        return hashlib.sha256(self.api_key.encode()).hexdigest()

    @property
    def route(self) -> Settings:
        """These settings without what makes no difference to a request but for the organization."""
        return replace(self, organization=None, max_retries=0)

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
        """Return the settings that the fields of a connection stand for.

        :raises StabilityConfigurationError: naming the connection, the field and what is allowed.
        """
        key = _without_bearer(password)
        fields = _Fields(connection_id, extra or {}, Redactor([key]))
        fields.refuse_misspelled()
        if schema:
            # A connection written as a URI has its path there.
            raise fields.error("schema", f"is {schema!r}", "nothing; https:// and a path belong into host")
        allow_http = fields.boolean("allow_http")
        settings = cls(
            api_key=_api_key(fields, key),
            base_url=_base_url(fields, host, port, allow_http=allow_http),
            organization=fields.text("organization", TOKEN),
            client_id=fields.text("client_id", _HEADER_TEXT),
            client_version=fields.text("client_version", _HEADER_TEXT),
            api_version=_api_version(fields),
            timeout=fields.number("timeout", most=_MAX_TIMEOUT, above_zero=True),
            max_retries=int(fields.number("max_retries", most=MAX_RETRIES, whole=True)),
            verify=_verify(fields),
            proxy=_proxy(fields),
            allow_http=allow_http,
        )
        if settings.is_direct and settings.proxy is not None:
            raise fields.error(
                "extra field 'proxy'",
                f"would get the key in clear, as host is {settings.base_url!r}",
                "a proxy for an https:// host, or with the extra field 'allow_http' set to true",
            )
        return settings


class _Fields:
    """The extra of one connection, read field by field with errors that all look alike."""

    def __init__(self, connection_id: str, extra: Mapping[str, Any], scrub: Redactor) -> None:
        self._connection_id = connection_id
        self._extra = extra
        self._scrub = scrub

    def error(self, name: str, problem: str, allowed: str) -> StabilityConfigurationError:
        return StabilityConfigurationError(
            # Scrubbed: people do put the key into a second field.
            f"connection {self._connection_id!r}: {name} {self._scrub(problem)}; allowed is {allowed}"
        )

    def extra_error(self, name: str, value: object) -> StabilityConfigurationError:
        return self.error(f"extra field {name!r}", f"is {value!r}", EXTRA_FIELDS[name].allowed)

    def refuse_misspelled(self) -> None:
        """Refuse near misses of our fields. Other people's fields in the extra are none of our business."""
        import difflib

        for name in sorted(set(self._extra) - set(EXTRA_FIELDS)):
            if close := difflib.get_close_matches(name.lower(), EXTRA_FIELDS, n=1, cutoff=0.8):
                raise self.error(
                    f"extra field {name!r}", "is unknown", f"{close[0]!r}, if that is what is meant"
                )

    def value(self, name: str) -> Any:
        """Return the value, None where it is absent or empty: forms send empty fields as empty strings."""
        value = self._extra.get(name)
        value = value.strip() if isinstance(value, str) else value
        return None if value == "" else value

    def text(self, name: str, pattern: re.Pattern[str]) -> str | None:
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, str) or not pattern.fullmatch(value) or len(value) > MAX_CHARACTERS:
            raise self.extra_error(name, value)
        return value

    def number(self, name: str, *, most: float, above_zero: bool = False, whole: bool = False) -> float:
        value = self.value(name)
        if value is None:
            value = EXTRA_FIELDS[name].default
        try:
            number = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        too_small = number <= 0 if above_zero else number < 0
        if not math.isfinite(number) or too_small or number > most or (whole and number != int(number)):
            raise self.extra_error(name, value)
        return number

    def boolean(self, name: str) -> bool:
        value = self.value(name)
        if value is None:
            return False
        truth = _truth(value)
        if truth is None:
            raise self.extra_error(name, value)
        return truth


def _truth(value: object) -> bool | None:
    """Return what a boolean, or a word for one, means; None where it is neither."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _without_bearer(password: str | None) -> str:
    # People paste what their curl command had; "Bearer" is then the API version's to add or leave out.
    return re.sub(r"^bearer(\s+|$)", "", (password or "").strip(), flags=re.IGNORECASE)


def _api_key(fields: _Fields, key: str) -> str:
    if not key:
        raise fields.error("password", "is empty", "the API key of a Stability AI account")
    if not TOKEN.fullmatch(key):
        raise fields.error(
            "password", "holds a space or an unprintable character", "an API key, printable ASCII"
        )
    return key


def _api_version(fields: _Fields) -> str:
    value = fields.value("api_version")
    value = EXTRA_FIELDS["api_version"].default if value is None else value
    if value not in API_VERSIONS:
        raise fields.extra_error("api_version", value)
    return str(value)


def _verify(fields: _Fields) -> bool | str:
    value = fields.value("verify")
    truth = True if value is None else _truth(value)
    if truth is not None:
        return truth
    if not isinstance(value, str) or not os.path.exists(value):  # noqa: PTH110  # Path.exists raises on odd names
        raise fields.extra_error("verify", value)
    return value


def _proxy(fields: _Fields) -> str | None:
    value = fields.value("proxy")
    if value is None:
        return None
    parts = split_url(value) if isinstance(value, str) and TOKEN.fullmatch(value) else None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        # The value is not repeated: a proxy URL may hold a password.
        raise fields.error("extra field 'proxy'", "is not one", EXTRA_FIELDS["proxy"].allowed)
    return str(value)


def _base_url(fields: _Fields, host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or "").strip() or DEFAULT_BASE_URL
    allowed = f"a base URL such as {DEFAULT_BASE_URL}, with or without https:// and a port"
    parts = split_url(text if "://" in text else f"https://{text}")
    if parts is None or parts.username is not None or parts.password is not None:
        # Not repeated: what cannot be read may hold a key that was put into the wrong field.
        raise fields.error("host", "cannot be read as a URL without user and password", allowed)
    name = parts.hostname or ""
    known_scheme = parts.scheme in {"http", "https"}
    if not known_scheme or not is_host(name) or parts.query or parts.fragment or not is_url_path(parts.path):
        raise fields.error("host", f"is {text!r}", allowed)
    if port is not None and not 0 <= port <= _LAST_PORT:
        raise fields.error("port", f"is {port}", f"a number from 1 to {_LAST_PORT}, or none")
    # Airflow 3.3.2's form sends port 0 for an empty one.
    if port and parts.port and port != parts.port:
        raise fields.error("host", f"has port {parts.port}, and the port field has {port}", "one of the two")
    if parts.scheme == "http" and not allow_http and not is_loopback(name):
        raise fields.error(
            "host",
            f"is {text!r}: the key would travel in clear",
            "https://, a loopback address, or the extra field 'allow_http' set to true",
        )
    number = parts.port or port
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}{f':{number}' if number else ''}{parts.path.rstrip('/')}"
