"""The sockets: connections and their threads, reading requests, sending answers and faults."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator import api, control
from airflow_provider_stability.simulator.answers import Answer, error
from airflow_provider_stability.simulator.recorded import Headers, RecordedRequest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from airflow_provider_stability.simulator.fault import Fault
    from airflow_provider_stability.simulator.state import State

MAX_BODY = 1 << 24
"""The longest request body that is read, in bytes; far longer than any request of this API."""

_NO_BODY = (204, 304)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_POLL_INTERVAL = 0.02  # seconds between two checks of the accept loop for a stop
_JOIN_TIMEOUT = 10.0  # seconds to wait for a stopped thread; reached only if one is stuck


class Server(ThreadingHTTPServer):
    """Serves a ``State`` in a background thread, until ``stop()``.

    :param address: IP address to bind to, loopback.
    :param port: 0 for any free one.
    :param ssl_context: server-side context; None for plain HTTP.
    :param on_answer: called with each request in the thread of its connection, before its answer is sent.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        state: State,
        address: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
        on_answer: Callable[[RecordedRequest], None] | None,
    ) -> None:
        self.state = state
        self.on_answer = on_answer
        self.stopping = threading.Event()
        self._ssl_context = ssl_context
        self._lock = threading.Lock()
        # Used by the accepting thread only, and by stop() once that thread has ended.
        self._open: dict[threading.Thread, socket.socket] = {}
        self._to_reset: set[socket.socket] = set()
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="stability-simulator", daemon=True
        )

    def start(self) -> None:
        """Start accepting connections; they have been queued since the constructor."""
        self._accepting.start()

    def stop(self) -> None:
        """Close the listening socket and all connections, and wait for their threads to end."""
        self.stopping.set()
        self.shutdown()
        self._accepting.join(_JOIN_TIMEOUT)
        self.server_close()
        for connection in self._open.values():
            # The method of the plain socket: that of a TLS socket drops the TLS state, which the thread that
            # reads from it still uses.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._open:
            thread.join(_JOIN_TIMEOUT)

    def reset_on_close(self, connection: socket.socket) -> None:
        """Reset a connection, rather than close it, when its handler returns."""
        with self._lock:
            self._to_reset.add(connection)

    def server_bind(self) -> None:
        """Bind without HTTPServer's lookup of the host name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its thread does the TLS handshake, so that no client blocks the others."""
        connection, client = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ssl_context is not None:
            connection = self._ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread that ``stop()`` can join; the base class tracks no daemon threads.

        Threads are removed here, not when they finish: ``stop()`` must also wait for one that is finishing.
        """
        self._open = {thread: each for thread, each in self._open.items() if thread.is_alive()}
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        thread.start()
        self._open[thread] = request

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, or reset it if that was requested."""
        with self._lock:
            reset = request in self._to_reset
            self._to_reset.discard(request)
        if reset:
            # With a linger time of zero, closing sends a reset; the base class would send a FIN before it.
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of an error, except when the client has disconnected."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection in turn."""

    protocol_version = "HTTP/1.1"
    server: Server

    def handle(self) -> None:
        if self.server._ssl_context is not None:  # noqa: SLF001 - the two classes are one unit
            self.connection.do_handshake()
        super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Print nothing: ``on_answer`` reports requests."""

    def _serve(self) -> None:
        body = self._body()
        if body is None:
            return
        server, state, clock = self.server, self.server.state, self.server.state.clock
        headers = Headers(self.headers.items())
        request = RecordedRequest(
            method=self.command,
            path=self.path.partition("?")[0],
            headers=headers,
            organization=headers.get("Organization") or None,
            at=clock.time(),
            body=body,
        )
        if request.path.startswith(control.PREFIX):
            answer = control.answer(state, request)
            self._send(replace(request, status=answer.status), answer, None)
            return
        arrival = state.record_arrival(request, api.presented_key(request))
        fault = arrival.fault
        request = replace(request, fault=fault)
        if fault is not None and fault.delay and server.stopping.wait(fault.delay):
            self.close_connection = True
        elif fault is not None and fault.reset:
            self.close_connection = True
            server.reset_on_close(self.connection)
            self._report(request)
        else:
            answer = api.answer(state, request, arrival)
            request = replace(request, status=answer.status, answered_at=clock.time(), credits=answer.credits)
            state.record_answer(arrival.ticket, request)
            self._send(request, answer, fault)

    # All methods reach the API, which refuses the wrong ones with an error in its own format.
    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815 - http.server's

    def _body(self) -> bytes | None:
        """Return the body; None if it could not be read, and the request was refused."""
        if "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
            return None
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.BAD_REQUEST, "Content-Length must be a whole number")
            return None
        if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes")
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the client has disconnected
            self.close_connection = True
            return None
        return body

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # the start of the next request cannot be found
        self.wfile.write(self._bytes(error(api.version_of(self.path), status, message), None))

    def _send(self, request: RecordedRequest, answer: Answer, fault: Fault | None) -> None:
        data = self._bytes(answer, fault)
        self._report(request)
        if fault is None or not fault.drip:
            self.wfile.write(data)
            return
        for index in range(len(data)):
            self.wfile.write(data[index : index + 1])
            if self.server.stopping.wait(fault.drip):
                self.close_connection = True
                return

    def _report(self, request: RecordedRequest) -> None:
        if self.server.on_answer is not None:
            self.server.on_answer(request)

    def _bytes(self, answer: Answer, fault: Fault | None) -> bytes:
        """Return head and body together: two writes would take two packets and slow the client down."""
        body = b"" if answer.status in _NO_BODY else answer.body
        framing = {"Content-Length": str(len(body)), "Date": self.date_time_string()}
        headers = framing | {"Content-Type": answer.content_type}
        names = {name.lower(): name for name in headers}
        for name, value in answer.headers.items():
            headers[names.setdefault(name.lower(), name)] = value
            # These make the answer malformed or the last one: no other can follow it.
            if name.lower() in ("content-length", "transfer-encoding", "connection"):
                self.close_connection = True
        if fault is not None and fault.cut_body:
            self.close_connection = True
            body = body[: len(body) // 2]
        if self.close_connection:
            headers.setdefault(names.get("connection", "Connection"), "close")
        if self.command == "HEAD":
            body = b""
        lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
