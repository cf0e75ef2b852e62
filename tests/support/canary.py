"""A key to be searched for in whatever a run leaves behind, whole, in part and encoded."""

from __future__ import annotations

import base64
import re
import secrets
import urllib.parse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Canary"]

_FRAGMENT: Final = 8  # characters: too many for chance, few enough that half a key is found too


class Canary:
    """A key made up for one run, and what shows it.

    Searched for are the key, each run of 8 of its characters, its base64 (also in the middle of a longer
    text, and in the alphabet for URLs), its hexadecimal digits, and it as a part of a URL.
    """

    def __init__(self) -> None:
        # The last characters are changed by URL-encoding and by one of base64's alphabets.
        self.key: Final = f"sk-{secrets.token_hex(8)}{secrets.token_urlsafe(12)}+/{secrets.token_hex(4)}~?>"
        traces = sorted({re.escape(each) for each in self._traces()})
        self._pattern = re.compile(b"|".join(traces), re.IGNORECASE)

    def __repr__(self) -> str:
        # pytest prints the objects of an assertion that fails: there it would be taken for a leak.
        return "Canary()"

    def found_in(self, text: str | bytes) -> bool:
        """Return whether any trace of the key is in a text."""
        return self._pattern.search(text.encode() if isinstance(text, str) else text) is not None

    def files(self, paths: Iterable[Path]) -> list[Path]:
        """Return those of these files in which there is a trace; of a folder, the files below it."""
        return [each for each in _files(paths) if self.found_in(each.read_bytes())]

    def _traces(self) -> Iterator[bytes]:
        for text in (self.key, urllib.parse.quote(self.key, safe="")):
            yield from (text[at : at + _FRAGMENT].encode() for at in range(len(text) - _FRAGMENT + 1))
        key = self.key.encode()
        yield key.hex().encode()
        for before in range(3):
            # Of three bytes become four characters: what the neighbours have a part in is left out.
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                inner = key[-before % 3 :]
                yield encode(inner[: len(inner) // 3 * 3])


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (each for each in path.rglob("*") if each.is_file())
        elif path.is_file():
            yield path
