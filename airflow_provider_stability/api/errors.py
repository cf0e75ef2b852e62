"""What a failed call means: from statuses and from the exceptions of the layers below to our tree.

Whatever text comes from outside goes through ``Failures.shown``: no secret, one line, bounded, printable.
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
from airflow_provider_stability.connection.redaction import Scrubber, secrets_of_proxy
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
    from collections.abc import Iterator

    from pydantic import ValidationError

    from airflow_provider_stability.connection.settings import Settings

__all__ = ["TRANSPORT_ERRORS", "Failures", "TooLargeError"]

_OF_THE_WIRE: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
TRANSPORT_ERRORS: Final = (*_OF_THE_WIRE, ValueError)
"""What the layers below raise. urllib3's own come through where ``requests`` forgets to wrap them."""

_SHOWN_CHARACTERS: Final = 300
_FIRST_ERROR: Final = 400
_TIMEOUTS: Final = (requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
"""Not urllib3's TimeoutError: a refused connection and an unknown host are of that class there, too."""


class TooLargeError(OSError):
    """The answer is larger than anything the API sends there."""


class Failures:
    """Makes our errors of what went wrong, in the words of one connection.

    :param settings: the connection, whose secrets no error may show.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        secrets = list(settings.secrets)
        if settings.proxy is None:
            # The environment's proxies come into play then, and lower layers put their URLs into messages.
            for proxy in get_environ_proxies(settings.base_url).values():
                secrets += secrets_of_proxy(proxy)
        self._scrub = Scrubber(secrets)

    def shown(self, text: str) -> str:
        """Return text of foreign origin fit for a log and a database."""
        text = " ".join(self._scrub(text).split())
        # Control characters could forge lines of a log, and neither NUL nor a lone surrogate can be stored.
        text = "".join(each if each.isprintable() else "?" for each in text)
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."

    def of_status(self, call: str, response: requests.Response) -> StabilityError:
        """Return the error for an answer whose status is no success."""
        status = response.status_code
        if status < _FIRST_ERROR:
            target = self.shown(_target(response.headers.get("Location", "")))
            return StabilityResponseError(
                f"{call}: {status} redirects to {target}; not followed, as the key would go along"
            )
        body = _json_object(response)
        name, detail, error_id = (
            self.shown(str(body.get(key) or "")) or None for key in ("name", "message", "id")
        )
        retry_after = parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        message = f"{call}: {status} {name or self.shown(response.reason or '')}".rstrip()
        if detail:
            message += f": {detail}"
        if retry_after is not None:
            message += f" (not again for {retry_after:g} s)"
        return status_error_class(status)(
            f"{message} [error id {error_id}]" if error_id else message,
            status_code=status,
            name=name,
            detail=detail,
            error_id=error_id,
            retry_after=retry_after,
        )

    def of_answer(self, call: str, response: requests.Response, error: ValidationError) -> StabilityError:
        """Return the error for an answer of 200 that is not what the specification says."""
        # Without the input: it may be personal data, or a page that repeats the request's headers.
        problems = error.errors(include_url=False, include_context=False, include_input=False)[:3]
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in problems)
        kind = response.headers.get("Content-Type", "no content type")
        what = f"the answer is not what the API's specification says ({kind}, {len(response.content)} bytes)"
        return StabilityResponseError(self.shown(f"{call}: {what}: {said}"))

    def of_exception(self, call: str, error: Exception, limit: object) -> StabilityError:
        """Return the error for an exception of the layers below.

        :param limit: the seconds the call had, or what else its ``timeout`` was.
        """
        if isinstance(error, ValueError) and not isinstance(error, _OF_THE_WIRE):
            return self.of_arguments(call, error)
        if isinstance(error, TooLargeError):
            return StabilityResponseError(self.shown(f"{call}: {error}"))
        chain = list(_chain(error))
        where = f"{call} at {self._settings.base_url}"
        message = self.shown(f"{where}: {type(chain[-1]).__name__}: {chain[-1]}")
        failure: StabilityError = StabilityConnectionError(message)
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
            failure = StabilityConnectionError(message, transient=False)
        elif any(isinstance(each, _TIMEOUTS) for each in chain):
            seconds = f" within {limit:g} s" if isinstance(limit, int | float) else " in time"
            failure = StabilityTimeoutError(self.shown(f"{where}: no complete answer{seconds}"))
        elif isinstance(error, requests.exceptions.ContentDecodingError):
            failure = StabilityResponseError(message)
        elif isinstance(error, requests.exceptions.InvalidProxyURL) or _is_no_certificate_file(chain[-1]):
            failure = StabilityConfigurationError(message)
        return failure

    def of_arguments(self, call: str, error: Exception) -> StabilityError:
        """Return the error for a request that cannot be made of what the caller gave."""
        return StabilityParameterError(self.shown(f"{call} cannot be sent: {type(error).__name__}: {error}"))


def _is_no_certificate_file(error: BaseException) -> bool:
    """Tell whether the ``verify`` file went away or holds no certificate; neither has a class of its own."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None) == "NO_CERTIFICATE_OR_CRL_FOUND"
    return isinstance(error, OSError) and "TLS CA certificate bundle" in str(error)


def _target(location: str) -> str:
    try:
        return urlsplit(location).netloc or "another path"
    except ValueError:
        return "nowhere"


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those it wraps, outermost first, however requests and urllib3 wrapped them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        # urllib3 has it in ``reason``, requests as an argument, the rest as Python does.
        inside = [getattr(current, "reason", None), *current.args, current.__cause__, current.__context__]
        current = next((each for each in inside if isinstance(each, BaseException)), None)
