"""What can go wrong between Airflow and Stability AI, and whether waiting helps.

::

    StabilityError
    |-- StabilityConfigurationError   the connection is unusable                permanent (mostly)
    |-- StabilityParameterError       a task's parameter is unusable            permanent (a ValueError)
    |-- StabilityConnectionError      refused, DNS, reset, cut body, TLS        transient (mostly)
    |   `-- StabilityTimeoutError     no complete answer in time                transient
    |-- StabilityResponseError        an answer that is not what the API says   transient
    `-- StabilityStatusError          the service refused, with a status
        |-- BadRequestError           4xx without a class of its own            permanent
        |-- AuthenticationError       401                                       permanent
        |-- InsufficientCreditsError  402                                       permanent
        |-- PermissionDeniedError     403                                       permanent
        |-- NotFoundError             404                                       permanent
        |-- RateLimitError            429                                       transient
        `-- ServerError               5xx                                       transient

None of these is an ``AirflowException``: under ``soft_fail`` Airflow turns some of those into a silent skip,
and a wrong key must never look like a skipped task. No message ever holds the API key: whoever raises scrubs
first.
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
"""Seconds to leave the service alone after a 429 that does not say for how long.

Stability AI publishes 150 requests in 10 s per key, and a time-out of 60 s beyond that.
"""


MAX_PAUSE: Final = 3600.0
"""Seconds for which a service is left alone at most, whatever it asks for.

A ``Retry-After`` beyond that is a proxy's mistake; obeyed, it would keep every gate of a key shut for ever.
"""


class StabilityError(Exception):
    """Anything this package raises about Stability AI.

    :cvar advice: one sentence for the person on call: what to do about it.
    """

    advice: ClassVar[str] = "Read the message."

    transient: bool = False
    """Whether the same call may succeed later with nothing changed on our side."""

    @property
    def pause(self) -> float:
        """Seconds during which the service asked not to be called again; 0 where it asked nothing."""
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
    """The Airflow connection is missing, or a field of it cannot be used; the message names the field.

    :param transient: True only where Airflow failed to read the connection, and may not at the next look.
    """

    advice = "Mend the connection: the message names the field and what is allowed."

    is_missing: bool = False
    """Whether Airflow found no such connection, which it also says when a secrets backend did not answer."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class StabilityParameterError(StabilityError, ValueError):
    """A parameter of a task (threshold, organization, endpoint) cannot be used; the message names it."""

    advice = "Mend the DAG: the message names the parameter and what is allowed."


class StabilityConnectionError(StabilityError):
    """The service was not reached, or the answer broke off: refused, DNS, reset, cut body, TLS.

    :param transient: False only for a TLS certificate that is not trusted; waiting does not mend that.
    """

    advice = "Nothing if it passes. Else look at the network, the proxy and the service's status page."

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class StabilityTimeoutError(StabilityConnectionError):
    """No complete answer came within the connection's ``timeout``."""

    advice = "Nothing if it passes. Else look at the network, or raise `timeout` in the connection."


class StabilityResponseError(StabilityError):
    """An answer that is not what the API's specification says: a proxy's page, a half-done deployment."""

    advice = "Nothing if it passes. Else open the base URL: a proxy or a login page may be in the way."
    transient = True


class StabilityStatusError(StabilityError):
    """The service answered with a status that is no success.

    The fields are those of the ``Error`` schema in the service's OpenAPI documents, where the body had them.

    :param status_code: the HTTP status.
    :param name: short name of the kind of error, such as ``unauthorized``.
    :param detail: the service's own explanation, bounded in length and scrubbed of the key.
    :param error_id: the service's identifier of this occurrence, for its support.
    :param retry_after: seconds until the service wants to be asked again, None where it did not say.
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
        """Seconds from the answer on during which the service asked not to be called again."""
        return min(self.retry_after or 0.0, MAX_PAUSE)


class BadRequestError(StabilityStatusError):
    """4xx without a class of its own: the request itself is wrong."""

    advice = "Mend the request: the message says what the service did not like."


class AuthenticationError(StabilityStatusError):
    """401: the API key is missing, wrong or revoked."""

    advice = "Put a valid API key into the connection's password."


class InsufficientCreditsError(StabilityStatusError):
    """402: a paid call without the credits for it. Only callers of ``StabilityHook.run`` see it."""

    advice = "Buy credits, and put a BalanceSensor in front of the job."


class PermissionDeniedError(StabilityStatusError):
    """403: the key is valid but may not do this, such as read an organization it has no part in."""

    advice = "Check `organization`, and what the key may do."


class NotFoundError(StabilityStatusError):
    """404: the path or the thing it names does not exist."""

    advice = "Check the base URL and `api_version`, or the engine that was asked for."


class RateLimitError(StabilityStatusError):
    """429: more than 150 requests in 10 s with one key."""

    advice = "Nothing: the wait goes on when the service allows it. Poll less often if it comes again."
    transient = True

    @property
    def pause(self) -> float:
        """Seconds from the answer on without requests: what the service said, else its published 60."""
        return DEFAULT_RATE_LIMIT_PAUSE if self.retry_after is None else super().pause


class ServerError(StabilityStatusError):
    """5xx: the service, or something in front of it, failed."""

    advice = "Nothing if it passes. Else look at the service's status page."
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
    """Return an error to be read and not raised: without the frames it comes from, and what they hold."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def permanent_error(kind: str, message: str) -> StabilityError:
    """Return an error that waiting cannot mend, made again from what a trigger's event says of it.

    :param kind: the name of its class; an unknown one, as of another version of this package, is a
        StabilityError.
    """
    cls = globals().get(kind)
    if not isinstance(cls, type) or not issubclass(cls, StabilityError):
        cls = StabilityError
    return _rebuild(cls, (message,), {"transient": False})
