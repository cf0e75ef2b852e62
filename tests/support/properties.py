"""What the property tests have in common: how examples are made, and the same ones at every run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EVERY_RUN_THE_SAME", "JSON", "KEYS", "PRINTABLE", "attempt", "documents"]

_Result = TypeVar("_Result")
_Error = TypeVar("_Error", bound=Exception)

EVERY_RUN_THE_SAME: Final = settings(
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    max_examples=250,
    suppress_health_check=[HealthCheck.too_slow],
)
"""Examples are a function of the test: a change that breaks one does so at every run and on every machine."""

PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))

KEYS: Final = st.text(PRINTABLE, min_size=12, max_size=60).map(lambda text: f"sk-{text}")
"""Anything that can be a key; 16 of the characters would be a short one."""

_SCALARS: Final = st.none() | st.booleans() | st.integers() | st.floats() | st.text()

JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@st.composite
def documents(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]]) -> str:
    """Draw the text of a JSON object that has some of these fields, with anything in them, and others."""
    found: dict[str, Any] = draw(st.dictionaries(st.text(max_size=8), JSON, max_size=3))
    for name, right in fields.items():
        how = draw(st.sampled_from(("right", "right", "right", "right", "any", "absent")))
        if how != "absent":
            found[name] = draw(right if how == "right" else JSON)
    return json.dumps(found)


def attempt(action: Callable[[], _Result], allowed: type[_Error]) -> _Result | _Error:
    """Return what a function returns, or the one kind of error that it may raise instead."""
    try:
        return action()
    except allowed as error:
        return error
