"""The limits of a call: duration, size and retries; and its proxy."""

from __future__ import annotations

import base64
import contextlib
import gzip
import logging
import re
import ssl
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_stability.api import client as client_module
from airflow_provider_stability.exceptions import (
    ServerError,
    StabilityError,
    StabilityResponseError,
)
from airflow_provider_stability.simulator import Simulator
from support.clients import KEY, MEBIBYTE, Sender, client
from support.raw_server import raw_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_proxy")

OTHER_PROXY = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
BALANCE = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"credits": 42}'


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def slept() -> list[float]:
    """Return the list for the seconds that a client with ``sleep=slept.append`` does not sleep."""
    return []


def failure(url: str, **fields: Any) -> StabilityError:
    with client(url, **fields) as asking, pytest.raises(StabilityError) as caught:
        asking.get_balance()
    return caught.value


@pytest.mark.parametrize("status", [200, 302, 404, 500])
@pytest.mark.parametrize("framing", ["Content-Length: 67108864", "Connection: close"])
def test_huge_body_is_not_read_to_its_end(status: int, framing: str) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: http://h/\r\n{framing}\r\n\r\n".encode()
    sender = Sender(head, b" " * 65536, 1024)
    with raw_server(sender) as url:
        error = failure(url)
    assert isinstance(error, StabilityResponseError) is (status in {200, 302})
    assert sender.sent < 16 * MEBIBYTE


def test_decompression_bomb_is_refused() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    bomb = Sender(head, gzip.compress(bytes(MEBIBYTE)) * 64, 1024)  # 64 GiB in 64 MiB
    with raw_server(bomb) as url:
        error = failure(url)
    assert type(error) is StabilityResponseError
    assert "larger than" in str(error)
    assert bomb.sent < 32 * MEBIBYTE


def test_run_has_a_higher_but_finite_size_limit(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(simulator.base_url) as asking:
        simulator.fail(body=bytes(5 * MEBIBYTE), times=2)
        assert len(asking.run("/v1/engines/list").content) == 5 * MEBIBYTE
        monkeypatch.setattr(client_module, "_MAX_RUN_BYTES", 4 * MEBIBYTE)
        with pytest.raises(StabilityResponseError, match="larger than"):
            asking.run("/v1/engines/list")


TRANSIENT: list[dict[str, Any]] = [
    *({"status": status} for status in (429, 500, 502, 503, 504, 599)),
    *({"reset": True}, {"cut_body": True}, {"body": "<html>"}, {"body": '{"credits": null}'}, {"body": ""}),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=str)
def test_transient_errors_are_retried_up_to_max_retries(
    simulator: Simulator, slept: list[float], fault: dict[str, Any]
) -> None:
    with client(simulator.base_url, 2, sleep=slept.append) as asking:
        simulator.fail(**fault, times=2)
        assert asking.get_balance().credits == 10.0
        assert (simulator.count(), len(slept)) == (3, 2)
        simulator.fail(**fault, times=None)
        with pytest.raises(StabilityError) as caught:
            asking.get_balance()
    assert caught.value.transient
    assert (simulator.count(), len(slept)) == (6, 4)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 422])
def test_permanent_errors_are_not_retried(simulator: Simulator, slept: list[float], status: int) -> None:
    simulator.fail(status, retry_after=1)
    with client(simulator.base_url, 5, sleep=slept.append) as asking, pytest.raises(StabilityError):
        asking.get_balance()
    assert (simulator.count(), slept) == (1, [])


@pytest.mark.parametrize(
    ("method", "tries"),
    [*product(("GET", "get", "HEAD", "OPTIONS"), [3]), *product(("POST", "post", "PUT", "DELETE"), [1])],
)
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"reset": True}], ids=str)
def test_only_methods_that_cannot_pay_twice_are_retried(
    simulator: Simulator, fault: dict[str, Any], method: str, tries: int
) -> None:
    simulator.fail(**fault, times=None)
    with client(simulator.base_url, 2) as asking, pytest.raises(StabilityError):
        asking.run("/v1/generation/x/text-to-image", method)
    assert simulator.count() == tries


@pytest.mark.parametrize(("setting", "given", "tries"), [(1, None, 2), (1, 3, 4), (3, 0, 1), (0, None, 1)])
def test_max_retries_of_the_client_overrides_the_connections(
    simulator: Simulator, setting: int, given: int | None, tries: int
) -> None:
    simulator.fail(503, times=None)
    with client(simulator.base_url, given, max_retries=setting) as asking, pytest.raises(ServerError):
        asking.get_account()
    assert simulator.count() == tries


@pytest.mark.parametrize(
    ("status", "retry_after", "least"),
    [(429, 7, 7.0), (429, 60, 60.0), (429, 0, 0.0), (429, None, 60.0), (503, 7, 7.0), (503, None, 0.0)],
)
def test_retry_waits_at_least_as_long_as_the_service_asks(
    simulator: Simulator, slept: list[float], status: int, retry_after: int | None, least: float
) -> None:
    simulator.fail(status, retry_after=retry_after, times=10)
    with client(simulator.base_url, 10, sleep=slept.append) as asking:
        asking.get_balance()
    assert len(slept) == 10
    assert least <= min(slept)
    assert max(slept) <= least + 8  # what is added grows, but not without end
    assert len(set(slept)) > 5  # and differs, or all clients would come back together


@pytest.mark.parametrize("retry_after", ["61", "7200", "999999999999", "Fri, 31 Dec 2999 23:59:59 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_call_fails_at_once_if_the_service_asks_for_more_than_a_minute(
    simulator: Simulator, slept: list[float], status: int, retry_after: str
) -> None:
    simulator.fail(status, retry_after=retry_after)
    with client(simulator.base_url, 5, sleep=slept.append) as asking, pytest.raises(StabilityError) as caught:
        asking.get_balance()
    assert caught.value.pause > 60
    assert (simulator.count(), slept) == (1, [])


def test_each_retry_is_logged_with_its_reason(simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    simulator.fail(429, retry_after=7, body=f'{{"message": "slow down, {KEY}"}}')
    simulator.fail(503, times=None)
    caplog.set_level(logging.DEBUG, client_module.__name__)
    with client(simulator.base_url, 2) as asking, pytest.raises(ServerError):
        asking.get_balance()
    first, second = (each.getMessage() for each in caplog.records if each.name == client_module.__name__)
    begin = "GET /v1/user/balance: "
    reason = "429 Too Many Requests: slow down, *** (retry after 7 s)"
    assert re.fullmatch(re.escape(begin + reason) + r"; attempt 2 of 3 in 7\.\d s", first)
    assert re.fullmatch(begin + r"503 service_unavailable: .*; attempt 3 of 3 in \d\.\d s", second)


@contextlib.contextmanager
def proxy(authority: trustme.CA) -> Iterator[tuple[str, list[str]]]:
    """Answer for every host itself, also inside of a tunnel; yield the URL and the requests it saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example").configure_cert(context)
    seen: list[str] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.recv(65536).decode())
        if seen[-1].startswith("CONNECT "):
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            connection = context.wrap_socket(connection, server_side=True)
            seen.append(connection.recv(65536).decode())
        connection.sendall(BALANCE)
        connection.close()

    with raw_server(serve) as url:
        yield url.replace("http://", "http://ada:hunter2%40canary@"), seen


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("environment", [{}, {"no_proxy": "*"}, OTHER_PROXY, None], ids=str)
def test_proxy_is_the_connections_or_the_environments_and_only_it_gets_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str, environment: dict[str, str] | None
) -> None:
    authority = trustme.CA()
    with proxy(authority) as (url, seen), authority.cert_pem.tempfile() as path:
        for name, value in ({f"{scheme}_proxy": url} if environment is None else environment).items():
            monkeypatch.setenv(name, value)
        own: dict[str, Any] = {} if environment is None else {"proxy": url}
        with client(f"{scheme}://api.example", verify=path, **own) as asking:
            assert asking.get_balance().credits == 42.0
    basic = base64.b64encode(b"ada:hunter2@canary").decode()
    assert f"Proxy-Authorization: Basic {basic}\r\n" in seen[0]
    assert f"Authorization: Bearer {KEY}\r\n" in seen[-1]
    if scheme == "http":
        assert seen[0].startswith("GET http://api.example/v1/user/balance HTTP/1.1\r\n")
    else:
        assert seen[0].startswith("CONNECT api.example:443 HTTP/1.")
        assert KEY not in seen[0]
        assert seen[1].startswith("GET /v1/user/balance HTTP/1.1\r\n")
        assert basic not in seen[1]
