"""No form of a secret that a service or proxy echoes is shown, and nothing else is masked."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import traceback
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.redaction import Redactor, proxy_secrets
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityError
from support.raw_server import always, http, raw_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("no_proxy")

KEY = "sk-canary/7Hq+Zw9=PLkm&Xt4~Rv"
PASSWORD = "hunter2@canary"
BASIC = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
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
        (f"it has {KEY[4:12]}", "it has ***"),
        (f"{KEY[:10]}\n{KEY[10:]}", "***\n***"),
        (repr({"Authorization": f"Bearer {KEY}"}), "{'Authorization': 'Bearer ***'}"),
    ],
)
def test_key_is_masked_whole_encoded_or_in_part(text: str, shown: str) -> None:
    assert Redactor([KEY])(text) == shown


@pytest.mark.parametrize("text", ["", "nothing to hide", "sk-cana", KEY[:7], "***", "\0\n\u20ac"])
def test_text_without_the_key_is_unchanged(text: str) -> None:
    assert Redactor([KEY])(text) == text


@pytest.mark.parametrize("length", range(8, len(KEY) + 1))
def test_fragment_of_8_characters_or_more_is_masked(length: int) -> None:
    scrub = Redactor([KEY])
    for start in range(len(KEY) - length + 1):
        assert scrub(f"<{KEY[start : start + length]}>") == "<***>"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("key", [PLAIN_KEY[:length] for length in (8, 9, 10, 11, 23, 24)] + [KEY], ids=len)
def test_key_inside_a_base64_encoded_text_is_masked(key: str, encode: Callable[[bytes], bytes]) -> None:
    for before, after in product(["", "u", "u:", "u:p", "Bearer "], ["", "x", "\r\n", "&c="]):
        encoded = encode(f"{before}{key}{after}".encode()).decode()
        shown = Redactor([key])(encoded)
        assert "***" in shown
        assert not [text for text in decoded(shown) if leaks(text, key)]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"u", b"u:"], ids=len)
@pytest.mark.parametrize("secret", [b"pass-7?>", b"pass-78?>", b"pass-7?>W"], ids=bytes.decode)
def test_base64_characters_that_hold_nothing_but_the_secret_are_masked(
    secret: bytes, before: bytes, encode: Callable[[bytes], bytes]
) -> None:
    for after in (b"", b"x", b"\r\n", b"&c="):
        encoded = encode(before + secret + after).decode()
        # Each character stands for six bits.
        first, last = -(-8 * len(before) // 6), 8 * len(before + secret) // 6
        assert Redactor([secret.decode()])(encoded) == f"{encoded[:first]}***{encoded[last:]}"


def test_base64_is_masked_from_8_characters_on() -> None:
    scrub = Redactor(["pw-123", "pw-45"])
    assert scrub("cHctMTIz and cHctNDU=") == "*** and cHctNDU="


@pytest.mark.parametrize("secret", ["a b/c", "a\\b", "a'\"b", "\\'\""], ids=repr)
def test_short_secret_is_masked_in_every_quoting(secret: str) -> None:
    scrub = Redactor([secret])
    assert scrub(f"<{quote(secret, safe='')}>") == "<***>"
    assert scrub(f"<{quote_plus(secret)}>") == "<***>"
    assert scrub(repr(secret))[1:-1] == "***"
    assert scrub(json.dumps(secret)) == '"***"'


def test_secret_that_contains_another_is_masked_as_a_whole() -> None:
    scrub = Redactor(["hunter2-pass", "http://ada:hunter2-pass@proxy:3128"])
    assert scrub("by http://ada:hunter2-pass@proxy:3128, hunter2-pass") == "by ***, ***"


def test_adjacent_secrets_are_both_masked() -> None:
    assert Redactor(["first-secret", "second-secret"])("first-secretsecond-secret") == "******"


def test_short_secret_is_masked_only_as_a_whole() -> None:
    scrub = Redactor(["pw1"])
    assert scrub("user:pw1@proxy") == "user:***@proxy"
    assert scrub("pw is short") == "pw is short"


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_empty_secret_masks_nothing(secrets: list[str]) -> None:
    assert Redactor(secrets)("all of it") == "all of it"


def test_secret_beyond_ascii_is_masked() -> None:
    secret = "pa\u00dfwort-\u20ac-1234"
    scrub = Redactor([secret])
    assert scrub(f"a {secret} b {quote(secret, safe='')} c") == "a *** b *** c"


def test_many_fragments_in_a_long_text_are_masked() -> None:
    text = f"{KEY[:9]}, {KEY[5:20]}; " * 500
    assert leaks(Redactor([KEY])(text), KEY) == []


def test_redactor_does_not_show_its_secrets() -> None:
    assert leaks(repr(Redactor([KEY])), KEY) == []


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize(
    ("userinfo", "password", "sent"),
    [
        ("ada:pw1", "pw1", "ada:pw1"),
        ("ada:a:b", "a:b", "ada:a:b"),
        ("ada:a@b", "a@b", "ada:a@b"),
        (":pw1", "pw1", ":pw1"),
        ("ad%40:p%40%20w", "p%40%20w", "ad@:p@ w"),
    ],
)
def test_secrets_of_a_proxy_are_its_password_as_written_and_as_sent(
    scheme: str, userinfo: str, password: str, sent: str
) -> None:
    token = base64.b64encode(sent.encode()).decode()
    assert proxy_secrets(f"{scheme}{userinfo}@proxy:3128") == [password, sent.partition(":")[2], token]


def test_password_of_a_proxy_may_contain_what_ends_a_scheme() -> None:
    assert "x://y" in proxy_secrets("http://ada:x://y@proxy:3128")


@pytest.mark.parametrize(
    "url", ["http://proxy:3128", "http://ada@proxy", "http://ada:@proxy", "proxy:3128", ""]
)
def test_proxy_without_a_password_has_no_secrets(url: str) -> None:
    assert proxy_secrets(url) == []


@contextlib.contextmanager
def one_answer(head: str, body: str = "") -> Iterator[str]:
    """Answer a request, and yield host and port to send it to."""
    with raw_server(always(http(f"{head}\r\nConnection: close", body))) as url:
        yield url.removeprefix("http://")


def failure(url: str, *, proxy: str | None = None) -> str:
    """Return all that is to be seen of the error of a call, down every chain."""
    client = StabilityClient(Settings(KEY, base_url=url, timeout=20, proxy=proxy), max_retries=0)
    with contextlib.closing(client), pytest.raises(StabilityError) as caught:
        client.get_balance()
    shown = []
    error: BaseException | None = caught.value
    while error is not None:
        shown += [str(error), repr(error), repr(error.args), repr(vars(error))]
        shown += traceback.format_exception(error, chain=True)
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


def all_leaks(text: str) -> list[str]:
    """Return what pieces of the secrets, plain, URL-encoded or in base64, stand in ``text``."""
    forms = [KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()[:-4]]
    forms += [base64.b64encode(f"Bearer {KEY}".encode()).decode()[12:-4], BASIC[8:-4]]
    return [piece for secret in (*forms, PASSWORD, quote(PASSWORD, safe="")) for piece in leaks(text, secret)]


ECHOES = [
    *(KEY, f"Bearer {KEY}", quote(KEY, safe=""), f"{KEY[:10]}...{KEY[-9:]}", "y" * 290 + KEY),
    *(base64.b64encode(f"{before}{KEY}".encode()).decode() for before in ("", "Bearer ", "u:")),
]


@pytest.mark.parametrize("echo", ECHOES, ids=lambda echo: echo[:16])
@pytest.mark.parametrize(
    ("head", "body"),
    [
        *(
            ("401 Unauthorized", f'{{"{field}": "bad %s"}}')
            for field in ("id", "name", "message", "key", "%s")
        ),
        *(("200 OK", body) for body in ('{"credits": "%s"}', '{"%s": 1}', "<p>%s</p>", '"%s"', "[%s]")),
        *((head, "") for head in ("401 bad %s", "302 Found\r\nLocation: http://%s/", "500 \r\n%s: 1", "%s")),
        ("200 OK\r\nContent-Type: %s", "{}"),
    ],
)
def test_key_echoed_by_the_service_is_not_shown(head: str, body: str, echo: str) -> None:
    with one_answer(head.replace("%s", echo), body.replace("%s", echo)) as address:
        shown = failure(f"http://{address}")
    assert "GET /v1/user/balance" in shown
    assert all_leaks(shown) == []


def failure_through(proxy: str, url: str, place: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if place == "connection":
        return failure(url, proxy=proxy)
    monkeypatch.setenv(f"{url.partition(':')[0]}_proxy", proxy)
    return failure(url)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("place", ["connection", "environment"])
@pytest.mark.parametrize("echo", [PASSWORD, quote(PASSWORD, safe=""), f"Basic {BASIC}"])
def test_proxy_password_echoed_by_the_proxy_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, echo: str, place: str, scheme: str
) -> None:
    with one_answer(f"407 not {echo}", f'{{"message": "not {echo}"}}') as address:
        proxy = f"http://ada:{quote(PASSWORD, safe='')}@{address}"
        shown = failure_through(proxy, f"{scheme}://api.example", place, monkeypatch)
    assert "407" in shown
    assert all_leaks(shown) == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("place", ["connection", "environment"])
@pytest.mark.parametrize("address", ["127.0.0.1:{closed}", "nonexistent.invalid:3128", "127.0.0.1:99999"])
def test_password_of_an_unreachable_proxy_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, address: str, place: str, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed = listening.getsockname()[1]
    proxy = f"http://ada:{quote(PASSWORD, safe='')}@{address.format(closed=closed)}"
    assert all_leaks(failure_through(proxy, f"{scheme}://api.example", place, monkeypatch)) == []


def test_base_url_is_shown_with_a_proxy() -> None:
    assert "http://api.example" in failure("http://api.example", proxy="http://api.example.invalid:3128")
