"""The deadline of a call: it is for everything, from connecting to the last byte."""

from __future__ import annotations

import socket
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.api.deadline import _DeadlineReader
from airflow_provider_stability.exceptions import StabilityError, StabilityTimeoutError
from airflow_provider_stability.simulator import Simulator
from support.clients import KEY, Sender, client
from support.raw_server import raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.usefixtures("no_proxy")

LATE = 20.0  # seconds after which a server ends what no deadline has ended


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as running:
        yield running


def failure(url: str, **fields: Any) -> StabilityError:
    with client(url, **fields) as asking, pytest.raises(StabilityError) as caught:
        asking.get_balance()
    return caught.value


def listen(connection: socket.socket) -> None:
    """Read and never answer; hang up in the end, which is another error than a timeout."""
    connection.settimeout(LATE)
    while connection.recv(65536):
        pass


DRIPS = {
    "status line": (b"", b"H"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "error body": (b"HTTP/1.1 418 No\r\nContent-Length: 1000\r\n\r\n", b" "),
}


@pytest.mark.parametrize(
    ("what", "way"),
    [*product(DRIPS, ("plain", "proxy")), ("status line", "tunnel"), ("headers", "tunnel")],
)
def test_slow_response_is_abandoned_at_the_deadline(what: str, way: str) -> None:
    head, piece = DRIPS[what]
    drip = Sender(head, piece, 1000, every=0.05)
    with raw_server(drip) as url:
        address = {"plain": url, "proxy": "http://api.example", "tunnel": "https://api.example"}[way]
        error = failure(address, timeout=0.5, proxy=None if way == "plain" else url)
    assert drip.sent / len(piece) < 200  # of 1000
    if what != "error body":  # there a status is known
        assert type(error) is StabilityTimeoutError
        assert "no complete answer within 0.5 s" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silent_server_is_abandoned_at_the_deadline(scheme: str) -> None:
    with raw_server(listen) as url:
        assert type(failure(url.replace("http", scheme), timeout=0.3)) is StabilityTimeoutError


def test_reader_stops_at_its_deadline_and_not_before(mocker: MockerFixture) -> None:
    clock = mocker.patch("time.monotonic", return_value=100.0)
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=0) as raw:
        reader = _DeadlineReader(raw, ours, 5.0)
        theirs.sendall(b"ab")
        clock.return_value = 104.5
        assert reader.read(1) == b"a"
        assert ours.gettimeout() == 0.5
        clock.return_value = 105.0
        with pytest.raises(TimeoutError):
            reader.read(1)


def test_timeout_of_run_overrides_the_connections(simulator: Simulator) -> None:
    simulator.fail(delay=LATE)  # well within the connection's
    with client(simulator.base_url, timeout=50) as asking, pytest.raises(StabilityTimeoutError) as caught:
        asking.run("/v1/engines/list", timeout=0.3)
    assert "within 0.3 s" in str(caught.value)


def test_session_has_the_connections_deadline() -> None:
    drip = Sender(*DRIPS["body"], 1000, every=0.05)
    with raw_server(drip) as url, client(url, timeout=0.5) as asking:
        with pytest.raises(OSError, match="timed out"):
            asking.session.get(url)
        assert drip.sent < 200
