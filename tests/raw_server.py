"""A server that sends bytes as they are, for what no HTTP server would send; it ends with its block."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["always", "http", "raw_server"]


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection after the other with a function, until the end of the block cuts it."""
    open_: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # it ends with one once the listening socket is shut down
            while True:
                open_.append(listening.accept()[0])
                with open_[-1] as connection, contextlib.suppress(OSError):
                    serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            for each in (listening, *open_):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def always(answer: bytes) -> Callable[[socket.socket], None]:
    """Return what gives each connection the same bytes, whatever it asks."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(30)
        connection.recv(65536)
        connection.sendall(answer)

    return serve


def http(head: str, body: str = "") -> bytes:
    """Return an answer: what follows the version in its head, and its body."""
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("latin-1")
