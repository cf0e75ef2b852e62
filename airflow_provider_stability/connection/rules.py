"""Rules for the values of connection fields: how each is read, and how an error message states it.

Numbers and booleans are also read from strings, as forms and connection URIs send them.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from airflow_provider_stability.connection.urls import split_url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BOOLEAN",
    "CERTIFICATES",
    "PROXY_URL",
    "TEXT",
    "TOKEN",
    "TOKEN_PATTERN",
    "Rule",
    "choice",
    "integer",
    "number",
]

TOKEN_PATTERN: Final = re.compile(r"[\x21-\x7e]+")
"""One word that is safe in a header."""

# A header value with spaces: no control characters, hence no line breaks.
_TEXT_PATTERN: Final = re.compile(r"[\x20-\x7e]+")
_MAX_CHARACTERS: Final = 256
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


class Rule(NamedTuple):
    """What a field may contain.

    :param kind: its JSON type in the connection form.
    :param allowed: completes the sentence "it must be ..." in error messages.
    :param parse: returns the typed value; raises ValueError for a value that is not allowed.
    """

    kind: Literal["string", "number", "integer", "boolean"]
    allowed: str
    parse: Callable[[Any], Any]


def choice(*values: str) -> Rule:
    """Allow these strings only."""

    def parse(value: object) -> str:
        if value not in values:
            raise ValueError
        return str(value)

    return Rule("string", " or ".join(values), parse)


def number(*, above: float, maximum: float) -> Rule:
    """Allow a number above one limit and up to another."""

    def parse(value: object) -> float:
        found = _finite(value)
        if not above < found <= maximum:
            raise ValueError
        return found

    return Rule("number", f"a number above {above:g}, at most {maximum:g}", parse)


def integer(*, minimum: int, maximum: int) -> Rule:
    """Allow a whole number between two limits, both included."""

    def parse(value: object) -> int:
        found = _finite(value)
        if found != int(found) or not minimum <= found <= maximum:
            raise ValueError
        return int(found)

    return Rule("integer", f"a whole number from {minimum} to {maximum}", parse)


def _text(pattern: re.Pattern[str], addition: str = "") -> Rule:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value) or len(value) > _MAX_CHARACTERS:
            raise ValueError
        return value

    allowed = f"printable ASCII without line breaks, at most {_MAX_CHARACTERS} characters{addition}"
    return Rule("string", allowed, parse)


def _finite(value: Any) -> float:
    try:
        # bool is an int to Python; float() also reads "1_000".
        found = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError
    return found


def _parse_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _parse_certificates(value: object) -> bool | str:
    try:
        return _parse_boolean(value)
    except ValueError:
        if isinstance(value, str) and os.path.exists(value):  # noqa: PTH110  # Path.exists raises on odd names
            return value
        raise


def _parse_proxy_url(value: object) -> str:
    parts = split_url(value) if isinstance(value, str) and TOKEN_PATTERN.fullmatch(value) else None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    return str(value)


TEXT: Final = _text(_TEXT_PATTERN)
TOKEN: Final = _text(TOKEN_PATTERN, ", no spaces")
BOOLEAN: Final = Rule("boolean", "true or false", _parse_boolean)
CERTIFICATES: Final = Rule("string", "true, false, or an existing path", _parse_certificates)
PROXY_URL: Final = Rule("string", "an http:// or https:// URL", _parse_proxy_url)
