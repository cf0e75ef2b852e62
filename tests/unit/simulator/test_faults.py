"""Faults, and the connections that they affect."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.simulator import Fault, RecordedRequest, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-canary-5150"
BALANCE = "/v1/user/balance"
REQUEST = f"GET {BALANCE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, organizations={"org-b": 25.0}) as running:
        yield running


def call(simulator: Simulator, path: str = BALANCE, **headers: str) -> requests.Response:
    key = KEY if path.startswith("/v1alpha/") else f"Bearer {KEY}"
    return requests.get(simulator.base_url + path, headers={"Authorization": key, **headers}, timeout=30)


def connect(simulator: Simulator) -> socket.socket:
    return socket.create_connection(("127.0.0.1", simulator.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "bad_request"),
        (402, "insufficient_balance"),
        (403, "permission_denied"),
        (429, "too_many_requests"),
        (500, "server_error"),
        (503, "service_unavailable"),
        (599, "status_599"),
    ],
)
def test_status_comes_with_the_error_body_of_the_service(
    simulator: Simulator, status: int, name: str
) -> None:
    simulator.fail(status=status)
    answer = call(simulator)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert simulator.requests[0].status == status
    assert call(simulator).json() == {"credits": 10.0}


def test_status_in_v1alpha_comes_with_its_error_body(simulator: Simulator) -> None:
    simulator.fail(504)
    body = call(simulator, "/v1alpha/user/balance").json()
    assert (body["fault"], body["temporary"], body["timeout"]) == (True, True, True)


def test_status_without_a_body_sends_the_head_only(simulator: Simulator) -> None:
    simulator.fail(status=204)
    with requests.Session() as session:
        assert session.get(simulator.base_url, timeout=30).content == b""
        assert session.get(simulator.base_url, timeout=30).status_code == 404


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2099 07:28:00 GMT", "soon", 7, 1.5, -1])
def test_retry_after_is_sent_as_given(simulator: Simulator, value: Any) -> None:
    simulator.fail(status=429, retry_after=value)
    assert call(simulator).headers["Retry-After"] == str(value)


def test_fault_without_status_or_body_keeps_the_answer(simulator: Simulator) -> None:
    simulator.fail(delay=0.001, retry_after=3, headers={"X-Mine": "42"})
    answer = call(simulator)
    assert answer.json() == {"credits": 10.0}
    assert (answer.headers["Retry-After"], answer.headers["X-Mine"]) == ("3", "42")


@pytest.mark.parametrize("body", ["<p>ü</p>", "<p>ü</p>".encode()])
def test_body_replaces_that_of_the_service(simulator: Simulator, body: bytes | str) -> None:
    simulator.fail(body=body)
    simulator.fail(body=body, status=502, content_type="text/html")
    first, second = call(simulator), call(simulator)
    assert first.content == second.content == "<p>ü</p>".encode()
    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/json")
    assert (second.status_code, second.headers["Content-Type"]) == (502, "text/html")


def test_headers_replace_those_of_the_answer_in_any_case(simulator: Simulator) -> None:
    simulator.fail(status=302, headers={"Location": "http://127.0.0.1:9/", "content-type": "text/plain"})
    answer = requests.get(simulator.base_url, timeout=30, allow_redirects=False)
    assert (answer.headers["Location"], answer.headers["Content-Type"]) == (
        "http://127.0.0.1:9/",
        "text/plain",
    )


def test_wrong_content_length_closes_the_connection(simulator: Simulator) -> None:
    simulator.fail(headers={"Content-Length": "5"})
    with connect(simulator) as connection:
        connection.sendall(REQUEST)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"Content-Length: 5\r\n" in head
    assert b"Connection: close" in head
    assert body == b'{"credits": 10.0}'


def test_reset_ends_the_connection_after_the_request(simulator: Simulator) -> None:
    simulator.fail(reset=True)
    with connect(simulator) as connection:
        connection.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert simulator.requests[0].status == 0
    simulator.fail(reset=True)
    with pytest.raises(requests.ConnectionError):
        call(simulator)


def test_cut_body_announces_all_and_sends_half(simulator: Simulator) -> None:
    simulator.fail(body=b"x" * 100, cut_body=True)
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=30)
    connection.request("GET", BALANCE)
    with pytest.raises(http.client.IncompleteRead) as cut:
        connection.getresponse().read()
    connection.close()
    assert (len(cut.value.partial), cut.value.expected) == (50, 50)


def test_drip_sends_the_whole_answer_byte_by_byte(simulator: Simulator) -> None:
    simulator.fail(drip=0.001)
    assert call(simulator).json() == {"credits": 10.0}
    simulator.fail(drip=600)
    with connect(simulator) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(65536) == b"H"


def test_delayed_request_is_recorded_before_it_is_answered(simulator: Simulator) -> None:
    simulator.fail(delay=600)
    with connect(simulator) as connection:
        connection.sendall(REQUEST)
        simulator.wait_for_requests(1, 30)
        assert simulator.requests[0].status == 0
        assert call(simulator).status_code == 200


def test_fault_affects_only_matching_requests(simulator: Simulator) -> None:
    simulator.fail(500, path="/v1/user/account", times=None)
    simulator.fail(503, organization="org-b", times=2)
    simulator.fail(502, organization="org-default")
    assert call(simulator).status_code == 502
    assert [call(simulator, Organization="org-b").status_code for _ in range(3)] == [503, 503, 200]
    assert [call(simulator, "/v1/user/account").status_code for _ in range(3)] == [500, 500, 500]
    simulator.heal()
    assert call(simulator, "/v1/user/account").status_code == 200


def test_first_fault_applies_until_it_is_used_up(simulator: Simulator) -> None:
    simulator.fail(500, times=2)
    simulator.fail(503)
    assert [call(simulator).status_code for _ in range(4)] == [500, 500, 503, 200]


def test_affected_requests_count_against_the_rate_limit() -> None:
    with Simulator(api_key=KEY, rate_limit=2) as simulator:
        simulator.fail(500, times=2)
        assert [call(simulator).status_code for _ in range(3)] == [500, 500, 429]
        assert [request.status for request in simulator.requests] == [500, 500, 429]
        simulator.fail(503)
        assert call(simulator).status_code == 503


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "one of status, retry_after, delay"),
        ({"path": BALANCE}, "must be given at least one of status"),
        ({"status": 99}, "status is 99; .*from 200 to 599"),
        ({"status": "500"}, "status is '500'; .*whole number"),
        ({"delay": -1}, "delay is -1; .*from 0 to 86400"),
        ({"delay": 1e9}, "delay is 1000000000.0; .*from 0 to 86400"),
        ({"drip": float("nan")}, "drip is nan; .*finite"),
        ({"reset": 1}, "reset is 1; it must be true or false"),
        ({"cut_body": "yes"}, "cut_body is 'yes'; it must be true or false"),
        ({"cut_body": True, "body": ""}, "body is ''; it must be one byte or more"),
        ({"body": 7}, "body is 7; it must be text or bytes"),
        ({"content_type": "a\nb"}, "content_type is .*; .*printable text"),
        ({"retry_after": "1\r\nX: y"}, "retry_after is .*printable text"),
        ({"retry_after": True}, "retry_after is True; .*finite number"),
        ({"headers": ["X"]}, "headers is .*; it must be an object"),
        ({"headers": {"X": 1}}, r"headers\['X'\] is 1; .*printable text"),
        ({"headers": {"": "1"}}, "a header name is ''; .*printable text"),
        ({"status": 500, "times": 0}, "times is 0; .*of 1 or more"),
        ({"status": 500, "path": "user"}, "path is 'user'; it must start with a slash"),
    ],
)
def test_error_for_invalid_fault_names_value_and_range(wrong: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Fault(**wrong)


def test_stop_ends_requests_with_a_delay_or_a_drip() -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(4) as pool:
        with Simulator(api_key=KEY) as simulator:
            simulator.fail(delay=600, times=2)
            simulator.fail(drip=600, times=2)
            hanging = [pool.submit(call, simulator) for _ in range(4)]
            simulator.wait_for_requests(4, 30)
        assert not [each for each in set(threading.enumerate()) - before if "ThreadPool" not in each.name]
        for future in hanging:
            assert isinstance(future.exception(30), requests.ConnectionError)


def test_stop_ends_a_connection_whose_client_does_not_read() -> None:
    before = set(threading.enumerate())
    with Simulator(api_key=KEY) as simulator:
        simulator.fail(body=b"x" * (1 << 26))
        connection = connect(simulator)
        connection.sendall(REQUEST)
        simulator.wait_for_requests(1, 30)
    connection.close()
    assert set(threading.enumerate()) <= before


def test_client_that_disconnects_is_not_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with Simulator(api_key=KEY) as simulator:
        for sent in (
            REQUEST,
            REQUEST[:10],
            b"",
            f"POST {BALANCE} HTTP/1.1\r\nContent-Length: 9\r\n\r\nx".encode(),
        ):
            simulator.fail(drip=0.001)
            connection = connect(simulator)
            connection.sendall(sent)
            if sent == REQUEST:
                assert connection.recv(1) == b"H"
            # With a linger time of zero, closing sends a reset: the simulator fails to send the next byte.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        simulator.heal()
        assert call(simulator).status_code == 200  # so all earlier connections were accepted
        for thread in set(threading.enumerate()) - before:
            if thread.name != "stability-simulator":
                thread.join(30)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: x", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: 99999999", 413),
        ("Content-Length: " + "9" * 5000, 413),
    ],
)
def test_unreadable_body_is_refused_and_closes_the_connection(
    simulator: Simulator, head: str, status: int
) -> None:
    with connect(simulator) as connection:
        connection.sendall(f"POST {BALANCE} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        assert read_all(connection).startswith(f"HTTP/1.1 {status} ".encode())


def test_request_with_an_incomplete_body_is_not_served(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        connection.sendall(f"POST {BALANCE} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx".encode())
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert simulator.count() == 0


def test_error_in_the_callback_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_: RecordedRequest) -> None:
        raise ZeroDivisionError

    with Simulator(api_key=KEY, on_answer=fail) as simulator, pytest.raises(requests.ConnectionError):
        call(simulator)
    printed = capfd.readouterr().err
    assert "ZeroDivisionError" in printed
    assert KEY not in printed


def test_persistent_connection_serves_requests_in_turn(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        connection.sendall(REQUEST * 3)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).count(b'{"credits": 10.0}') == 3


def test_connection_close_closes_the_connection(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        connection.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        assert b"Connection: close" in read_all(connection)
