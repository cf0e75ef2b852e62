"""A time limit for a whole HTTP call, which neither ``requests`` nor ``urllib3`` has.

Their ``timeout`` limits each socket operation: a server that sends a byte a second keeps a caller waiting for
hours. Even ``urllib3.Timeout(total=...)`` only covers connecting and each read. Both projects have decided to
leave it so:

- https://github.com/psf/requests/issues/1928 (limit overall execution time)
- https://github.com/psf/requests/issues/3099 (overall timeout; why it takes changes down to ``http.client``)
- https://github.com/urllib3/urllib3/issues/1271 (the timeout is not a total one)

So the response's file object is replaced by one that sets the socket's timeout anew before each read. The
classes below are the way from ``requests`` to there: adapter, pool, connection, response, reader. Checked
with requests 2.32 to 2.34 and urllib3 2.2 to 2.8. A SOCKS proxy has connections of its own, without this
limit.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    import socket

    import requests
    from urllib3 import PoolManager

__all__ = ["DeadlineAdapter"]


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose ``timeout`` is for the whole call, from connecting to the last byte of the response.

    DNS look-ups come before that; the operating system limits them.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use the pools of this module."""
        super().init_poolmanager(*args, **kwargs)
        _set_pool_classes(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        """Use the pools of this module behind an HTTP proxy, too."""
        manager: ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        if type(manager) is ProxyManager:  # not a SOCKS proxy's
            _set_pool_classes(manager)
        return manager

    def send(  # type: ignore[override]  # requests passes all but the request by keyword
        self, request: requests.PreparedRequest, **kwargs: Any
    ) -> requests.Response:
        """Send a request; a ``timeout`` in seconds is the limit of the call."""
        if isinstance(kwargs.get("timeout"), int | float):
            kwargs["timeout"] = Timeout(total=kwargs["timeout"])
        return super().send(request, **kwargs)


def _set_pool_classes(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _DeadlineReader(io.RawIOBase):
    """Reads a response until a deadline, however many reads that takes."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, seconds: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(remaining)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has just set the socket's timeout to what remains of the total.
        remaining = sock.gettimeout()
        if remaining is not None:
            raw: Any = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, remaining))


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
