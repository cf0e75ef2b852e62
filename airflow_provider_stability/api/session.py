"""The ``requests`` session of a connection: the key bound to one host, and a limit on the whole call.

What plain ``requests`` leaves open and this closes (requests 2.32 to 2.34, urllib3 2.2 to 2.8):

- ``timeout`` there is per socket operation, so a server that sends a byte a second holds a caller for hours.
  Here it is the time for everything, from connecting to the last byte of the answer.
- a session's ``verify`` and ``proxies`` give way to the environment's. Here the connection's word is the
  last.
- a header on a session goes to every host that the session is used for. Here the key goes to one origin.
"""

from __future__ import annotations

import dataclasses
import http.client
import io
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_provider_stability import __version__
from airflow_provider_stability.connection.fields import EXTRA_FIELDS

if TYPE_CHECKING:
    import socket

    from urllib3 import PoolManager

    from airflow_provider_stability.connection.settings import Settings

__all__ = ["SCOPE_HEADERS", "StabilitySession", "scope_headers"]

_USER_AGENT = f"airflow-provider-stability/{__version__}"
SCOPE_HEADERS: Final = tuple(field.header for field in EXTRA_FIELDS.values() if field.header is not None)
"""The headers that say whose credits count, and who asks."""
_BARE_KEY_VERSIONS = frozenset({"v1alpha"})


def scope_headers(settings: Settings, organization: str | None = None) -> dict[str, str]:
    """Return the scope headers that the connection sets and its API version knows.

    :param organization: overrides the connection's.
    """
    if organization is not None:
        settings = dataclasses.replace(settings, organization=organization)
    return {
        field.header: getattr(settings, name)
        for name, field in EXTRA_FIELDS.items()
        if field.header is not None
        and settings.api_version in field.header_versions
        and getattr(settings, name) is not None
    }


class StabilitySession(requests.Session):
    """A pooled session with a connection's credentials, for one base URL.

    The key is sent to the base URL's scheme, host and port and nowhere else, also not over a redirect.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._limit = settings.timeout
        self.headers.update({"User-Agent": _USER_AGENT, "Accept": "application/json"})
        self.headers.update(scope_headers(settings))
        # Not a header of the session: it would go everywhere. An auth also keeps a ~/.netrc from replacing
        # the key.
        self.auth = self._key = _KeyForOrigin(settings)
        self.verify = settings.verify
        # Without trust in the environment there is no proxy of its own, and no other setting matters to plain
        # http.
        self.trust_env = not settings.is_direct
        if settings.proxy is not None:
            self.proxies.update({"http": settings.proxy, "https": settings.proxy})
        adapter = _LimitedAdapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def merge_environment_settings(
        self,
        url: Any,
        proxies: Any,
        stream: Any,
        verify: Any,
        cert: Any,
    ) -> Any:
        """Let the connection's ``verify`` and ``proxy`` win over the environment's, where it has some."""
        merged: dict[str, Any] = dict(
            super().merge_environment_settings(
                # A copy: requests writes the environment's proxies into what it is given.
                url,
                dict(proxies or {}),
                stream,
                verify,
                cert,
            )
        )
        if verify is None and self.verify is not True:
            merged["verify"] = self.verify
        if self.proxies:
            merged["proxies"] = {**merged["proxies"], **self.proxies, **(proxies or {})}
        return merged

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Any:
        """Leave a redirect that is not followed unread, where requests would read its whole body."""
        if not kwargs.get("yield_requests"):
            yield from super().resolve_redirects(*args, **kwargs)

    def rebuild_auth(
        self,
        prepared_request: requests.PreparedRequest,
        response: requests.Response,  # noqa: ARG002  # the signature of requests
    ) -> None:
        """Decide anew at each redirect that a caller wants followed; requests would ask ~/.netrc."""
        headers = prepared_request.headers
        headers.pop("Authorization", None)
        self._key(prepared_request)
        if "Authorization" not in headers:
            for name in SCOPE_HEADERS:
                headers.pop(name, None)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send with the connection's time limit where the caller names none."""
        limit = kwargs.get("timeout")
        if limit is None:
            limit = self._limit
        # urllib3's total covers connecting and reading; _LimitedResponse makes it hold for each byte.
        kwargs["timeout"] = Timeout(total=limit) if isinstance(limit, int | float) else limit
        return super().send(request, **kwargs)


class _KeyForOrigin(AuthBase):
    """Adds the key to requests for the base URL's origin only."""

    def __init__(self, settings: Settings) -> None:
        prefix = "" if settings.api_version in _BARE_KEY_VERSIONS else "Bearer "
        self._origin = _origin(settings.base_url)
        self._value = prefix + settings.api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.url is not None and _origin(request.url) == self._origin:
            request.headers["Authorization"] = self._value
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


class _LimitedAdapter(HTTPAdapter):
    """An adapter whose connections read with one time limit for the whole answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _limit_reads(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        if type(manager) is ProxyManager:  # a SOCKS proxy's has connections of its own
            _limit_reads(manager)
        return manager


def _limit_reads(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _LimitedHTTPPool, "https": _LimitedHTTPSPool}


class _LimitedReader(io.RawIOBase):
    """The bytes of one answer, read until a point in time instead of for so long per read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limit: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._end = time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # urllib3 has just set the socket's timeout to what is left of the total.
        limit = sock.gettimeout()
        if limit is not None:
            raw: Any = self.fp.detach()
            self.fp = io.BufferedReader(_LimitedReader(raw, sock, limit))


class _LimitedHTTPConnection(HTTPConnection):
    response_class = _LimitedResponse


class _LimitedHTTPSConnection(HTTPSConnection):
    response_class = _LimitedResponse


class _LimitedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _LimitedHTTPConnection


class _LimitedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _LimitedHTTPSConnection
