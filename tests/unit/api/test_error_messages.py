"""What the errors of a call say, word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.api.errors import ErrorMapper
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import (
    ServerError,
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityError,
    StabilityParameterError,
    StabilityResponseError,
    StabilityTimeoutError,
)
from airflow_provider_stability.simulator import Simulator
from support.clients import KEY, client
from support.raw_server import always, http, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_proxy")

CALL = "GET /v1/user/balance"
NO_MATCH = "does not match the API's specification"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as running:
        yield running


def failure(url: str, run: dict[str, Any] | None = None, **fields: Any) -> tuple[type[StabilityError], str]:
    """Return class and message of the error of reading the balance.

    :param run: arguments of ``StabilityClient.run`` to read it with.
    """
    with client(url, **fields) as asking, pytest.raises(StabilityError) as caught:
        asking.get_balance() if run is None else asking.run("/v1/user/balance", **run)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("reason", ["", " "], ids=["no space", "space"])
def test_status_without_a_reason_stands_alone(reason: str) -> None:
    with raw_server(always(http(f"500{reason}"))) as url:
        assert failure(url) == (ServerError, f"{CALL}: 500")


def test_invalid_answer_is_described_by_its_first_three_problems(simulator: Simulator) -> None:
    body = '{"id": 4711, "organizations": [{"id": "org-1", "name": 5, "role": null}]}'
    simulator.fail(body=body, content_type="text/plain")
    with client(simulator.base_url) as asking, pytest.raises(StabilityResponseError) as caught:
        asking.get_account()
    assert str(caught.value) == (
        f"GET /v1/user/account: the response (text/plain, {len(body)} bytes) {NO_MATCH}: "
        "id: Input should be a valid string; email: Field required; "
        "organizations.0.name: Input should be a valid string"
    )


def test_invalid_answer_without_a_content_type_is_described_as_a_whole() -> None:
    with raw_server(always(http("200 OK", "[]"))) as url:
        assert failure(url) == (
            StabilityResponseError,
            f"{CALL}: the response (no content type, 2 bytes) {NO_MATCH}: body: Input should be an object",
        )


def test_body_that_cannot_be_decoded_is_an_invalid_response_with_the_reason(simulator: Simulator) -> None:
    simulator.fail(body="{}", headers={"Content-Encoding": "gzip"})
    assert failure(simulator.base_url) == (
        StabilityResponseError,
        f"{CALL} at {simulator.base_url}: error: Error -3 while decompressing data: incorrect header check",
    )


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ({"params": 5}, "TypeError: Cannot mix str and non-str arguments"),
        ({"files": 5}, "ValueError: cannot encode objects that are not 2-tuples"),
        ({"timeout": "soon"}, "ValueError: Timeout value connect was soon, but it must be an int"),
        ({"timeout": (1, 2, 3)}, "ValueError: Invalid timeout (1, 2, 3). Pass a (connect, read)"),
    ],
    ids=str,
)
def test_argument_that_makes_no_request_is_named_with_the_reason(
    simulator: Simulator, argument: dict[str, Any], reason: str
) -> None:
    kind, message = failure(simulator.base_url, argument)
    assert kind is StabilityParameterError
    assert message.startswith(f"{CALL} cannot be sent: {reason}")
    assert simulator.count() == 0


def test_timeout_says_how_long_if_it_is_of_the_whole_call(simulator: Simulator) -> None:
    simulator.fail(times=2, delay=60)
    where = f"{CALL} at {simulator.base_url}"
    assert failure(simulator.base_url, {"timeout": 0.2}) == (
        StabilityTimeoutError,
        f"{where}: no complete answer within 0.2 s",
    )
    assert failure(simulator.base_url, {"timeout": (20, 0.2)}) == (
        StabilityTimeoutError,
        f"{where}: no complete answer in time",
    )


def test_missing_certificate_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    kind, message = failure("https://127.0.0.1:9", verify=str(file))
    assert kind is StabilityConfigurationError
    reason = f"Could not find a suitable TLS CA certificate bundle, invalid path: {file}"
    assert message == f"{CALL} at https://127.0.0.1:9: OSError: {reason}"


def test_missing_client_certificate_is_named(simulator: Simulator) -> None:
    _, message = failure(simulator.base_url, {"cert": "/no/such/file"})
    assert message.endswith(": OSError: Could not find the TLS certificate file, invalid path: /no/such/file")


def test_proxy_url_without_a_host_is_a_configuration_error(simulator: Simulator) -> None:
    kind, message = failure(simulator.base_url, {"proxies": {"http": "http://"}})
    assert kind is StabilityConfigurationError
    assert message.startswith(f"{CALL} at {simulator.base_url}: InvalidProxyURL: ")


def test_exceptions_that_wrap_each_other_are_described_by_the_inner_one() -> None:
    outer, inner = OSError("outer"), OSError("inner")
    outer.__cause__, inner.__context__ = inner, outer
    error = ErrorMapper(Settings(KEY)).from_exception(CALL, outer, 30.0)
    assert type(error) is StabilityConnectionError
    assert str(error) == f"{CALL} at https://api.stability.ai: OSError: inner"
