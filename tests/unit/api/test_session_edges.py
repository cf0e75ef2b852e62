"""The exact limits of the client, and unusual arguments."""

from __future__ import annotations

import math
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_stability.exceptions import (
    BadRequestError,
    StabilityParameterError,
    StabilityResponseError,
    StabilityTimeoutError,
)
from airflow_provider_stability.simulator import Simulator
from support.clients import KEY, MEBIBYTE, Sender, client
from support.raw_server import raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_proxy")

ENGINES = "/v1/engines/list"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, rate_limit=100_000) as running:
        yield running


def padded(body: bytes, size: int) -> bytes:
    return b" " * (size - len(body)) + body


def test_response_is_limited_to_1_mib(simulator: Simulator) -> None:
    with client(simulator.base_url) as asking:
        simulator.fail(body=padded(b'{"credits": 42}', MEBIBYTE))
        assert asking.get_balance().credits == 42
        simulator.fail(body=padded(b'{"credits": 42}', MEBIBYTE + 1))
        with pytest.raises(StabilityResponseError, match="larger than 1048576 bytes"):
            asking.get_balance()


def test_error_body_is_truncated_at_64_kib(simulator: Simulator) -> None:
    said = b'{"name": "odd", "message": "late"}'
    with client(simulator.base_url) as asking:
        simulator.fail(status=418, body=padded(said, 65536))
        with pytest.raises(BadRequestError, match="418 odd: late") as whole:
            asking.get_balance()
        assert whole.value.message == "late"
        simulator.fail(status=418, body=padded(said, 65537))
        with pytest.raises(BadRequestError) as cut:
            asking.get_balance()
        assert (cut.value.name, cut.value.message) == (None, None)


@pytest.mark.parametrize(("status", "is_success"), [(200, True), (299, True), (300, False), (399, False)])
def test_statuses_from_300_are_failures(status: int, *, is_success: bool) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n".encode()
    with raw_server(Sender(head, b"{}", 1)) as url, client(url) as asking:
        if is_success:
            assert asking.run(ENGINES).status_code == status
        else:
            with pytest.raises(StabilityResponseError, match=f"{status} redirects to"):
                asking.run(ENGINES)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, math.inf, math.nan], ids=repr)
def test_run_refuses_an_invalid_timeout(simulator: Simulator, timeout: float) -> None:
    with client(simulator.base_url) as asking:
        with pytest.raises(StabilityParameterError, match=f"^timeout is {timeout!r}; it must be a number"):
            asking.run(ENGINES, timeout=timeout)
        assert simulator.count() == 0
        assert asking.run(ENGINES, timeout=None).status_code == 200  # the connection's


def test_run_accepts_a_timeout_below_1_second(simulator: Simulator) -> None:
    simulator.fail(delay=60)
    with client(simulator.base_url) as asking, pytest.raises(StabilityTimeoutError, match=r"within 0\.5 s"):
        asking.run(ENGINES, timeout=0.5)


@pytest.mark.parametrize("endpoint", [None, 5, b"/v1/engines/list", ["/v1"]], ids=repr)
def test_endpoint_that_is_not_a_string_is_refused_with_an_example(
    simulator: Simulator, endpoint: Any
) -> None:
    with client(simulator.base_url) as asking, pytest.raises(StabilityParameterError) as caught:
        asking.run(endpoint)
    assert str(caught.value).startswith(f"endpoint is {endpoint!r}; it must be a path below http://")
    assert str(caught.value).endswith(", such as /v1/engines/list")
    assert simulator.count() == 0


@pytest.mark.parametrize("endpoint", ["X", "/X", "XX/XX"])
def test_endpoint_is_requested_as_given(simulator: Simulator, endpoint: str) -> None:
    simulator.fail(body="{}")
    with client(simulator.base_url) as asking:
        asking.run(endpoint)
    assert simulator.requests[0].path == f"/{endpoint.lstrip('/')}"


def test_run_accepts_certificates_for_one_call() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with (
        Simulator(api_key=KEY, ssl_context=context) as https,
        authority.cert_pem.tempfile() as path,
        client(https.base_url) as asking,
    ):
        assert asking.run(ENGINES, verify=path).status_code == 200


def test_first_retry_comes_within_half_a_second(simulator: Simulator) -> None:
    seconds: list[float] = []
    with client(simulator.base_url, 1, sleep=seconds.append) as asking:
        for _ in range(20):
            simulator.fail(503)
            asking.get_balance()
    assert len(seconds) == 20
    assert max(seconds) <= 0.5
    assert max(seconds) > 0.1
