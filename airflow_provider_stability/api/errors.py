"""Maps what goes wrong in a call, a status or an exception of a lower layer, to the errors of this package.

All text from outside passes through ``ErrorMapper.sanitize``: no secrets, one line, printable, bounded.
"""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.utils import get_environ_proxies

from airflow_provider_stability.api.retry_after import parse_retry_after
from airflow_provider_stability.connection.redaction import Redactor, proxy_secrets
from airflow_provider_stability.exceptions import (
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    StabilityResponseError,
    StabilityTimeoutError,
    status_error_class,
)

if TYPE_CHECKING:
    from pydantic import ValidationError

    from airflow_provider_stability.connection.settings import Settings

__all__ = ["TRANSPORT_ERRORS", "ErrorMapper", "TooLargeError"]

_NETWORK_ERRORS: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
TRANSPORT_ERRORS: Final = (*_NETWORK_ERRORS, ValueError)
"""What the lower layers raise. ``requests`` does not wrap all of urllib3's exceptions."""

_TIMEOUTS: Final = (requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
"""Not urllib3's TimeoutError: there, a refused connection and an unknown host are subclasses of it."""

_MAX_CHARACTERS: Final = 300
_FIRST_ERROR: Final = 400


class TooLargeError(OSError):
    """The response is larger than anything the API sends."""


class ErrorMapper:
    """Creates the errors of this package for calls made with one connection.

    :param settings: the connection; its secrets never appear in an error.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        secrets = list(settings.secrets)
        if settings.proxy is None:
            # Then the environment's proxies apply, and lower layers put their URLs into messages.
            for proxy in get_environ_proxies(settings.base_url).values():
                secrets += proxy_secrets(proxy)
        self._redact = Redactor(secrets)

    def sanitize(self, text: str) -> str:
        """Make text from outside safe for a log and a database."""
        text = " ".join(self._redact(text).split())
        # Control characters could forge log lines; NUL and lone surrogates cannot be stored.
        text = "".join(each if each.isprintable() else "?" for each in text)
        return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."

    def from_status(self, call: str, response: requests.Response) -> StabilityError:
        """Return the error for a response whose status is 300 or more.

        :param call: the method and path, such as ``GET /v1/user/balance``.
        """
        status = response.status_code
        if status < _FIRST_ERROR:
            target = self.sanitize(_redirect_target(response.headers.get("Location", "")))
            return StabilityResponseError(
                f"{call}: {status} redirects to {target}; not followed, as it would send the key there"
            )
        body = _json_object(response)
        name, detail, error_id = (
            self.sanitize(str(body.get(key) or "")) or None for key in ("name", "message", "id")
        )
        retry_after = parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        message = f"{call}: {status} {name or self.sanitize(response.reason or '')}".rstrip()
        if detail:
            message += f": {detail}"
        if retry_after is not None:
            message += f" (retry after {retry_after:g} s)"
        return status_error_class(status)(
            f"{message} [error id {error_id}]" if error_id else message,
            status_code=status,
            name=name,
            detail=detail,
            error_id=error_id,
            retry_after=retry_after,
        )

    def from_invalid_answer(
        self, call: str, response: requests.Response, error: ValidationError
    ) -> StabilityError:
        """Return the error for a successful response that does not match the API's specification."""
        # Without the input: it may be personal data, or a page that echoes the request's headers.
        details = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:3]
        )
        content_type = response.headers.get("Content-Type", "no content type")
        found = f"the response ({content_type}, {len(response.content)} bytes)"
        return StabilityResponseError(
            self.sanitize(f"{call}: {found} does not match the API's specification: {details}")
        )

    def from_exception(self, call: str, error: Exception, timeout: object) -> StabilityError:
        """Return the error for an exception of a lower layer.

        :param timeout: the limit of the call: seconds, or whatever else ``requests`` was given.
        """
        if isinstance(error, ValueError) and not isinstance(error, _NETWORK_ERRORS):
            return self.from_arguments(call, error)
        if isinstance(error, TooLargeError):
            return StabilityResponseError(self.sanitize(f"{call}: {error}"))
        chain = _chain(error)
        where = f"{call} at {self._settings.base_url}"
        message = self.sanitize(f"{where}: {type(chain[-1]).__name__}: {chain[-1]}")
        result: StabilityError = StabilityConnectionError(message)
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
            result = StabilityConnectionError(message, transient=False)
        elif any(isinstance(each, _TIMEOUTS) for each in chain):
            limit = f" within {timeout:g} s" if isinstance(timeout, int | float) else " in time"
            result = StabilityTimeoutError(self.sanitize(f"{where}: no complete answer{limit}"))
        elif isinstance(error, requests.exceptions.ContentDecodingError):
            result = StabilityResponseError(message)
        elif isinstance(error, requests.exceptions.InvalidProxyURL) or _is_certificate_file_error(chain[-1]):
            result = StabilityConfigurationError(message)
        return result

    def from_arguments(self, call: str, error: Exception) -> StabilityError:
        """Return the error for arguments of the caller that make no valid request."""
        return StabilityParameterError(
            self.sanitize(f"{call} cannot be sent: {type(error).__name__}: {error}")
        )


def _is_certificate_file_error(error: BaseException) -> bool:
    """Tell whether the ``verify`` file is gone or has no certificate; neither has an exception class."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None) == "NO_CERTIFICATE_OR_CRL_FOUND"
    return isinstance(error, OSError) and "TLS CA certificate bundle" in str(error)


def _redirect_target(location: str) -> str:
    try:
        return urlsplit(location).netloc or "another path"
    except ValueError:
        return "an invalid URL"


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and those it wraps, outermost first, however requests and urllib3 wrap them."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        # requests and urllib3 keep it in the arguments, or where Python does.
        inside = [*current.args, current.__cause__, current.__context__]
        current = next((each for each in inside if isinstance(each, BaseException)), None)
    return chain
