"""A server that sends bytes as they are, for what no HTTP server would send; it ends with its block."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["always", "http", "raw_server"]

_PATIENCE: Final = 30.0


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve each connection in a thread with a function, until the end of the block cuts all."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def work(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):  # it ends with one once the listening socket is shut down
            while True:
                connection, _ = listening.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=work, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            for each in (listening, *connections):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(_PATIENCE)


def always(answer: bytes) -> Callable[[socket.socket], None]:
    """Return what gives each connection the same bytes, whatever it asks."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        connection.recv(65536)
        connection.sendall(answer)

    return serve


def http(head: str, body: str = "") -> bytes:
    """Return an answer: what follows the version in its head, and its body."""
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("latin-1")
