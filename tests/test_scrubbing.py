"""No form of a secret that a service may echo gets through, and nothing else is lost."""

from __future__ import annotations

import base64
import re
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from airflow_provider_stability.scrubbing import Scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-canary/7Hq+Zw9=PLkm&Xt4~Rv"
PLAIN_KEY = "sk-canary7HqZw9PLkmXt4Rv"
_STANDARD = bytes.maketrans(b"-_", b"+/")


def leaks(text: str, secret: str) -> list[str]:
    """Return the pieces of 8 characters that ``text`` and ``secret`` share."""
    pieces = {secret[start : start + 8] for start in range(len(secret) - 7)}
    return sorted(piece for piece in pieces if piece in text)


def decoded(text: str) -> Iterator[str]:
    """Yield what base64 between masks stands for, wherever in its groups of four each piece begins."""
    for piece, shift in product(re.split(r"\*\*\*|=+", text), range(4)):
        group = ("A" * shift + piece).encode()
        yield base64.b64decode(group[: len(group) // 4 * 4].translate(_STANDARD)).decode("latin-1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (KEY, "***"),
        (f"key {KEY} is bad", "key *** is bad"),
        (f"Bearer {KEY}", "Bearer ***"),
        (f"{KEY}{KEY}", "******"),
        (f"?key={quote(KEY, safe='')}&x=1", "?key=***&x=1"),
        (f"?key={quote_plus(KEY)}", "?key=***"),
        (f"sk-...{KEY[-9:]}", "sk-...***"),
        (f"{KEY[:12]}...", "***..."),
        (f"{KEY[3:14]} and {KEY[-10:]}", "*** and ***"),
        (f"{KEY[:10]}\n{KEY[10:]}", "***\n***"),
        (repr({"Authorization": f"Bearer {KEY}"}), "{'Authorization': 'Bearer ***'}"),
    ],
)
def test_the_key_is_masked_whole_encoded_or_in_part(text: str, shown: str) -> None:
    assert Scrubber([KEY])(text) == shown


@pytest.mark.parametrize("text", ["", "nothing to hide", "sk-cana", KEY[:7], "***", "\0\n\u20ac"])
def test_text_without_the_key_stays_as_it_is(text: str) -> None:
    assert Scrubber([KEY])(text) == text


@pytest.mark.parametrize("length", range(8, len(KEY) + 1))
def test_a_fragment_of_any_length_from_8_on_is_masked_wherever_it_begins(length: int) -> None:
    scrub = Scrubber([KEY])
    for start in range(len(KEY) - length + 1):
        assert scrub(f"<{KEY[start : start + length]}>") == "<***>"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("key", [PLAIN_KEY[:length] for length in (8, 9, 10, 11, 23, 24)] + [KEY], ids=len)
def test_the_key_does_not_show_in_base64_of_a_text_around_it(
    key: str, encode: Callable[[bytes], bytes]
) -> None:
    for before, after in product(["", "u", "u:", "u:p", "Bearer "], ["", "x", "\r\n", "&c="]):
        encoded = encode(f"{before}{key}{after}".encode()).decode()
        shown = Scrubber([key])(encoded)
        assert "***" in shown
        assert not [text for text in decoded(shown) if leaks(text, key)]


def test_of_two_secrets_the_one_that_holds_the_other_is_masked_whole() -> None:
    scrub = Scrubber(["hunter2-pass", "http://ada:hunter2-pass@proxy:3128"])
    assert scrub("by http://ada:hunter2-pass@proxy:3128, hunter2-pass") == "by ***, ***"


def test_secrets_side_by_side_are_both_masked() -> None:
    assert Scrubber(["first-secret", "second-secret"])("first-secretsecond-secret") == "******"


def test_a_short_secret_is_masked_whole_only() -> None:
    scrub = Scrubber(["pw1"])
    assert scrub("user:pw1@proxy") == "user:***@proxy"
    assert scrub("pw is short") == "pw is short"


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_an_empty_secret_masks_nothing(secrets: list[str]) -> None:
    assert Scrubber(secrets)("all of it") == "all of it"


def test_a_secret_beyond_ascii_is_masked_too() -> None:
    secret = "pa\u00dfwort-\u20ac-1234"
    scrub = Scrubber([secret])
    assert scrub(f"a {secret} b {quote(secret, safe='')} c") == "a *** b *** c"


def test_many_fragments_in_a_long_text_are_all_masked() -> None:
    text = f"{KEY[:9]}, {KEY[5:20]}; " * 500
    assert leaks(Scrubber([KEY])(text), KEY) == []


def test_the_scrubber_does_not_show_what_it_hides() -> None:
    assert leaks(repr(Scrubber([KEY])), KEY) == []
