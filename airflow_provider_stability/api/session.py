"""The ``requests`` session of a connection: its headers, and its key for one origin only.

Where plain ``requests`` differs:

- the environment's ``REQUESTS_CA_BUNDLE`` and proxies override a session's ``verify`` and ``proxies``
  (https://github.com/psf/requests/issues/3829, https://github.com/psf/requests/issues/2018). Here the
  connection's settings win.
- a session's headers are sent to every host. Here the key goes to the base URL's origin and nowhere else.
- a timeout limits each socket operation. Here it limits the whole call; see ``deadline``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_stability import __version__
from airflow_provider_stability.api.deadline import DeadlineAdapter
from airflow_provider_stability.connection.fields import EXTRA_FIELDS
from airflow_provider_stability.connection.urls import DEFAULT_PORTS

if TYPE_CHECKING:
    from airflow_provider_stability.connection.settings import Settings

__all__ = ["SCOPE_HEADERS", "StabilitySession", "scope_headers"]

_USER_AGENT: Final = f"airflow-provider-stability/{__version__}"
SCOPE_HEADERS: Final = tuple(field.header for field in EXTRA_FIELDS.values() if field.header is not None)
"""The headers that say whose credits count, and who asks."""

_BARE_KEY_VERSIONS: Final = frozenset({"v1alpha"})


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

    The key is sent to the base URL's scheme, host and port only, also when a redirect is followed.

    :param settings: the connection.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._timeout = settings.timeout
        self.headers.update({"User-Agent": _USER_AGENT, "Accept": "application/json"})
        self.headers.update(scope_headers(settings))
        # Not a session header, which would go to every host. An auth also keeps ~/.netrc from replacing it.
        self.auth = self._key = _KeyForOrigin(settings)
        self.verify = settings.verify
        # Without trust in the environment there is no proxy; its other settings do not matter to plain http.
        self.trust_env = not settings.is_direct
        if settings.proxy is not None:
            self.proxies.update({"http": settings.proxy, "https": settings.proxy})
        adapter = DeadlineAdapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Let the connection's ``verify`` and ``proxy`` override the environment's."""
        # A copy: requests writes the environment's proxies into the dict it is given.
        own = dict(proxies or {})
        merged: dict[str, Any] = dict(super().merge_environment_settings(url, own, stream, verify, cert))
        if verify is None and self.verify is not True:
            merged["verify"] = self.verify
        if self.proxies:
            merged["proxies"] = {**merged["proxies"], **self.proxies, **(proxies or {})}
        return merged

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Any:
        """Do not read the body of a redirect that is not followed, as requests would."""
        if not kwargs.get("yield_requests"):
            yield from super().resolve_redirects(*args, **kwargs)

    def rebuild_auth(
        self,
        prepared_request: requests.PreparedRequest,
        response: requests.Response,  # noqa: ARG002  # the signature of requests
    ) -> None:
        """Decide about the key at each redirect that is followed; requests would ask ~/.netrc."""
        headers = prepared_request.headers
        headers.pop("Authorization", None)
        self._key(prepared_request)
        if "Authorization" not in headers:
            for name in SCOPE_HEADERS:
                headers.pop(name, None)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send with the connection's timeout unless the caller gives one."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
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
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
