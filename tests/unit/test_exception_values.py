"""Errors as values: restored from an event, shared, and with default attributes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from airflow_provider_stability import exceptions
from airflow_provider_stability.exceptions import (
    RateLimitError,
    ServerError,
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    StabilityStatusError,
    StabilityTimeoutError,
    as_value,
    permanent_error,
)

CLASSES = [
    each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, StabilityError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_permanent_error_has_the_class_and_message_of_the_event(
    kind: type[StabilityError],
) -> None:
    error = permanent_error(kind.__name__, "as the trigger said")
    assert type(error) is kind
    assert str(error) == "as the trigger said"
    assert error.args == ("as the trigger said",)
    assert not error.transient
    assert error.advice == kind.advice


@pytest.mark.parametrize(
    "kind", ["", "NewError", "Any", "DEFAULT_RATE_LIMIT_PAUSE", "__doc__", "annotations", "permanent_error"]
)
def test_unknown_class_in_an_event_becomes_a_stability_error(kind: str) -> None:
    error = permanent_error(kind, "of a later version")
    assert type(error) is StabilityError
    assert str(error) == "of a later version"


def test_class_that_is_not_an_error_of_ours_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "KeyboardInterrupt", KeyboardInterrupt, raising=False)
    assert type(permanent_error("KeyboardInterrupt", "x")) is StabilityError


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (StabilityConfigurationError("host is wrong"), False),
        (StabilityConfigurationError("not read", transient=True), True),
        (StabilityConnectionError("refused"), True),
        (StabilityConnectionError("not trusted", transient=False), False),
        (StabilityTimeoutError("late"), True),
        (StabilityParameterError("min_credits is 'x'"), False),
    ],
    ids=str,
)
def test_transient_is_the_classs_default_unless_given(error: StabilityError, *, transient: bool) -> None:
    assert error.transient is transient
    assert str(error) == error.args[0]


class Frame:
    """Something that an error's frames hold."""


def raised(what: Any) -> RateLimitError:
    try:
        try:
            return RateLimitError("", status_code=int(repr(what)))
        except ValueError as cause:
            raise RateLimitError("slow down", status_code=429, retry_after=0.0) from cause
    except RateLimitError as error:
        return error


def test_error_as_a_value_keeps_no_frames_alive() -> None:
    held = Frame()
    seen = weakref.ref(held)
    error = raised(held)
    del held
    assert as_value(error) is error
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    gc.collect()
    assert seen() is None
    assert (str(error), error.retry_after, error.pause) == ("slow down", 0.0, 0.0)


@pytest.mark.parametrize(("asked", "pause"), [(3600.0, 3600.0), (3600.5, 3600.0), (1e9, 3600.0), (0.5, 0.5)])
@pytest.mark.parametrize("kind", [RateLimitError, ServerError])
def test_pause_is_limited_to_an_hour(kind: type[StabilityStatusError], asked: float, pause: float) -> None:
    error = kind("slow down", status_code=429, retry_after=asked)
    assert (error.pause, error.retry_after) == (pause, asked)


def test_connection_is_not_missing_by_default() -> None:
    error = StabilityConfigurationError("host is wrong")
    assert error.is_missing is False
    error.is_missing = True
    assert permanent_error("StabilityConfigurationError", "gone").transient is False
    assert StabilityConfigurationError("host is wrong").is_missing is False
