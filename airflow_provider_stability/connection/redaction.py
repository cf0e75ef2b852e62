"""Masks secrets in text from outside: error bodies, exceptions of lower layers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redactor", "proxy_secrets"]

_MASK: Final = "***"
_FRAGMENT: Final = 8
"""Consecutive characters of a key that count as a leak: services echo parts of a key they refuse."""


def proxy_secrets(url: str) -> list[str]:
    """Return the secrets in a proxy's URL: its password, as written and as sent, and its Basic token."""
    userinfo = url.split("://", 1)[-1].rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    if not password:
        return []
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return [password, unquote(password), basic]


class Redactor:
    """Masks secrets, their usual encodings and their longer fragments in text.

    :param secrets: the values to mask; empty ones are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain = {form for each in secrets if each for form in _quoted_forms(each)}
        encoded = {form for each in plain for form in _encodings(each)}
        # Longest first, so that a value that contains another is masked as a whole.
        self._whole = tuple(sorted(plain | encoded, key=len, reverse=True))
        self._plain = tuple(plain)

    def __call__(self, text: str) -> str:
        """Return ``text`` without any of the secrets."""
        for value in self._whole:
            text = text.replace(value, _MASK)
        for value in self._plain:
            text = _without_fragments(text, value)
        return text


def _quoted_forms(value: str) -> Iterable[str]:
    """Yield a secret as it is, and as it appears inside a Python or JSON string literal."""
    escaped = value.replace("\\", "\\\\")
    yield from (value, escaped, escaped.replace("'", "\\'"), escaped.replace('"', '\\"'))


def _encodings(value: str) -> Iterable[str]:
    yield quote(value, safe="")
    yield quote_plus(value)
    raw = value.encode()
    # In base64 of a longer text, the value is at one of three offsets. Drop what depends on the neighbours.
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        inner = text[(0, 2, 3)[offset] : len(text) - (1 if (offset + len(raw)) % 3 else 0)]
        if len(inner) >= _FRAGMENT:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")


def _without_fragments(text: str, secret: str) -> str:
    """Mask every run of at least ``_FRAGMENT`` characters of ``text`` that occurs in ``secret``."""
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = start + _FRAGMENT
        if end <= len(text) and text[start:end] in secret:
            while end < len(text) and text[start : end + 1] in secret:
                end += 1
            pieces.append(_MASK)
            start = end
        else:
            pieces.append(text[start])
            start += 1
    return "".join(pieces)
