"""The key is not shown, whatever text it is in and however it is encoded."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_stability.connection.redaction import Redactor, proxy_secrets
from support.properties import EVERY_RUN_THE_SAME, KEYS, PRINTABLE

FRAGMENT = 8
WORDS = st.text(PRINTABLE + " \n\u20ac", max_size=30)


def pieces(secret: str) -> set[str]:
    return {secret[start : start + FRAGMENT] for start in range(len(secret) - FRAGMENT + 1)}


def shows(text: str, secret: str) -> list[str]:
    return [each for each in pieces(secret) if each in text]


@EVERY_RUN_THE_SAME
@given(KEYS, st.lists(WORDS | st.none(), max_size=6))
@example("sk-aaaaaaaaaaaaaaaa", ["aaaaaaa", None, "aaaaaaa"])
@example("sk-abcd***efghijkl", ["sk-abcd", None, "efghijkl"])
def test_no_fragment_of_a_key_remains_in_any_text(key: str, parts: list[str | None]) -> None:
    text = "".join(key if each is None else each for each in parts)
    shown = Redactor([key])(text)
    assert key not in shown
    assert not shows(shown, key)


@EVERY_RUN_THE_SAME
@given(KEYS, st.data())
def test_no_fragment_remains_of_any_pieces_of_a_key(key: str, data: st.DataObject) -> None:
    cuts = st.tuples(st.integers(0, len(key)), st.integers(0, len(key))).map(sorted)
    parts = data.draw(st.lists(cuts.map(lambda cut: key[cut[0] : cut[1]]) | WORDS, max_size=6))
    assert not shows(Redactor([key])("".join(parts)), key)


@EVERY_RUN_THE_SAME
@given(KEYS, WORDS)
def test_text_without_the_key_is_unchanged(key: str, text: str) -> None:
    forms = (key, quote(key, safe=""), quote_plus(key), repr(key)[1:-1], json.dumps(key)[1:-1])
    assume(not any(shows(text, each) for each in forms))
    assume(not any(each in text for each in (key, base64.b64encode(key.encode()).decode())))
    assert Redactor([key])(text) == text


@EVERY_RUN_THE_SAME
@given(KEYS, WORDS, WORDS)
@example('sk-\\"\\"\\"\\"\\"\\"\\"', "", "")
def test_key_does_not_remain_in_any_quoting(key: str, before: str, after: str) -> None:
    scrub = Redactor([key])
    text = f"{before}{key}{after}"
    assert key not in json.loads(f'"{quoted(scrub(json.dumps(text)[1:-1]))}"')
    assert repr(key)[1:-1] not in scrub(repr(text))
    assert quote(key, safe="") not in scrub(quote(text, safe=""))
    assert quote_plus(key) not in scrub(quote_plus(text))


def quoted(text: str) -> str:
    """Leave of a JSON string that a mask has cut into what can be read: an escape may have lost its half."""
    return (
        text if text.count("\\") % 2 == 0 and "***" not in text else text.replace("\\", "/").replace('"', "'")
    )


@EVERY_RUN_THE_SAME
@given(KEYS, st.binary(max_size=8), st.binary(max_size=8), st.sampled_from(("standard", "url")))
def test_key_does_not_remain_in_base64(key: str, before: bytes, after: bytes, alphabet: str) -> None:
    encode, decode = {
        "standard": (base64.b64encode, base64.b64decode),
        "url": (base64.urlsafe_b64encode, base64.urlsafe_b64decode),
    }[alphabet]
    shown = Redactor([key])(encode(before + key.encode() + after).decode())
    for piece in shown.split("***"):
        for start in range(4):  # wherever the groups of four begin in it
            whole = piece[start:].rstrip("=")
            whole = whole[: len(whole) // 4 * 4]
            assert not shows(decode(whole).decode("latin-1"), key)


_USERINFO = st.text(PRINTABLE.translate(str.maketrans("", "", "/@:?#[]%")), min_size=1, max_size=30)


@EVERY_RUN_THE_SAME
@given(_USERINFO, st.text(PRINTABLE, min_size=8, max_size=40), st.text(max_size=20))
def test_proxy_password_does_not_remain_in_any_form(user: str, password: str, around: str) -> None:
    scrub = Redactor(proxy_secrets(f"http://{user}:{quote(password, safe='')}@proxy.example:3128"))
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    for form in (password, quote(password, safe=""), token):
        assert form not in scrub(f"{around}{form}{around}")
