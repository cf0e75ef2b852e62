"""Failures of a call, over real sockets: which error they become, and what it never shows."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_stability import exceptions
from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import (
    StabilityConnectionError,
    StabilityError,
    StabilityResponseError,
    StabilityStatusError,
)
from airflow_provider_stability.simulator import Simulator
from support.raw_server import always, http, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_proxy")

KEY = "sk-canary-7HqZw9PLkmXt"
BODY = '{"id": "id-1", "name": "bad_thing", "message": "It is bad."'
BODIES = {"v1": BODY + "}", "v1alpha": BODY + ', "fault": true, "temporary": false, "timeout": false}'}
TYPES = {"v1": "application/json", "v1alpha": "application/vnd.goa.error"}
HTML = "<html>" + "<p>It is bad.</p>" * 20000


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as running:
        yield running


@contextlib.contextmanager
def client(url: str, **fields: Any) -> Iterator[StabilityClient]:
    settings = Settings(KEY, base_url=url, **{"timeout": 20.0, **fields})
    with contextlib.closing(StabilityClient(settings, max_retries=0)) as made:
        yield made


def failure(url: str, **fields: Any) -> StabilityError:
    """Return the error of reading the balance, after checking that it is safe to log."""
    with client(url, **fields) as asking, pytest.raises(StabilityError) as caught:
        asking.get_balance()
    error = caught.value
    # Error reporters follow these: the lower layers' exceptions hold the request, and with it the key.
    assert error.__cause__ is None
    assert error.__context__ is None
    assert str(error).isprintable()
    assert len(str(error)) < 1200
    return error


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, (exceptions.BadRequestError, False, 0.0)) for status in (400, 405, 408, 413, 422, 499)),
        (401, (exceptions.AuthenticationError, False, 0.0)),
        (402, (exceptions.InsufficientCreditsError, False, 0.0)),
        (403, (exceptions.PermissionDeniedError, False, 0.0)),
        (404, (exceptions.NotFoundError, False, 0.0)),
        (429, (exceptions.RateLimitError, True, 60.0)),
        *((status, (exceptions.ServerError, True, 0.0)) for status in (500, 501, 502, 503, 504, 529, 599)),
    ],
)
def test_status_becomes_its_error_with_the_attributes_of_the_body(
    simulator: Simulator, version: str, status: int, expected: tuple[type[StabilityError], bool, float]
) -> None:
    simulator.fail(status, body=BODIES[version], content_type=TYPES[version])
    error = failure(simulator.base_url, api_version=version)
    assert (type(error), error.transient, error.pause) == expected
    assert vars(error) == {
        "status_code": status,
        "name": "bad_thing",
        "message": "It is bad.",
        "error_id": "id-1",
        "retry_after": None,
    }
    assert str(error) == f"GET /{version}/user/balance: {status} bad_thing: It is bad. [error id id-1]"


@pytest.mark.parametrize("status", [429, 503, 401])
@pytest.mark.parametrize(
    ("header", "retry_after"),
    [("30", 30.0), ("0", 0.0), ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_is_kept(
    simulator: Simulator, status: int, header: str, retry_after: float | None
) -> None:
    simulator.fail(status, retry_after=header)
    error = failure(simulator.base_url)
    assert isinstance(error, StabilityStatusError)
    assert error.retry_after == retry_after
    pause = retry_after if retry_after is not None else 60.0 if status == 429 else 0.0
    assert error.pause == (pause if error.transient else 0.0)  # no other request need wait for a refused one
    assert ("(retry after " in str(error)) is (retry_after is not None)


def test_retry_after_date_counts_from_the_date_header() -> None:
    when = "Retry-After: Sun, 06 Nov 1994 08:50:19 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT"
    with raw_server(always(http(f"429 Slow down\r\n{when}", "{}"))) as url:
        assert failure(url).pause == 42.0


@pytest.mark.parametrize(
    "body",
    [
        *("", "{}", "[]", "null", '"It is bad."', "It is bad.", BODY, HTML, "[" * 100_000, "9" * 10_000),
        '{"id": null, "name": "", "message": 0}',
    ],
    ids=lambda body: body[:12] or "empty",
)
def test_foreign_error_body_is_ignored(simulator: Simulator, body: str) -> None:
    simulator.fail(502, body=body, content_type="text/html")
    error = failure(simulator.base_url)
    assert type(error) is exceptions.ServerError
    assert (error.name, error.message, error.error_id) == (None, None, None)
    assert str(error) == "GET /v1/user/balance: 502 Bad Gateway"


@pytest.mark.parametrize(
    ("field", "attribute"), [("id", "error_id"), ("name", "name"), ("message", "message")]
)
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f'"{"x" * 300}"', "x" * 300),
        (f'"{"x" * 301}"', "x" * 300 + "..."),
        ('{"a": ["b", null]}', "{'a': ['b', None]}"),
        ("12", "12"),
        (r'"a\r\nb\tc"', "a b c"),
        (r'"\u0000\u001b[31m"', "??[31m"),
        (r'"\ud800"', "?"),
        (r'"\u202e"', "?"),
    ],
    ids=lambda value: value[:12],
)
def test_text_of_an_error_body_is_sanitized_and_truncated(
    simulator: Simulator, field: str, attribute: str, value: str, shown: str
) -> None:
    simulator.fail(400, body=f'{{"{field}": {value}}}')
    error = failure(simulator.base_url)
    assert type(error) is exceptions.BadRequestError
    assert getattr(error, attribute) == shown
    assert shown in str(error)


@pytest.mark.parametrize("status", [401, 429, 503])
@pytest.mark.parametrize("broken", ["cut", "gzip"])
def test_status_counts_although_the_body_is_broken(simulator: Simulator, status: int, broken: str) -> None:
    gzip = {"Content-Encoding": "gzip"} if broken == "gzip" else None
    simulator.fail(status, retry_after=40, cut_body=gzip is None, headers=gzip)
    error = failure(simulator.base_url)
    assert isinstance(error, StabilityStatusError)
    assert (error.status_code, error.retry_after) == (status, 40.0)


@pytest.mark.parametrize(
    "body",
    [
        *("", "{}", "[]", "null", "7", '"7"', '{"credits": 7', "{'credits': 7}", HTML, HTML * 20),
        *(f'{{"credits": {value}}}' for value in ("null", '"7"', "true", "[7]", "{}")),
        *(f'{{"credits": {value}}}' for value in ("NaN", "Infinity", "-Infinity", "1e999")),
    ],
    ids=lambda body: body[:24] or "empty",
)
def test_success_without_a_finite_number_is_an_invalid_response(simulator: Simulator, body: str) -> None:
    simulator.fail(body=body, content_type="text/html; charset=utf-8")
    error = failure(simulator.base_url)
    assert (type(error), error.transient) == (StabilityResponseError, True)
    assert "GET /v1/user/balance" in str(error)


def test_invalid_account_is_refused_with_field_names_and_without_values(simulator: Simulator) -> None:
    simulator.fail(body='{"id": 4711, "email": ["ada@example.com"], "organizations": [{"name": "Secret"}]}')
    with client(simulator.base_url) as asking, pytest.raises(StabilityResponseError) as caught:
        asking.get_account()
    assert re.search(r"\bid: .*; email: ", str(caught.value))
    assert not re.search("4711|ada@|Secret", str(caught.value))


def test_negative_credits_are_valid(simulator: Simulator) -> None:
    simulator.set_credits(-12.5)
    with client(simulator.base_url) as asking:
        assert asking.get_balance().credits == -12.5


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "cut body"])
def test_interrupted_response_is_transient(simulator: Simulator, *, reset: bool) -> None:
    simulator.fail(reset=reset, cut_body=not reset)
    error = failure(simulator.base_url)
    assert (type(error), error.transient) == (StabilityConnectionError, True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "https://127.0.0.1:{}", "http://nonexistent.invalid"])
def test_unreachable_host_is_transient(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        free = listening.getsockname()[1]
    error = failure(url.format(free))
    assert (type(error), error.transient) == (StabilityConnectionError, True)
    assert url.format(free) in str(error)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n77",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=lambda sent: sent[:60].decode(),
)
def test_invalid_http_is_transient(sent: bytes) -> None:
    with raw_server(always(sent)) as url:
        error = failure(url)
    assert isinstance(error, StabilityConnectionError | StabilityResponseError)
    assert error.transient


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_and_its_target_is_named(simulator: Simulator, status: int) -> None:
    with Simulator(api_key=KEY) as other:
        simulator.fail(status, headers={"Location": f"{other.base_url}/v1/user/balance"})
        error = failure(simulator.base_url)
        assert (type(error), error.transient) == (StabilityResponseError, True)
        assert f"{status} redirects to 127.0.0.1:{other.port}" in str(error)
        assert (simulator.count(), other.count()) == (1, 0)


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("", "another path"),
        *((f"\r\nLocation: {path}", "another path") for path in ("", "/", "http://", "//", "\xff", "%")),
        *((f"\r\nLocation: {url}", "an invalid URL") for url in ("http://[", "http://[x]/")),
        ("\r\nLocation: http://h:99999/", "h:99999"),
        ("\r\nLocation: http://.h/", ".h"),
    ],
)
def test_redirect_with_an_invalid_target_is_an_invalid_response(location: str, named: str) -> None:
    with raw_server(always(http(f"302 Found{location}"))) as url:
        error = failure(url)
    assert (type(error), error.transient) == (StabilityResponseError, True)
    assert str(error) == (
        f"GET /v1/user/balance: 302 redirects to {named}; not followed, as it would send the key there"
    )


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(authority: trustme.CA) -> Iterator[Simulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator(api_key=KEY, ssl_context=context) as running:
        yield running


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", False), ("localhost", True)])
def test_untrusted_certificate_is_permanent(
    authority: trustme.CA, https: Simulator, host: str, *, trusted: bool
) -> None:
    with authority.cert_pem.tempfile() as path:
        error = failure(https.base_url.replace("127.0.0.1", host), verify=path if trusted else True)
    assert (type(error), error.transient) == (StabilityConnectionError, False)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert https.count() == 0


@pytest.mark.parametrize("text", ["no certificate", "", None])
def test_missing_or_invalid_certificate_file_is_permanent(
    https: Simulator, tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    assert not failure(https.base_url, verify=str(file)).transient


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("verify", ["the right file", False])
def test_verify_of_the_connection_overrides_the_environments(
    authority: trustme.CA, https: Simulator, monkeypatch: pytest.MonkeyPatch, *, verify: str | bool
) -> None:
    with trustme.CA().cert_pem.tempfile() as wrong, authority.cert_pem.tempfile() as right:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", wrong)
        with client(https.base_url, verify=verify and right) as asking:
            assert asking.get_balance().credits == 10.0
            assert asking.session.get(f"{https.base_url}/v1/user/account").status_code == 200


def test_certificate_that_the_environment_trusts_is_trusted(
    authority: trustme.CA, https: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority.cert_pem.tempfile() as path, client(https.base_url) as asking:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
        assert asking.get_balance().credits == 10.0


def test_http_on_an_https_port_and_the_reverse_are_transient(simulator: Simulator, https: Simulator) -> None:
    for url in (https.base_url.replace("https:", "http:"), simulator.base_url.replace("http:", "https:")):
        error = failure(url)
        assert (type(error), error.transient) == (StabilityConnectionError, True)
