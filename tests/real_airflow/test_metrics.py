"""What arrives of the metrics at the other end of the wire, by Airflow's own StatsD and OpenTelemetry."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from airflow_provider_stability.simulator import RecordedRequest, Simulator
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.programs import python_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER: Final = "org-worker"
TRIGGERER: Final = ("org-b", "org-c")
ALL: Final = (WORKER, *TRIGGERER)
POLLS: Final = 4

# A poll of each kind, in turn: it fails, 12.5 credits, 30, and 60, which are enough.
SOLD: Final = (12.5, 12.5, 30.0, 60.0)
METRICS: Final = "AIRFLOW__METRICS__"

# The name of a metric, and its tags in order.
Series = tuple[str, tuple[tuple[str, str], ...]]


class Account:
    """A service whose every organization fails once, and is topped up twice."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.simulator = Simulator(organizations=dict.fromkeys(ALL, SOLD[0]), on_answer=self._next)
        for each in ALL:
            self.simulator.fail(status=503, organization=each)

    def _next(self, request: RecordedRequest) -> None:
        assert request.organization is not None
        with self._lock:
            self._asked[request.organization] += 1
            asked = self._asked[request.organization]
        self.simulator.set_credits(SOLD[min(asked, len(SOLD) - 1)], request.organization)


@contextmanager
def gates_that_send(
    settings: dict[str, str], is_complete: Callable[[], bool] = lambda: True
) -> Iterator[Callable[[], None]]:
    """Start gates, each of which needs four polls; the function that is given waits for their end.

    :param is_complete: whether all has arrived, so that their process may end.
    """
    account = Account()
    with account.simulator as simulator:
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(),
            "AIRFLOW_CONN_STABILITY_DEFAULT": simulator.connection(),
            **{f"{METRICS}{name}": value for name, value in settings.items()},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "support.metrics_run", *ALL],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def finish() -> None:
            deadline = time.monotonic() + 120
            while not is_complete() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            opened = {"status": "success", "credits": 60.0}
            credits_of_one, of_many = json.loads(output.splitlines()[-1])
            assert credits_of_one == 60.0
            assert of_many == [[opened]] * len(of_many)
            assert [simulator.count(organization=each) for each in ALL] == [POLLS] * len(ALL)

        try:
            yield finish
        finally:
            process.kill()
            process.communicate()


@contextmanager
def statsd_server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)  # noqa: FBT003  # it has no keyword
        yield server


def received(server: socket.socket) -> list[str]:
    """Return what has arrived at a socket; all senders have ended."""
    found: list[str] = []
    while True:
        try:
            packet = server.recv(65536).decode()
        except BlockingIOError:
            return found
        found += [line for line in packet.splitlines() if "stability" in line]


class Collector:
    """An OpenTelemetry collector: keeps the metrics that are posted to it."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/metrics", self.path
                requests.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def last(self) -> dict[Series, float]:
        """Return the last value of each series of ours, by name and tags."""
        found: dict[Series, float] = {}
        for metric in (
            metric
            for request in list(self.requests)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if "stability" in metric.name
        ):
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                tags = tuple(sorted((each.key, each.value.string_value) for each in point.attributes))
                value = point.as_double if point.HasField("as_double") else point.as_int
                found[metric.name, tags] = value
        return found


def expected_series() -> dict[Series, float]:
    found: dict[Series, float] = {}
    for organization in ALL:
        tags = (("connection", "stability_default"), ("organization", organization))
        found["airflow.stability.polls", tags] = POLLS
        found["airflow.stability.errors", (tags[0], ("error", "ServerError"), tags[1])] = 1
        # Airflow 2.11 makes an observable gauge for each set of tags, all with the same name, of which
        # OpenTelemetry takes the first. Its own gauges fare no better.
        if AIRFLOW_V_3_0_PLUS or organization == WORKER:
            found["airflow.stability.credits", tags] = 60.0
    return found


@pytest.fixture(scope="module")
def sent() -> Iterator[dict[str, Any]]:
    """Return what arrived, by the kind of server; the sending processes run in parallel."""
    with ExitStack() as stack:
        plain, tagged = (stack.enter_context(statsd_server()) for _ in range(2))
        collector = stack.enter_context(Collector())
        finishes = []
        for server, tags in ((plain, "False"), (tagged, "True")):
            settings = {
                "STATSD_ON": "True",
                "STATSD_HOST": "127.0.0.1",
                "STATSD_PORT": str(server.getsockname()[1]),
                "STATSD_INFLUXDB_ENABLED": tags,
            }
            finishes.append(stack.enter_context(gates_that_send(settings)))
        settings = {
            "OTEL_ON": "True",
            "OTEL_HOST": "127.0.0.1",
            "OTEL_PORT": str(collector.port),
            "OTEL_INTERVAL_MILLISECONDS": "200",
        }
        sending = gates_that_send(settings, lambda: collector.last() == expected_series())
        finishes.append(stack.enter_context(sending))
        for finish in finishes:
            finish()
        yield {"plain": received(plain), "tagged": received(tagged), "collector": collector.last()}


def test_statsd_receives_one_sample_per_poll_for_any_number_of_gates(sent: dict[str, Any]) -> None:
    polls = POLLS * len(ALL)
    assert Counter(sent["plain"]) == {
        "airflow.stability.polls:1|c": polls,
        "airflow.stability.errors:1|c": len(ALL),
        "airflow.stability.credits:12.5|g": len(ALL),
        "airflow.stability.credits:30.0|g": len(ALL),
        "airflow.stability.credits:60.0|g": len(ALL),
    }
    # Those of the gate in poke mode are sent first, each at its poll.
    assert sent["plain"][: 2 * POLLS] == [
        "airflow.stability.polls:1|c",
        "airflow.stability.errors:1|c",
        "airflow.stability.polls:1|c",
        "airflow.stability.credits:12.5|g",
        "airflow.stability.polls:1|c",
        "airflow.stability.credits:30.0|g",
        "airflow.stability.polls:1|c",
        "airflow.stability.credits:60.0|g",
    ]


@pytest.mark.parametrize("organization", ALL)
def test_statsd_receives_tags_if_they_are_enabled(sent: dict[str, Any], organization: str) -> None:
    tags = f"connection=stability_default,organization={organization}"
    of_one = [line for line in sent["tagged"] if f"organization={organization}" in line]
    assert of_one == [
        f"airflow.stability.polls,{tags}:1|c",
        f"airflow.stability.errors,{tags},error=ServerError:1|c",
        f"airflow.stability.polls,{tags}:1|c",
        f"airflow.stability.credits,{tags}:12.5|g",
        f"airflow.stability.polls,{tags}:1|c",
        f"airflow.stability.credits,{tags}:30.0|g",
        f"airflow.stability.polls,{tags}:1|c",
        f"airflow.stability.credits,{tags}:60.0|g",
    ]


def test_opentelemetry_receives_a_series_per_organization(sent: dict[str, Any]) -> None:
    assert sent["collector"] == expected_series()
