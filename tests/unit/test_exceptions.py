"""The error tree: its docstring, its classes, copies, and the exceptions that are mapped to it."""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import socket
import ssl
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter

from airflow_provider_stability import exceptions
from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import (
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    StabilityResponseError,
    StabilityStatusError,
    StabilityTimeoutError,
    status_error_class,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-canary-7HqZw9PLkmXt"
OWN_CLASSES = {
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
INSTANCES = [
    StabilityError("plain"),
    StabilityConfigurationError("connection 'c': host is wrong"),
    StabilityParameterError("min_credits is 'x'"),
    StabilityConnectionError("refused"),
    StabilityConnectionError("not trusted", transient=False),
    StabilityTimeoutError("late"),
    StabilityResponseError("no JSON"),
    StabilityStatusError("in general", status_code=418),
    *(
        kind(
            "in words",
            status_code=status,
            name="short",
            detail="long",
            error_id="id-1",
            retry_after=12.5,
        )
        for status, kind in {400: BadRequestError, 500: ServerError, **OWN_CLASSES}.items()
    ),
]
COPIES: list[Callable[[StabilityError], StabilityError]] = [
    copy.copy,
    copy.deepcopy,
    *(
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # our own
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
]


def tree(kind: type[StabilityError], depth: int = 0) -> Iterator[tuple[int, type[StabilityError]]]:
    """Yield the classes of the tree with their depths, each followed by what is below it."""
    yield depth, kind
    for each in kind.__subclasses__():
        yield from tree(each, depth + 1)


def drawn() -> list[tuple[int, str, str | None]]:
    """Return depth, name and what is said of transience of each line of the module's drawing."""
    assert exceptions.__doc__ is not None
    lines = re.findall(
        r"^    ([|` -]*)(\w+Error)\b(?:.*?\s(transient|permanent)\b)?.*$", exceptions.__doc__, re.MULTILINE
    )
    return [(len(indent) // 4, name, said or None) for indent, name, said in lines]


def make(kind: type[StabilityError]) -> StabilityError:
    if issubclass(kind, StabilityStatusError):
        return kind("x", status_code=400)
    return kind("x")


ALL = [kind for _, kind in tree(StabilityError)]


def test_tree_in_the_docstring_is_the_class_tree() -> None:
    def parents(nodes: list[tuple[int, str]]) -> dict[str, str | None]:
        path: list[str] = []
        found: dict[str, str | None] = {}
        for depth, name in nodes:
            del path[depth:]
            found[name] = path[-1] if path else None
            path.append(name)
        return found

    real = parents([(depth, kind.__name__) for depth, kind in tree(StabilityError)])
    assert len(real) == len(ALL) == 14
    assert parents([(depth, name) for depth, name, _ in drawn()]) == real


def test_transience_in_the_docstring_is_the_classes() -> None:
    said = {name: word for _, name, word in drawn() if word is not None}
    assert said == {
        kind.__name__: "transient" if make(kind).transient else "permanent"
        for kind in ALL
        if kind not in {StabilityError, StabilityStatusError}
    }


def test_every_class_is_exported() -> None:
    assert {kind.__name__ for kind in ALL} <= set(exceptions.__all__)
    assert all(hasattr(exceptions, name) for name in exceptions.__all__)


def test_no_class_is_an_airflow_exception() -> None:
    for kind in ALL:
        assert not [base for base in kind.__mro__ if base.__module__.startswith("airflow.")]


def test_parameter_error_is_a_value_error() -> None:
    assert issubclass(StabilityParameterError, ValueError)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_advice_is_one_or_two_sentences(kind: type[StabilityError]) -> None:
    assert re.fullmatch(r"[A-Z][a-z ][^\n]{7,149}\.", kind.advice)


def test_every_concrete_class_has_its_own_advice() -> None:
    concrete = [kind for kind in ALL if kind not in {StabilityError, StabilityStatusError}]
    assert [kind for kind in concrete if "advice" not in vars(kind)] == []


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
def test_copies_and_pickles_keep_everything(
    error: StabilityError, duplicate: Callable[[StabilityError], StabilityError]
) -> None:
    again = duplicate(error)
    assert again is not error
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert (again.transient, again.pause) == (error.transient, error.pause)


def test_copied_instances_cover_every_class() -> None:
    assert {type(each) for each in INSTANCES} == set(ALL)


def test_note_survives_pickling() -> None:
    error = ServerError("x", status_code=500)
    error.add_note("seen at night")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert again.__notes__ == ["seen at night"]


def test_every_status_has_its_class() -> None:
    expected = dict.fromkeys(range(400, 500), BadRequestError) | dict.fromkeys(range(500, 600), ServerError)
    assert {status: status_error_class(status) for status in range(400, 600)} == expected | OWN_CLASSES


def test_only_429_and_5xx_are_transient() -> None:
    transient = {status for status in range(400, 600) if status_error_class(status).transient}
    assert transient == {429, *range(500, 600)}


@pytest.mark.parametrize(
    ("kind", "retry_after", "pause"),
    [
        (RateLimitError, None, 60.0),
        (RateLimitError, 0.0, 0.0),
        (RateLimitError, 7.5, 7.5),
        (ServerError, None, 0.0),
        (ServerError, 12.0, 12.0),
        (AuthenticationError, None, 0.0),
    ],
)
def test_pause_is_retry_after_or_60_s_after_a_429_without_one(
    kind: type[StabilityStatusError], retry_after: float | None, pause: float
) -> None:
    assert kind("x", status_code=400, retry_after=retry_after).pause == pause


@pytest.mark.parametrize(
    "error", [each for each in INSTANCES if not isinstance(each, StabilityStatusError)], ids=repr
)
def test_error_without_a_status_has_no_pause(error: StabilityError) -> None:
    assert error.pause == 0


def test_attributes_of_a_status_error_default_to_none() -> None:
    error = StabilityStatusError("x", status_code=418)
    assert vars(error) == {
        "status_code": 418,
        "name": None,
        "message": None,
        "error_id": None,
        "retry_after": None,
    }


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__.startswith(("requests.", "urllib3.")):
            yield from subclasses(each)


def build(kind: type[Exception]) -> Exception:
    """Make an exception whose constructor may want nearly anything, with a text that no one may see."""
    text = f"Bearer {KEY}"
    special: dict[type[Exception], tuple[object, ...]] = {
        requests.JSONDecodeError: (text, text, 0),
        urllib3.exceptions.IncompleteRead: (1, 2),
        urllib3.exceptions.InvalidChunkLength: (
            SimpleNamespace(tell=lambda: 1, length_remaining=2),
            text.encode(),
        ),
        UnicodeDecodeError: ("idna", text.encode(), 0, 1, text),
    }
    for args in (special.get(kind, (text,)), (None, text), (None, "/", text), (text, None, OSError(text))):
        with contextlib.suppress(TypeError, AttributeError):
            return kind(*args)
    raise AssertionError(f"{kind} cannot be made; add what it wants")


ROOTS = (requests.RequestException, urllib3.exceptions.HTTPError)
LOWER = sorted({each for root in ROOTS for each in subclasses(root)}, key=str)
LOWER += [OSError, ConnectionResetError, TimeoutError, socket.gaierror, ssl.SSLError, UnicodeDecodeError]


class Raising(BaseAdapter):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise self.error

    def close(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize("kind", LOWER, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_requests_and_urllib3_is_mapped(kind: type[Exception]) -> None:
    client = StabilityClient(Settings(KEY, base_url="https://api.example"), max_retries=0)
    client.session.mount("https://", Raising(build(kind)))
    with contextlib.closing(client), pytest.raises(StabilityError) as caught:
        client.get_balance()
    late = (requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
    assert (type(caught.value) is StabilityTimeoutError) is issubclass(kind, late)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY not in "".join([*traceback.format_exception(caught.value), repr(vars(caught.value))])
