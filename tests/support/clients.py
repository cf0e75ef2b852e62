"""Clients for tests, and servers that send what no simulator does."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.settings import Settings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

__all__ = ["KEY", "MEBIBYTE", "Sender", "client"]

KEY: Final = "sk-canary-7HqZw9PLkmXt"
MEBIBYTE: Final = 1 << 20


class Sender:
    """Serves a head and then pieces of a body, and counts the bytes it got rid of."""

    def __init__(self, head: bytes, piece: bytes, times: int, *, every: float = 0) -> None:
        self.head, self.piece, self.times, self.every = head, piece, times, every
        self.sent = 0

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self.head)
        pause = threading.Event()
        for _ in range(self.times):
            connection.sendall(self.piece)
            self.sent += len(self.piece)
            pause.wait(self.every)


def no_sleep(seconds: float) -> None:
    """Let no time pass between two tries."""


@contextlib.contextmanager
def client(
    url: str, retries: int | None = 0, *, sleep: Callable[[float], None] = no_sleep, **fields: Any
) -> Iterator[StabilityClient]:
    settings = Settings(KEY, base_url=url, **{"timeout": 20.0, **fields})
    with contextlib.closing(StabilityClient(settings, max_retries=retries, sleep=sleep)) as made:
        yield made
