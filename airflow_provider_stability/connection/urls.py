"""URLs in a connection: splitting, checking, and whether they lead to this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["DEFAULT_PORTS", "is_host", "is_loopback", "is_url_path", "split_url"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if it is invalid or its port is."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it checks that it is a number up to 65535
    except ValueError:
        return None
    return parts


def is_host(name: str) -> bool:
    """Tell whether a text is a host name or an IP address."""
    return bool(_HOST_NAME.fullmatch(name)) or _address(name) is not None


def is_url_path(path: str) -> bool:
    """Tell whether a text can be the path of a base URL."""
    return bool(_PATH.fullmatch(path))


def is_loopback(name: str) -> bool:
    """Tell whether a host is this machine, without a DNS look-up."""
    address = _address(name)
    return name.lower() == "localhost" if address is None else address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
