"""The rate limit, the addresses that the simulator listens on, and its stop."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-canary-5150"
BALANCE = "/v1/user/balance"


@pytest.fixture
def simulator(clock: SimpleNamespace) -> Iterator[Simulator]:
    with Simulator(api_key=KEY, organizations={"org-b": 25.0}, clock=clock) as running:
        yield running


def call(simulator: Simulator, path: str = BALANCE, *, key: str = KEY) -> requests.Response:
    authorization = key if path.startswith("/v1alpha/") else f"Bearer {key}"
    return requests.get(simulator.base_url + path, headers={"Authorization": authorization}, timeout=30)


@pytest.fixture
def clock() -> SimpleNamespace:
    """Return a clock that stands still until its ``now`` is changed."""
    stopped = SimpleNamespace(now=1000.0)
    stopped.time = stopped.monotonic = lambda: stopped.now
    return stopped


def statuses(simulator: Simulator, count: int) -> list[int]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        return [session.get(simulator.base_url + BALANCE, timeout=30).status_code for _ in range(count)]


def test_151_requests_in_ten_seconds_start_a_penalty_of_one_minute(
    simulator: Simulator, clock: SimpleNamespace
) -> None:
    assert statuses(simulator, 151) == [200] * 150 + [429]
    clock.now += 59.5
    limited = call(simulator)
    assert (limited.status_code, limited.json()["name"]) == (429, "rate_limit_exceeded")
    assert "150 requests within a 10 second period" in limited.json()["message"]
    assert limited.headers["Retry-After"] == "1"
    clock.now += 0.5
    assert call(simulator).status_code == 200


def test_requests_older_than_the_window_do_not_count(simulator: Simulator, clock: SimpleNamespace) -> None:
    assert set(statuses(simulator, 150)) == {200}
    clock.now += 10.0
    assert set(statuses(simulator, 150)) == {200}


def test_rate_limit_is_per_key_and_heal_ends_its_penalty(clock: SimpleNamespace) -> None:
    with Simulator(api_key=KEY, rate_limit=2, clock=clock) as simulator:
        assert {call(simulator, key="sk-other").status_code for _ in range(4)} == {401}
        assert statuses(simulator, 3) == [200, 200, 429]
        alpha = call(simulator, "/v1alpha/user/balance")
        assert (alpha.headers["Retry-After"], alpha.json()["temporary"]) == ("60", True)
        simulator.rotate_key("sk-new")
        assert call(simulator, key="sk-new").status_code == 200
        simulator.rotate_key(KEY)
        assert call(simulator).status_code == 429
        simulator.heal()
        assert statuses(simulator, 3) == [200, 200, 429]


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")]
)
def test_simulator_listens_on_the_given_loopback_host(host: str, shown: str) -> None:
    try:
        with Simulator(api_key=KEY, host=host) as simulator:
            assert simulator.base_url == f"http://{shown}:{simulator.port}"
            assert call(simulator).status_code == 200
    except OSError as problem:  # a container may have no IPv6 at all
        if host != "::1" or isinstance(problem, requests.RequestException):
            raise
        pytest.skip(f"no IPv6 here: {problem}")


def test_https_client_that_never_completes_the_handshake_blocks_no_other(tmp_path: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    before = set(threading.enumerate())
    with Simulator(api_key=KEY, ssl_context=context) as simulator:
        assert simulator.base_url.startswith("https://")
        with requests.Session() as session:
            session.trust_env = False  # a bundle from the environment would replace this one
            session.verify = str(tmp_path / "ca.pem")
            session.headers["Authorization"] = f"Bearer {KEY}"
            session.get(simulator.base_url + BALANCE, timeout=30).raise_for_status()
            with pytest.raises(requests.exceptions.SSLError):
                call(simulator)
            with (
                ThreadPoolExecutor(1) as pool,
                socket.create_connection(("127.0.0.1", simulator.port)),
            ):
                assert pool.submit(session.get, simulator.base_url + BALANCE, timeout=30).result().ok
                simulator.__exit__(None, None, None)
    assert set(threading.enumerate()) <= before


def test_port_is_unknown_before_the_start_and_closed_after_the_stop() -> None:
    simulator = Simulator(api_key=KEY)
    with pytest.raises(RuntimeError, match="with statement"):
        _ = simulator.base_url
    with simulator:
        assert call(simulator).status_code == 200
        with pytest.raises(RuntimeError, match="already running"):
            simulator.__enter__()
    assert (simulator.count(), simulator.credits()) == (1, 10.0)
    with pytest.raises(requests.ConnectionError):
        call(simulator)
    with simulator:
        assert call(simulator).status_code == 200


def test_port_in_use_raises_os_error(simulator: Simulator) -> None:
    with pytest.raises(OSError, match="in use"), Simulator(port=simulator.port):
        pass


def test_stop_ends_idle_connections_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        with Simulator(api_key=KEY) as simulator:
            for _ in range(3):
                assert session.get(simulator.base_url + BALANCE, timeout=30).status_code == 200
            assert len(set(threading.enumerate()) - before) == 2  # one accepts, one serves the connection
        assert set(threading.enumerate()) <= before
