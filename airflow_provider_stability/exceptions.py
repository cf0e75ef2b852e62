"""The errors of this package, and whether a retry can help.

::

    StabilityError
    |-- StabilityConfigurationError   the connection is unusable                permanent (mostly)
    |-- StabilityParameterError       a task's parameter is unusable            permanent (a ValueError)
    |-- StabilityConnectionError      refused, DNS, reset, cut body, TLS        transient (mostly)
    |   `-- StabilityTimeoutError     no complete response in time              transient
    |-- StabilityResponseError        not what the API's specification says     transient
    `-- StabilityStatusError          an HTTP error status
        |-- BadRequestError           any other 4xx                             permanent
        |-- AuthenticationError       401                                       permanent
        |-- InsufficientCreditsError  402                                       permanent
        |-- PermissionDeniedError     403                                       permanent
        |-- NotFoundError             404                                       permanent
        |-- RateLimitError            429                                       transient
        `-- ServerError               5xx                                       transient

None of these is an ``AirflowException``: under ``soft_fail`` Airflow turns some of those into a silent skip,
and a wrong key must never look like a skipped task. No message contains the API key: messages are redacted
before an error is raised.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

__all__ = [
    "DEFAULT_RATE_LIMIT_PAUSE",
    "MAX_PAUSE",
    "AuthenticationError",
    "BadRequestError",
    "InsufficientCreditsError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "StabilityConfigurationError",
    "StabilityConnectionError",
    "StabilityError",
    "StabilityParameterError",
    "StabilityResponseError",
    "StabilityStatusError",
    "StabilityTimeoutError",
    "as_value",
    "permanent_error",
    "status_error_class",
]

DEFAULT_RATE_LIMIT_PAUSE: Final = 60.0
"""Seconds without requests after a 429 that has no ``Retry-After``.

Stability AI allows 150 requests in 10 s per key, and announces a time-out of 60 s beyond that.
"""

MAX_PAUSE: Final = 3600.0
"""The longest pause that is honoured, in seconds.

A longer ``Retry-After`` is a proxy's mistake; honoured, it would keep every gate of the key closed for good.
"""


class StabilityError(Exception):
    """The base class of the errors of this package.

    :cvar advice: what the person on call should do, in one or two sentences.
    """

    advice: ClassVar[str] = "Read the message."

    transient: bool = False
    """Whether the same call may succeed later without a change on our side."""

    @property
    def pause(self) -> float:
        """Seconds for which the service asked for no further request; 0 if it did not ask."""
        return 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls ``cls(*args)``, which fails for the classes with keyword-only parameters.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[StabilityError], args: tuple[Any, ...], state: dict[str, Any]) -> StabilityError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class StabilityConfigurationError(StabilityError):
    """The Airflow connection is missing, unreadable or invalid; the message names the field.

    :param transient: True only if Airflow failed to read the connection, and may succeed later.
    """

    advice = "Fix the connection: the message names the field and what it must be."

    is_missing: bool = False
    """Whether Airflow did not find the connection, as it also reports when a secrets backend is down."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class StabilityParameterError(StabilityError, ValueError):
    """A parameter of a task is invalid, such as a threshold or an organization; the message names it."""

    advice = "Fix the DAG: the message names the parameter and what it must be."


class StabilityConnectionError(StabilityError):
    """The service could not be reached, or the response broke off: refused, DNS, reset, cut body, TLS.

    :param transient: False only for a TLS certificate that is not trusted: a retry does not help.
    """

    advice = (
        "Usually no action is needed. "
        "If it persists, check the network, the proxy and the service's status page."
    )

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class StabilityTimeoutError(StabilityConnectionError):
    """No complete response arrived within the connection's ``timeout``."""

    advice = (
        "Usually no action is needed. "
        "If it persists, check the network, or raise `timeout` in the connection."
    )


class StabilityResponseError(StabilityError):
    """A response that does not match the API's specification, such as a page of a proxy."""

    advice = (
        "Usually no action is needed. If it persists, open the base URL: a proxy or a login page may answer."
    )
    transient = True


class StabilityStatusError(StabilityError):
    """The service answered with an error status.

    The attributes are those of the ``Error`` schema in the service's OpenAPI documents; None if absent.

    :param status_code: the HTTP status.
    :param name: short name of the kind of error, such as ``unauthorized``.
    :param detail: the service's explanation, bounded in length and redacted; the attribute ``message``.
    :param error_id: the service's identifier of this occurrence, for its support.
    :param retry_after: seconds until the service accepts the next request.
    """

    advice = "Read the message."

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        name: str | None = None,
        detail: str | None = None,
        error_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.name = name
        self.message = detail
        self.error_id = error_id
        self.retry_after = retry_after

    @property
    def pause(self) -> float:
        """Seconds after the response for which the service asked for no further request.

        0 for a permanent error: it is about one request, and others with the same key need not wait.
        """
        return min(self.retry_after or 0.0, MAX_PAUSE) if self.transient else 0.0


class BadRequestError(StabilityStatusError):
    """Any other 4xx: the request itself is wrong."""

    advice = "Fix the request: the message says what the service refused."


class AuthenticationError(StabilityStatusError):
    """401: the API key is missing, wrong or revoked."""

    advice = "Put a valid API key into the connection's password."


class InsufficientCreditsError(StabilityStatusError):
    """402: not enough credits for a paid call. Only ``StabilityHook.run`` raises it."""

    advice = "Buy credits, and put a BalanceSensor in front of the job."


class PermissionDeniedError(StabilityStatusError):
    """403: the key is valid but may not do this, such as read an organization it does not belong to."""

    advice = "Check `organization`, and the permissions of the key."


class NotFoundError(StabilityStatusError):
    """404: the path, or the resource it names, does not exist."""

    advice = "Check the base URL and `api_version`, or the engine in the request."


class RateLimitError(StabilityStatusError):
    """429: more than 150 requests in 10 s with one key."""

    advice = "Usually no action is needed: polling resumes after the pause. If it recurs, poll less often."
    transient = True

    @property
    def pause(self) -> float:
        """Seconds after the response without requests: what the service asked for, else its published 60."""
        return DEFAULT_RATE_LIMIT_PAUSE if self.retry_after is None else super().pause


class ServerError(StabilityStatusError):
    """5xx: the service, or something in front of it, failed."""

    advice = "Usually no action is needed. If it persists, check the service's status page."
    transient = True


_BY_STATUS: Final[dict[int, type[StabilityStatusError]]] = {
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
_FIRST_SERVER_ERROR: Final = 500


def status_error_class(status_code: int) -> type[StabilityStatusError]:
    """Return the class for an HTTP status of 400 or more."""
    default = ServerError if status_code >= _FIRST_SERVER_ERROR else BadRequestError
    return _BY_STATUS.get(status_code, default)


def as_value(error: StabilityError) -> StabilityError:
    """Return an error as a value to keep: without traceback and chain, which would keep frames alive."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def permanent_error(kind: str, message: str) -> StabilityError:
    """Return the permanent error that a trigger's event describes.

    :param kind: the name of its class. An unknown one, from another version of this package, becomes a
        StabilityError.
    :param message: its message.
    """
    cls = globals().get(kind)
    if not isinstance(cls, type) or not issubclass(cls, StabilityError):
        cls = StabilityError
    return _rebuild(cls, (message,), {"transient": False})
