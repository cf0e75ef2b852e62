"""The Stability AI user API over ``requests``: typed answers, one error tree. No Airflow import.

Paths, headers and schemas are those of the service's own OpenAPI documents (v1 and v1alpha).
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_stability.api.errors import TRANSPORT_ERRORS, ErrorMapper, TooLargeError
from airflow_provider_stability.api.models import Account, Balance
from airflow_provider_stability.api.session import SCOPE_HEADERS, StabilitySession, scope_headers
from airflow_provider_stability.connection.parameters import check_organization
from airflow_provider_stability.exceptions import StabilityError, StabilityParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.connection.settings import Settings

__all__ = ["StabilityClient"]

log = logging.getLogger(__name__)

MAX_RETRY_PAUSE: Final = 60.0
"""Seconds that a one-shot call waits for the service at most; it fails where more is asked for."""

_MAX_RESPONSE_BYTES: Final = 1024 * 1024  # an account with its organizations is a few KiB
_MAX_RUN_BYTES: Final = 256 * 1024 * 1024  # ten large images in base64 are about 40 MiB
_MAX_ERROR_BYTES: Final = 64 * 1024
_CHUNK: Final = 64 * 1024
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""A repeated POST could pay twice for one image."""

_FIRST_FAILURE: Final = 300
_NO_SCOPE: Final = dict.fromkeys(SCOPE_HEADERS)
"""The account is the key's, whatever the organization: the specification gives that path no such headers."""

_Answer = TypeVar("_Answer", bound=BaseModel)
_Result = TypeVar("_Result")
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
        self._errors = ErrorMapper(settings)

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()

    def get_account(self) -> Account:
        """Return the account that the key belongs to.

        :raises StabilityError: any class of the tree in ``exceptions``.
        """
        return self._get("account", Account, _NO_SCOPE)

    def get_balance(self, organization: str | None = None) -> Balance:
        """Return the credits of an organization: this one, else the connection's, else the account's default.

        :raises StabilityError: any class of the tree in ``exceptions``.
        """
        return self._get("balance", Balance, scope_headers(self.settings, check_organization(organization)))

    def run(self, endpoint: str, method: str = "GET", **request_kwargs: Any) -> requests.Response:
        """Call any path of the API with the connection's credentials and return the whole answer.

        GET, HEAD and OPTIONS are repeated after transient errors; nothing that could pay twice is.

        :param endpoint: the path below the base URL, such as ``/v1/engines/list``.
        :param method: the HTTP method.
        :param request_kwargs: as for ``requests.Session.request``. Redirects are not followed unless asked
            for.
        :raises StabilityParameterError: where ``endpoint`` is not a path, or the rest makes no request.
        :raises StabilityError: for every status of 300 or more and every failure on the way.
        """
        if not _is_path(endpoint):
            raise StabilityParameterError(
                f"endpoint is {endpoint!r}; it must be a path below {self.settings.base_url}, "
                "such as /v1/engines/list"
            )
        limit = request_kwargs.get("timeout")
        if isinstance(limit, int | float) and not 0 < limit < math.inf:
            raise StabilityParameterError(f"timeout is {limit!r}; it must be a number of seconds above 0")
        method = str(method).upper()
        return self._repeated(method, lambda: self._send(method, endpoint, _MAX_RUN_BYTES, request_kwargs))

    def _get(self, what: str, answer: type[_Answer], headers: dict[str, Any]) -> _Answer:
        endpoint = f"{self.settings.api_version}/user/{what}"

        def ask() -> _Answer:
            response = self._send("GET", endpoint, _MAX_RESPONSE_BYTES, {"headers": headers})
            try:
                return answer.model_validate_json(response.content)
            except ValidationError as error:
                broken = self._errors.from_invalid_answer(f"GET /{endpoint}", response, error)
            raise broken

        return self._repeated("GET", ask)

    def _repeated(self, method: str, call: Callable[[], _Result]) -> _Result:
        """Call, and call again after errors that pass, as far as that is safe and wanted."""
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

        return Retrying(
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(_may_pass_soon),
            wait=_wait,
            before_sleep=say,
            reraise=True,
        )(call)

    def _send(self, method: str, endpoint: str, most: int, kwargs: dict[str, Any]) -> requests.Response:
        """Make one request and return its answer, read as a whole unless ``stream`` says otherwise."""
        kwargs = dict(kwargs)
        leave_unread = kwargs.pop("stream", False)
        limit = kwargs.pop("timeout", None) or self.settings.timeout
        follow = kwargs.pop("allow_redirects", False)
        wire = {name: kwargs.pop(name, None) for name in ("proxies", "verify", "cert")}
        url = f"{self.settings.base_url}/{endpoint.lstrip('/')}"
        call = f"{method} {urlsplit(url).path}"
        try:
            # As requests.Session.request does, in two steps: what fails in the first is the caller's to mend.
            request = self.session.prepare_request(requests.Request(method, url, **kwargs))
            environment = self.session.merge_environment_settings(request.url, stream=True, **wire)
        except (requests.RequestException, ValueError, TypeError, AttributeError) as error:
            failure = self._errors.from_arguments(call, error)
        else:
            try:
                response = self.session.send(request, timeout=limit, allow_redirects=follow, **environment)
                if response.status_code < _FIRST_FAILURE:
                    if not leave_unread:
                        _read(response, most)
                    return response
            except TRANSPORT_ERRORS as error:
                failure = self._errors.from_exception(call, error, limit)
            else:
                _read_beginning(response)
                failure = self._errors.from_status(call, response)
        # Raised out here so that the lower layer's exception, which holds the request and with it the key, is
        # not chained to it: an error reporter that walks the chain would find the key there.
        raise failure


def _is_path(endpoint: object) -> bool:
    try:
        parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
    except ValueError:
        return False
    return parts is not None and not parts.scheme and not parts.netloc and bool(parts.path.strip("/ "))


def _read(response: requests.Response, most: int) -> None:
    """Read the body into the response, as requests does itself, but no more of it than ``most`` bytes.

    :raises TooLargeError: where there is more.
    """
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > most:
            response.close()
            raise TooLargeError(f"the answer is larger than {most} bytes, nothing the API sends")
    _keep(response, bytes(body))


def _read_beginning(response: requests.Response) -> None:
    """Read of an error's body what says something; the status counts whatever happens to the body."""
    body = bytearray()
    try:
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
    except TRANSPORT_ERRORS as error:
        log.debug("The body of an error broke off: %s", type(error).__name__)
    if len(body) > _MAX_ERROR_BYTES:
        response.close()
    _keep(response, bytes(body[:_MAX_ERROR_BYTES]))


def _keep(response: requests.Response, body: bytes) -> None:
    response._content = body  # noqa: SLF001  # requests has no public way to bound a body


def _may_pass_soon(error: BaseException) -> bool:
    return isinstance(error, StabilityError) and error.transient and error.pause <= MAX_RETRY_PAUSE


def _wait(state: RetryCallState) -> float:
    """Back off with jitter, and not before the service wants to be asked again."""
    assert state.outcome is not None
    error = state.outcome.exception()
    pause = error.pause if isinstance(error, StabilityError) else 0.0
    return pause + _backoff(state)
