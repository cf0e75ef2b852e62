"""The client of the Stability AI user API: typed responses, one error tree.

Paths, headers and schemas are those of the service's OpenAPI documents (v1 and v1alpha).
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep as default_sleep

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
"""Seconds that a call waits for the service at most before a retry; it fails if the service asks for more."""

_MAX_RESPONSE_BYTES: Final = 1024 * 1024  # an account with its organizations is a few KiB
_MAX_RUN_BYTES: Final = 256 * 1024 * 1024  # ten large images in base64 are about 40 MiB
_MAX_ERROR_BYTES: Final = 64 * 1024
_CHUNK: Final = 64 * 1024
_RETRYABLE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""A retried POST could pay twice for one image."""

_FIRST_FAILURE: Final = 300
_NO_SCOPE: Final = dict.fromkeys(SCOPE_HEADERS)
"""The account belongs to the key, not to an organization: the specification has no such headers there."""

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")
_backoff = wait_random_exponential(multiplier=0.5, max=8)


class StabilityClient:
    """Calls Stability AI with the settings of one connection. Not thread-safe.

    :param settings: the connection.
    :param max_retries: retries after a transient error; None: those of the settings.
    :param sleep: waits for some seconds before a retry; None: ``time.sleep``.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_retries: int | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.settings = settings
        self.session = StabilitySession(settings)
        self._max_retries = settings.max_retries if max_retries is None else max_retries
        self._sleep = sleep or default_sleep
        self._errors = ErrorMapper(settings)

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()

    def get_account(self) -> Account:
        """Return the account that the key belongs to.

        :raises StabilityError: any of the classes in ``exceptions``.
        """
        return self._get("account", Account, _NO_SCOPE)

    def get_balance(self, organization: str | None = None) -> Balance:
        """Return the credits of an organization.

        :param organization: its id. None: the connection's; if that has none, the account's default.
        :raises StabilityError: any of the classes in ``exceptions``.
        """
        return self._get("balance", Balance, scope_headers(self.settings, check_organization(organization)))

    def run(self, endpoint: str, method: str = "GET", **request_kwargs: Any) -> requests.Response:
        """Call any path of the API with the connection's credentials and return the whole response.

        GET, HEAD and OPTIONS are retried after transient errors. Other methods are not: they could pay twice.

        :param endpoint: the path below the base URL, such as ``/v1/engines/list``.
        :param method: the HTTP method.
        :param request_kwargs: as for ``requests.Session.request``. Redirects are not followed by default.
        :raises StabilityParameterError: if ``endpoint`` is not a path, or another argument is invalid.
        :raises StabilityError: for every status of 300 or more, and if no valid response arrives.
        """
        if not _is_path(endpoint):
            raise StabilityParameterError(
                f"endpoint is {endpoint!r}; it must be a path below {self.settings.base_url}, "
                "such as /v1/engines/list"
            )
        timeout = request_kwargs.get("timeout")
        if isinstance(timeout, int | float) and not 0 < timeout < math.inf:
            raise StabilityParameterError(f"timeout is {timeout!r}; it must be a number of seconds above 0")
        method = str(method).upper()
        return self._retried(method, lambda: self._send(method, endpoint, _MAX_RUN_BYTES, request_kwargs))

    def _get(self, resource: str, model: type[_Model], headers: dict[str, Any]) -> _Model:
        endpoint = f"{self.settings.api_version}/user/{resource}"

        def call() -> _Model:
            response = self._send("GET", endpoint, _MAX_RESPONSE_BYTES, {"headers": headers})
            try:
                return model.model_validate_json(response.content)
            except ValidationError as error:
                invalid = self._errors.from_invalid_answer(f"GET /{endpoint}", response, error)
            raise invalid

        return self._retried("GET", call)

    def _retried(self, method: str, call: Callable[[], _Result]) -> _Result:
        """Make a call, and retry it after transient errors if that is safe."""
        attempts = 1 + (self._max_retries if method in _RETRYABLE_METHODS else 0)

        def log_retry(state: RetryCallState) -> None:
            assert state.outcome is not None
            assert state.next_action is not None
            log.warning(
                "%s; attempt %d of %d in %.1f s",
                state.outcome.exception(),
                state.attempt_number + 1,
                attempts,
                state.next_action.sleep,
            )

        return Retrying(
            sleep=self._sleep,
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(_is_retryable),
            wait=_wait,
            before_sleep=log_retry,
            reraise=True,
        )(call)

    def _send(self, method: str, endpoint: str, max_bytes: int, kwargs: dict[str, Any]) -> requests.Response:
        """Make one request and return the response, with its whole body unless ``stream`` is set."""
        kwargs = dict(kwargs)
        stream = kwargs.pop("stream", False)
        timeout = kwargs.pop("timeout", None) or self.settings.timeout
        allow_redirects = kwargs.pop("allow_redirects", False)
        transport = {name: kwargs.pop(name, None) for name in ("proxies", "verify", "cert")}
        url = f"{self.settings.base_url}/{endpoint.lstrip('/')}"
        call = f"{method} {urlsplit(url).path}"
        try:
            # As requests.Session.request does, in two steps: what fails in the first is the caller's mistake.
            request = self.session.prepare_request(requests.Request(method, url, **kwargs))
            merged = self.session.merge_environment_settings(request.url, stream=True, **transport)
        except (requests.RequestException, ValueError, TypeError, AttributeError) as error:
            failure = self._errors.from_arguments(call, error)
        else:
            try:
                response = self.session.send(
                    request, timeout=timeout, allow_redirects=allow_redirects, **merged
                )
                if response.status_code < _FIRST_FAILURE:
                    if not stream:
                        _read(response, max_bytes)
                    return response
            except TRANSPORT_ERRORS as error:
                failure = self._errors.from_exception(call, error, timeout)
            else:
                _read_beginning(response)
                failure = self._errors.from_status(call, response)
        # Raised outside of the handlers, so that the lower layer's exception is not chained: it holds the
        # request, and an error reporter that follows the chain would find the key there.
        raise failure


def _is_path(endpoint: object) -> bool:
    try:
        parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
    except ValueError:
        return False
    return parts is not None and not parts.scheme and not parts.netloc and bool(parts.path.strip("/ "))


def _read(response: requests.Response, max_bytes: int) -> None:
    """Read the body into the response, as requests does, but with a limit.

    :raises TooLargeError: if there is more.
    """
    body = bytearray()
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise TooLargeError(f"the response is larger than {max_bytes} bytes, which the API never sends")
    _set_content(response, bytes(body))


def _read_beginning(response: requests.Response) -> None:
    """Read the beginning of an error's body. The status counts, whatever happens to the body."""
    body = bytearray()
    try:
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
    except TRANSPORT_ERRORS as error:
        log.debug("The body of an error response broke off: %s", type(error).__name__)
    if len(body) > _MAX_ERROR_BYTES:
        response.close()
    _set_content(response, bytes(body[:_MAX_ERROR_BYTES]))


def _set_content(response: requests.Response, body: bytes) -> None:
    response._content = body  # noqa: SLF001  # requests has no public way to limit a body


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, StabilityError) and error.transient and error.pause <= MAX_RETRY_PAUSE


def _wait(state: RetryCallState) -> float:
    """Back off with jitter, and not before the pause that the service asked for is over."""
    assert state.outcome is not None
    error = state.outcome.exception()
    pause = error.pause if isinstance(error, StabilityError) else 0.0
    return pause + _backoff(state)
