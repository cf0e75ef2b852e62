"""A search that finds nothing proves something only where it would have found it."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from support.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    "shown",
    [
        lambda key: key,
        lambda key: f"Authorization: Bearer {key}",
        lambda key: json.dumps({"password": key}),
        lambda key: key[:10] + "...",
        lambda key: "..." + key[-8:],
        lambda key: key.upper(),
        lambda key: urllib.parse.quote(key, safe=""),
        lambda key: urllib.parse.quote_plus(f"a b={key}"),
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
        lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
        lambda key: base64.b64encode(f" {key}".encode()).decode(),
        lambda key: base64.urlsafe_b64encode(f"xy{key}z".encode()).decode(),
        lambda key: key.encode().hex(),
    ],
)
def test_trace_of_the_key_is_found(shown: Callable[[str], str], tmp_path: Path) -> None:
    canary = Canary()
    text = f"before {shown(canary.key)} after"
    assert canary.found_in(text)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.log").write_text(text)
    (tmp_path / "b.log").write_text("nothing")
    assert canary.files([tmp_path]) == [tmp_path / "below" / "a.log"]


def test_text_without_a_trace_is_not_found() -> None:
    assert not Canary().found_in(f"{Canary().key} sk-1234 Bearer *** {Canary().key.encode().hex()}")
    assert "sk-" not in repr(Canary())
