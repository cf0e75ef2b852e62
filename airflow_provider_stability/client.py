"""The Stability AI user API over ``requests``: typed answers, one error tree. No Airflow import.

Paths, headers and schemas are those of the service's own OpenAPI documents (v1 and v1alpha).
"""

from __future__ import annotations

import json
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_stability.exceptions import (
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    StabilityResponseError,
    StabilityTimeoutError,
    status_error_class,
)
from airflow_provider_stability.models import Account, Balance
from airflow_provider_stability.retry_after import parse_retry_after
from airflow_provider_stability.scrubbing import Scrubber
from airflow_provider_stability.settings import check_organization
from airflow_provider_stability.transport import StabilitySession, scope_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.settings import Settings

__all__ = ["StabilityClient"]

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 60.0
"""Seconds that a one-shot call waits for the service at most; it fails where more is asked for."""

_MOST_ANSWER_BYTES: Final = 1024 * 1024  # an account with its organizations is a few KiB
_MOST_RUN_BYTES: Final = 256 * 1024 * 1024  # ten large images in base64 are about 40 MiB
_MOST_ERROR_BYTES: Final = 64 * 1024
_SHOWN_CHARACTERS: Final = 300
_CHUNK: Final = 64 * 1024
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""A repeated POST could pay twice for one image."""

_FIRST_ERROR: Final = 400
_FIRST_REDIRECT: Final = 300
_NO_SCOPE: Final = {"Organization": None, "Stability-Client-ID": None, "Stability-Client-Version": None}
"""The account is the key's, whatever the organization: the specification gives that path no such headers."""

_TIMEOUTS: Final = (requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
"""Not urllib3's TimeoutError: a refused connection and an unknown host are of that class there, too."""

_Answer = TypeVar("_Answer", bound=BaseModel)
_backoff = wait_random_exponential(multiplier=0.5, max=8)


class StabilityClient:
    """Calls Stability AI with one connection's settings. Not for several threads at once.

    :param settings: where, with which key, how patiently.
    :param max_retries: repetitions after a transient error, instead of the settings'.
    """

    def __init__(self, settings: Settings, *, max_retries: int | None = None) -> None:
        self.settings = settings
        self.session = StabilitySession(settings)
        self._max_retries = settings.max_retries if max_retries is None else max_retries
        self._scrub = Scrubber(settings.secrets)

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()

    def get_account(self) -> Account:
        """Return the account that the key belongs to.

        :raises StabilityError: any class of the tree in ``exceptions``.
        """
        return self._get("account", Account, headers=_NO_SCOPE)

    def get_balance(self, organization: str | None = None) -> Balance:
        """Return the credits of an organization: this one, else the connection's, else the account's default.

        :raises StabilityError: any class of the tree in ``exceptions``.
        """
        return self._get(
            "balance", Balance, headers=scope_headers(self.settings, check_organization(organization))
        )

    def run(self, endpoint: str, method: str = "GET", **request_kwargs: Any) -> requests.Response:
        """Call any path of the API with the connection's credentials and return the whole answer.

        GET, HEAD and OPTIONS are repeated after transient errors; nothing that could pay twice is.

        :param endpoint: the path below the base URL, such as ``/v1/engines/list``.
        :param method: the HTTP method.
        :param request_kwargs: as for ``requests.Session.request``. Redirects are not followed unless asked
            for.
        :raises StabilityParameterError: where ``endpoint`` is not a path.
        :raises StabilityError: for every status of 300 or more and every failure on the way.
        """
        parts = urlsplit(endpoint)
        if parts.scheme or parts.netloc or not endpoint.strip("/"):
            raise StabilityParameterError(
                f"endpoint is {endpoint!r}; allowed is a path below {self.settings.base_url}, "
                "such as /v1/engines/list"
            )
        return self._call(method.upper(), endpoint, _MOST_RUN_BYTES, request_kwargs)

    def _get(self, what: str, answer: type[_Answer], **request_kwargs: Any) -> _Answer:
        endpoint = f"{self.settings.api_version}/user/{what}"
        response = self._call("GET", endpoint, _MOST_ANSWER_BYTES, request_kwargs)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            # Without the input: it may be personal data, or a page that repeats the request's headers.
            problem = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}"
                for each in error.errors(include_url=False, include_context=False, include_input=False)[:3]
            )
        kind = response.headers.get("Content-Type", "no content type")
        raise StabilityResponseError(
            self._shown(
                f"GET /{endpoint}: the answer is not what the API's specification says "
                f"({kind}, {len(response.content)} bytes): {problem}"
            )
        )

    def _call(self, method: str, endpoint: str, limit: int, kwargs: dict[str, Any]) -> requests.Response:
        url = f"{self.settings.base_url}/{endpoint.lstrip('/')}"
        name = f"{method} {urlsplit(url).path}"
        attempts = 1 + (self._max_retries if method in _SAFE_TO_REPEAT else 0)

        def say(state: RetryCallState) -> None:
            assert state.outcome is not None
            assert state.next_action is not None
            log.warning(
                "%s; try %d of %d follows in %.1f s",
                state.outcome.exception(),
                state.attempt_number + 1,
                attempts,
                state.next_action.sleep,
            )

        retrying = Retrying(
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(_may_pass_soon),
            wait=_wait,
            before_sleep=say,
            reraise=True,
        )
        response: requests.Response = retrying(self._send, method, url, name, limit, kwargs)
        return response

    def _send(
        self, method: str, url: str, name: str, limit: int, kwargs: dict[str, Any]
    ) -> requests.Response:
        kwargs = {"allow_redirects": False, **kwargs}
        leave_unread = kwargs.pop("stream", False)
        try:
            response = self.session.request(method, url, stream=True, **kwargs)
            failed = response.status_code >= _FIRST_REDIRECT
            if failed or not leave_unread:
                _read(response, _MOST_ERROR_BYTES if failed else limit)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            mapped = self._transport_error(error, name)
        else:
            if not failed:
                return response
            mapped = self._status_error(response, name)
        # Raised out here so that the lower layer's exception, which holds the request and with it the key, is
        # not chained to it: an error reporter that walks the chain would find the key there.
        raise mapped

    def _status_error(self, response: requests.Response, name: str) -> StabilityError:
        status = response.status_code
        if status < _FIRST_ERROR:
            target = urlsplit(response.headers.get("Location", "")).netloc or "another path"
            return StabilityResponseError(
                self._shown(
                    f"{name}: {status} redirects to {target}; not followed, as the key would go along"
                )
            )
        body = _error_body(response)
        detail = self._shown(str(body.get("message") or "")) or None
        kind = self._shown(str(body.get("name") or "")) or None
        error_id = self._shown(str(body.get("id") or "")) or None
        said = f"{kind or self._shown(response.reason or '')}".strip()
        message = f"{name}: {status}{f' {said}' if said else ''}{f': {detail}' if detail else ''}"
        retry_after = parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        if retry_after is not None:
            message += f" (not again for {retry_after:g} s)"
        return status_error_class(status)(
            f"{message} [error id {error_id}]" if error_id else message,
            status_code=status,
            name=kind,
            detail=detail,
            error_id=error_id,
            retry_after=retry_after,
        )

    def _transport_error(self, error: Exception, name: str) -> StabilityError:
        chain = list(_chain(error))
        root = chain[-1]
        message = self._shown(f"{name} at {self.settings.base_url}: {type(root).__name__}: {root}")
        if isinstance(error, _TooLargeError):
            return StabilityResponseError(self._shown(f"{name}: {error}"))
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
            return StabilityConnectionError(message, transient=False)
        if any(isinstance(each, _TIMEOUTS) for each in chain):
            limit = f"{self.settings.timeout:g} s"
            return StabilityTimeoutError(
                self._shown(f"{name} at {self.settings.base_url}: no complete answer within {limit}")
            )
        if isinstance(error, requests.exceptions.ContentDecodingError):
            return StabilityResponseError(message)
        if isinstance(error, ValueError):  # requests makes these ValueErrors: bad header, URL, JSON or proxy
            return StabilityConfigurationError(message)
        return StabilityConnectionError(message)

    def _shown(self, text: str) -> str:
        """Return text of foreign origin fit for a log: no secrets, one line, bounded."""
        text = " ".join(self._scrub(text).split())
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


class _TooLargeError(OSError):
    """The answer is larger than anything the API sends there."""


def _read(response: requests.Response, limit: int) -> None:
    """Read the body into the response, as requests does itself, but no more of it than ``limit`` bytes.

    An error's body is cut at the limit, since only its beginning is of use; any other is refused.
    """
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > limit:
            response.close()
            if response.status_code < _FIRST_REDIRECT:
                raise _TooLargeError(f"the answer is larger than {limit} bytes, nothing the API sends")
            break
    response._content = bytes(body[:limit])  # noqa: SLF001  # requests has no public way to bound a body


def _error_body(response: requests.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _may_pass_soon(error: BaseException) -> bool:
    return isinstance(error, StabilityError) and error.transient and error.pause <= LONGEST_PAUSE


def _wait(state: RetryCallState) -> float:
    """Back off with jitter, and not before the service wants to be asked again."""
    assert state.outcome is not None
    error = state.outcome.exception()
    pause = error.pause if isinstance(error, StabilityError) else 0.0
    return pause + _backoff(state)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those it wraps, outermost first, however requests and urllib3 wrapped them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        wrapped = getattr(current, "reason", None) or (current.args[0] if current.args else None)
        if not isinstance(wrapped, BaseException):
            wrapped = next((each for each in current.args if isinstance(each, BaseException)), None)
        current = wrapped or current.__cause__ or current.__context__
