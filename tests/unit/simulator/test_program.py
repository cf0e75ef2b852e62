"""The simulator as a program, its control endpoints, and the fixture for tests of DAGs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.simulator import Simulator, fixtures
from airflow_provider_stability.simulator.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-canary-5150"
BALANCE = "/v1/user/balance"
MODULE = "airflow_provider_stability.simulator"

stability_simulator = fixtures.stability_simulator


class Program:
    """The simulator in a separate process, with its output line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.banner = self.until("Stop it with Ctrl-C. Requests:")
        self.url = next(word for word in self.banner.split() if word.startswith("http://"))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)

    def until(self, text: str) -> str:
        """Return the output up to and including the line with ``text``."""
        seen = ""
        while text not in seen:
            self.lines.append(self._queue.get(timeout=60))
            seen += self.lines[-1]
        return seen

    def get(self, path: str = BALANCE, key: str = KEY, **headers: str) -> requests.Response:
        headers["Authorization"] = f"Bearer {key}"
        return requests.get(self.url + path, headers=headers, timeout=30)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit code and the output to stderr."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self._reader.join(60)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[Program]:
    with contextlib.closing(Program(*arguments)) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_runs_until_a_signal_and_exits_cleanly(number: signal.Signals) -> None:
    arguments = ("--credits", "12.5", "--organization", "org-b=25", "--organization", "org-c=-1")
    with program(*arguments, "--api-key", KEY) as running, requests.Session() as session:
        assert running.get().json() == {"credits": 12.5}
        assert running.get(Organization="org-b").json() == {"credits": 25.0}
        assert running.get(Organization="org-c").json() == {"credits": -1.0}
        session.get(running.url, timeout=30)  # its connection is still open at the signal
        assert running.end(number) == (0, "")


def test_program_exits_while_requests_hang() -> None:
    with program() as running:
        requests.post(f"{running.url}/_simulator/fail", json={"delay": 600}, timeout=30)
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            give_up = time.monotonic() + 60
            while not requests.get(f"{running.url}/_simulator/state", timeout=30).json()["requests"]:
                assert time.monotonic() < give_up
            assert running.end(signal.SIGTERM) == (0, "")
            assert connection.recv(1) == b""


def test_banner_shows_a_working_connection_and_top_up() -> None:
    with program() as running:
        export = next(line for line in running.lines if "export " in line)
        name, _, value = shlex.split(export)[1].partition("=")
        connection = json.loads(value)
        assert name == "AIRFLOW_CONN_STABILITY_DEFAULT"
        assert (connection["conn_type"], connection["host"]) == ("stability", running.url)
        assert running.get(key=connection["password"]).json() == {"credits": 10.0}
        command = next(shlex.split(line) for line in running.lines if "top-up" in line)
        assert command[:2] == ["python", "-c"]
        subprocess.run([sys.executable, *command[1:]], check=True, timeout=60)
        assert running.get(key=connection["password"]).json() == {"credits": 40.0}


def test_program_logs_each_request_and_never_the_key() -> None:
    with program("--api-key", KEY, "--organization", "org-b=25") as running:
        running.get()
        running.get(Organization="org-b")
        running.get(key="sk-other")
        running.get(Organization=KEY)
        running.get(f"/v1/{KEY}?key={KEY}")
        requests.post(f"{running.url}/_simulator/fail", json={"reset": True}, timeout=30)
        with pytest.raises(requests.ConnectionError):
            running.get()
        running.until("status=reset")
        log = "".join(running.lines)
        assert "GET /v1/user/balance organization=org-default status=200 credits=10\n" in log
        assert "GET /v1/user/balance organization=org-b status=200 credits=25\n" in log
        assert "GET /v1/user/balance organization=org-default status=401 credits=10\n" in log
        assert "GET /v1/user/balance organization=*** status=403 credits=-\n" in log
        assert "GET /v1/*** organization=org-default status=404 credits=10\n" in log
        assert "POST /_simulator/fail " in log
        assert "THE-API-KEY" in running.banner
        assert KEY not in log


def test_program_takes_rate_limit_and_cost_per_image() -> None:
    arguments = (
        "--rate-limit",
        "2",
        "--rate-window",
        "500",
        "--rate-penalty",
        "1000",
        "--cost-per-image",
        "4",
    )
    with program(*arguments, "--api-key", KEY) as running:
        requests.post(
            f"{running.url}/v1/generation/stable-diffusion-v1-5/text-to-image",
            json={"text_prompts": [{"text": "A lighthouse"}]},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
        ).raise_for_status()
        assert running.get().json() == {"credits": 6.0}
        assert 900 < int(running.get().headers["Retry-After"]) <= 1000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "--port: port is 70000; it must be a whole number from 0 to 65535"),
        (["--port", "x"], "port is 'x'; .* from 0 to 65535"),
        (["--credits", "nan"], "--credits: credits is nan; it must be a finite number"),
        (["--credits", "ten"], "credits is 'ten'; it must be a finite number"),
        (["--organization", "org-b"], "organization is 'org-b'; it must be ID=CREDITS, such as org-b=25"),
        (["--organization", "org-b=x"], "balance of organization 'org-b' is 'x'; .*finite number"),
        (["--organization", "org-default=1"], "an id other than org-default"),
        (
            ["--organization", "org-b=1", "--organization", "org-b=2"],
            "'org-b' is given 2 times; it must be given once",
        ),
        (["--rate-limit", "0"], "--rate-limit: rate limit is 0; .*of 1 or more"),
        (["--rate-window", "0"], "--rate-window: rate window is 0.0; .*above 0"),
        (["--cost-per-image=-1"], "--cost-per-image: cost per image is -1.0; .*of 0 or more"),
        (["--api-key", "sk canary"], "--api-key: the API key must be printable ASCII"),
    ],
)
def test_error_for_invalid_argument_names_value_and_range(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr().err
    assert end.value.code == 2
    assert "canary" not in printed
    assert re.search(named, printed)


def test_error_for_port_in_use_names_the_port() -> None:
    with Simulator() as simulator:
        ended = subprocess.run(
            [sys.executable, "-m", MODULE, "--port", str(simulator.port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 2
    assert (
        f"--port: port is {simulator.port} (Address already in use); it must be a free port" in ended.stderr
    )
    assert "Traceback" not in ended.stderr


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, organizations={"org-b": 25.0}) as running:
        yield running


def control(simulator: Simulator, action: str, body: Any = None, method: str = "POST") -> requests.Response:
    return requests.request(method, f"{simulator.base_url}/_simulator/{action}", json=body, timeout=30)


def balance(simulator: Simulator) -> requests.Response:
    headers = {"Authorization": f"Bearer {KEY}"}
    return requests.get(simulator.base_url + BALANCE, headers=headers, timeout=30)


def test_credits_are_topped_up_over_http(simulator: Simulator) -> None:
    answer = control(simulator, "top-up", {"credits": 30, "organization": None})
    assert answer.json() == {"organization": "org-default", "credits": 40.0}
    assert control(simulator, "top-up", {"credits": 0.5, "organization": "org-b"}).status_code == 200
    assert (simulator.credits(), simulator.credits("org-b")) == (40.0, 25.5)


def test_faults_are_added_and_removed_over_http(simulator: Simulator) -> None:
    fault = {"status": 503, "retry_after": 2, "times": None, "path": BALANCE, "headers": {"X-Mine": "1"}}
    assert control(simulator, "fail", fault).status_code == 200
    hit = balance(simulator)
    assert (hit.status_code, hit.headers["Retry-After"], hit.headers["X-Mine"]) == (503, "2", "1")
    assert control(simulator, "heal").status_code == 200
    assert balance(simulator).status_code == 200


def test_state_has_credits_and_counts_but_no_key(simulator: Simulator) -> None:
    balance(simulator)
    balance(simulator)
    control(simulator, "fail", {"status": 500, "times": None})
    state = control(simulator, "state", method="GET")
    assert state.json() == {
        "credits": {"org-default": 10.0, "org-b": 25.0},
        "requests": {BALANCE: 2},
    }
    assert KEY not in state.text
    assert simulator.count() == 2


@pytest.mark.parametrize(
    ("action", "body", "named"),
    [
        ("top-up", {}, "credits is missing"),
        ("top-up", {"credits": "7"}, "credits is '7'; it must be a finite number above 0"),
        ("top-up", {"credits": -1}, "credits is -1; it must be a finite number above 0"),
        (
            "top-up",
            {"credits": 1, "organization": "org-z"},
            "organization is 'org-z'; it must be one of 'org-default'",
        ),
        ("top-up", {"credits": 1, "organization": 7}, "organization is 7; it must be an id"),
        ("top-up", {"credit": 1}, "field of the body is 'credit'; it must be one of credits, organization"),
        ("top-up", [], "the body is []; it must be a JSON object"),
        ("fail", {"status": 1}, "status is 1; it must be a whole number from 200 to 599"),
        ("fail", {"statuss": 500}, "field of the body is 'statuss'; it must be one of status, retry_after"),
        ("fail", {}, "it must be given at least one of status"),
        ("fail", {"status": 500, "organization": "org-z"}, "organization is 'org-z'; it must be one of"),
        (
            "fail",
            {"status": 500, "organization": ["org-b"]},
            "organization is ['org-b']; it must be printable text",
        ),
        ("fail", {"status": 500, "path": 7}, "path is 7; it must be printable text"),
    ],
)
def test_error_for_invalid_control_body_names_value_and_range(
    simulator: Simulator, action: str, body: Any, named: str
) -> None:
    answer = control(simulator, action, body)
    assert answer.status_code == 400
    assert named in answer.json()["message"]
    assert balance(simulator).json() == {"credits": 10.0}


def test_control_body_must_be_json(simulator: Simulator) -> None:
    for body in (b"", b"{", b'{"credits": NaN}', b'{"credits": 1e999}'):
        answer = requests.post(f"{simulator.base_url}/_simulator/top-up", data=body, timeout=30)
        assert answer.status_code == 400


def test_unknown_control_paths_and_methods_are_refused(simulator: Simulator) -> None:
    unknown = control(simulator, "nothing")
    assert (unknown.status_code, "/_simulator/heal, /_simulator/state" in unknown.json()["message"]) == (
        404,
        True,
    )
    wrong = control(simulator, "heal", method="GET")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")


def test_fixture_runs_the_simulator_and_sets_the_connection(stability_simulator: Simulator) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_STABILITY_DEFAULT"])
    assert connection["host"] == stability_simulator.base_url
    headers = {"Authorization": f"Bearer {connection['password']}"}
    answer = requests.get(f"{connection['host']}{BALANCE}", headers=headers, timeout=30)
    assert answer.json() == {"credits": stability_simulator.credits()}


def test_connection_of_the_fixture_is_removed_after_the_test() -> None:
    assert "AIRFLOW_CONN_STABILITY_DEFAULT" not in os.environ
