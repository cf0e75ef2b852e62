"""The fields of a connection: what is accepted, what is refused, and the error messages."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.connection.fields import DEFAULT_BASE_URL, EXTRA_FIELDS
from airflow_provider_stability.connection.parameters import check_organization
from airflow_provider_stability.connection.rules import TEXT
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityConfigurationError, StabilityParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_stability.connection.fields import ExtraField

KEY = "sk-canary-7HqZw9PLkmXt"
PROXY_PASSWORD = "hunter2-canary"
PROXY = f"http://ada:{PROXY_PASSWORD}@proxy.example:3128"
LONG = "x" * 257
INJECTIONS = [f"a{end}X-Evil: 1" for end in ("\r\n", "\n", "\r", "\0", "\x85", "\u2028")]
NOT_HEADER_TEXT = [*INJECTIONS, "\u20ac", "gr\u00fcn", "\x7f", LONG, 5, 1.2, True, False, ["a"], {}]
BAD: dict[str, list[Any]] = {
    **{name: NOT_HEADER_TEXT for name, field in EXTRA_FIELDS.items() if field.rule is TEXT},
    "organization": [*NOT_HEADER_TEXT, "org 1", "org\t1"],
    "api_version": ["v2", "V1", "v1beta", 1, 0, False, [], {}],
    "timeout": [0, -1, "0", "soon", "30 s", "1_0", "nan", math.nan, math.inf, 3601, 10**400, True, [], {}],
    "max_retries": [-1, 11, 1.5, "2.5", "many", math.nan, True, [3]],
    "verify": ["/no/such/file.pem", "maybe", "a\0b", 2, 1.5, [], LONG],
    "allow_http": ["maybe", "y", 2, math.nan, []],
}


def parse(*, password: str | None = KEY, **fields: Any) -> Settings:
    return Settings.parse("stability_eu", password=password, **fields)


def extra(**fields: Any) -> Settings:
    return parse(extra=fields)


def refusal(**fields: Any) -> str:
    """Return the message that refuses some fields, after checking that it is safe to log."""
    with pytest.raises(StabilityConfigurationError) as caught:
        parse(**fields)
    message = str(caught.value)
    assert message.startswith("connection 'stability_eu': ")
    assert re.search("; it must be .", message)
    assert KEY not in message
    assert PROXY_PASSWORD not in message
    assert not caught.value.transient
    return message


def test_key_alone_is_a_usable_connection() -> None:
    assert parse() == Settings(
        api_key=KEY,
        base_url="https://api.stability.ai",
        organization=None,
        client_id=None,
        client_version=None,
        api_version="v1",
        timeout=30.0,
        max_retries=3,
        verify=True,
        proxy=None,
        allow_http=False,
    )


def test_settings_without_fields_are_those_of_an_empty_connection() -> None:
    assert Settings(KEY) == parse()


@pytest.mark.parametrize("empty", [None, "", "  "], ids=repr)
def test_empty_field_means_its_default(empty: str | None) -> None:
    assert parse(host=empty, port=None, extra=dict.fromkeys(EXTRA_FIELDS, empty)) == parse()


@pytest.mark.parametrize(
    "password",
    [KEY, f" {KEY}\n", f"Bearer {KEY}", f"bearer  {KEY}", f"\tBEARER\t{KEY} ", f"Bearer\n{KEY}"],
    ids=repr,
)
def test_key_may_have_a_bearer_prefix_and_white_space(password: str) -> None:
    assert parse(password=password).api_key == KEY


def test_key_that_starts_with_the_word_bearer_is_kept() -> None:
    assert parse(password="bearer-of-news").api_key == "bearer-of-news"


@pytest.mark.parametrize("password", [None, "", " ", "Bearer", "Bearer ", " bearer\n"], ids=repr)
def test_missing_key_is_refused(password: str | None) -> None:
    assert "password is empty; it must be the API key" in refusal(password=password)


@pytest.mark.parametrize("between", [" ", "\n", "\r\n", "\t", "\0", "\u00a0", "\u20ac", "\x7f", " Bearer "])
def test_key_that_does_not_fit_a_header_is_refused_and_not_shown(between: str) -> None:
    message = refusal(password=f"sk-first{between}sk-second")
    assert message == (
        "connection 'stability_eu': password contains a space or an unprintable character; "
        "it must be an API key, printable ASCII"
    )
    assert "sk-first" not in message
    assert "sk-second" not in message


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("api.stability.ai", None, "https://api.stability.ai"),
        ("https://api.stability.ai", None, "https://api.stability.ai"),
        (" https://api.stability.ai/ \n", None, "https://api.stability.ai"),
        ("HTTPS://API.Stability.AI", None, "https://api.stability.ai"),
        ("api.stability.ai.", None, "https://api.stability.ai"),
        ("https://api.stability.ai:443/", None, "https://api.stability.ai"),
        ("api.stability.ai", 443, "https://api.stability.ai"),
        ("api.stability.ai:80", None, "https://api.stability.ai:80"),
        ("http://localhost:80", None, "http://localhost"),
        ("http://localhost:443", None, "http://localhost:443"),
        ("http://127.0.0.1.:8080", None, "http://127.0.0.1:8080"),
        ("my_gateway.internal", None, "https://my_gateway.internal"),
        ("api.example:8443", None, "https://api.example:8443"),
        ("https://api.example:", None, "https://api.example"),
        ("api.example", 8443, "https://api.example:8443"),
        ("api.example:8443", 8443, "https://api.example:8443"),
        ("https://api.example/gateway/v2", None, "https://api.example/gateway/v2"),
        ("https://api.example/X", None, "https://api.example/X"),
        ("api.example", 65535, "https://api.example:65535"),
        ("https://api.example/gateway/", 8443, "https://api.example:8443/gateway"),
        ("10.1.2.3", None, "https://10.1.2.3"),
        ("[2001:db8::1]", None, "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:8443/x/", None, "https://[2001:db8::1]:8443/x"),
        ("[2001:db8::1]", 8443, "https://[2001:db8::1]:8443"),
        (None, 8443, "https://api.stability.ai:8443"),
        ("api.example", 0, "https://api.example"),
        ("api.example:8443", 0, "https://api.example:8443"),
        ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080"),
        ("http://127.9.9.9", None, "http://127.9.9.9"),
        ("http://[::1]:8080/", None, "http://[::1]:8080"),
        ("http://localhost", 8080, "http://localhost:8080"),
        ("http://LOCALHOST.", None, "http://localhost"),
    ],
)
def test_base_url_is_normalized(host: str | None, port: int | None, url: str) -> None:
    assert parse(host=host, port=port).base_url == url


@pytest.mark.parametrize(
    "host",
    [
        *("ftp://api.example", "https://", "https:///v1", "://api.example", "//api.example", "-api.example"),
        *("api.example?x=1", "api.example#x", "api example", "api..example", "api..", "api.example/a//b"),
        *("api.example/a b", "api.example/\r\nX-Evil: 1", "api.example/%2e%2e", "\u20ac.example", "a" * 64),
    ],
)
def test_invalid_host_is_refused_and_shown(host: str) -> None:
    assert f"host is {host!r}; it must be a base URL such as {DEFAULT_BASE_URL}" in refusal(host=host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            f"https://{KEY}@api.example",
            f"https://ada:{KEY}@api.example",
            f"{KEY}@api.example",
            "https://@api",
        ),
        *("api.example:port", "api.example:99999", "api.example:-1", "api.example\r\nX-Evil: 1"),
        *("https://[2001:db8::1", "2001:db8::1", "https://[nonsense]"),
    ],
)
def test_host_that_may_hold_a_secret_is_refused_and_not_shown(host: str) -> None:
    message = refusal(host=host)
    assert "host is not a URL, or has a user name or password in it; it must be a base URL" in message
    assert host not in message


def test_port_that_contradicts_the_host_is_refused() -> None:
    message = refusal(host="api.example:8443", port=443)
    assert "port is 443, but host has port 8443; it must be the same, or empty" in message


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_port_out_of_range_is_refused_and_shown(port: int) -> None:
    message = refusal(host="api.example", port=port)
    assert message.endswith(f": port is {port}; it must be a number from 1 to 65535, or empty")


@pytest.mark.parametrize(
    "host",
    ["http://api.stability.ai", "HTTP://api.example:80/x", "http://10.0.0.1", "http://localhost.example"],
)
def test_plain_http_to_another_machine_needs_allow_http(host: str) -> None:
    message = refusal(host=host)
    assert f"host is {host!r}, which would send the key unencrypted; it must be https://" in message
    assert "'allow_http'" in message
    allowed = parse(host=host, extra={"allow_http": True})
    assert allowed.base_url == host.replace("HTTP", "http").replace(":80", "")


@pytest.mark.parametrize(
    ("host", "allow_http", "is_direct"),
    [
        ("http://127.0.0.1:8080", False, True),
        ("http://localhost", False, True),
        ("http://127.0.0.1:8080", True, False),
        ("https://127.0.0.1:8080", False, False),
        ("http://api.example", True, False),
        ("https://api.example", False, False),
    ],
)
def test_only_plain_http_to_this_machine_is_direct(host: str, *, allow_http: bool, is_direct: bool) -> None:
    assert parse(host=host, extra={"allow_http": allow_http}).is_direct is is_direct


def test_proxy_is_refused_where_the_key_would_leave_this_machine_unencrypted() -> None:
    message = refusal(host="http://127.0.0.1:8080", extra={"proxy": PROXY})
    assert message == (
        "connection 'stability_eu': extra field 'proxy' would receive the key unencrypted, "
        "as host is 'http://127.0.0.1:8080'; "
        "it must be empty, unless host is https:// or the extra field 'allow_http' is true"
    )
    assert parse(host="http://127.0.0.1", extra={"proxy": PROXY, "allow_http": True}).proxy == PROXY


def test_schema_is_refused_as_it_holds_the_path_of_a_connection_uri() -> None:
    assert refusal(schema="v1") == (
        "connection 'stability_eu': schema is 'v1'; it must be empty: https:// and a path belong in host"
    )


@pytest.mark.parametrize("no", [False, "false", "no", "off", "0", "FALSE", 0, None, ""], ids=repr)
def test_allow_http_false_allows_nothing(no: object) -> None:
    assert "unencrypted" in refusal(host="http://api.example", extra={"allow_http": no})


@pytest.mark.parametrize("yes", [True, "true", "True", " yes ", "on", "1", 1], ids=repr)
def test_allow_http_true_in_every_spelling(yes: object) -> None:
    assert parse(host="http://api.example", extra={"allow_http": yes}).base_url == "http://api.example"


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("organization", "org-123456", "org-123456"),
        ("organization", " org-1\n", "org-1"),
        ("organization", "x" * 256, "x" * 256),
        ("client_id", "my great plugin", "my great plugin"),
        ("client_version", "1.2.1", "1.2.1"),
        ("api_version", "v1", "v1"),
        ("api_version", " v1alpha ", "v1alpha"),
        ("timeout", 5, 5.0),
        ("timeout", 0.25, 0.25),
        ("timeout", "12.5", 12.5),
        ("timeout", 3600, 3600.0),
        ("max_retries", 0, 0),
        ("max_retries", "7", 7),
        ("max_retries", 10.0, 10),
        ("verify", True, True),
        ("verify", "true", True),
        ("verify", "False", False),
        ("verify", False, False),
        ("verify", "0", False),
        ("proxy", PROXY, PROXY),
        ("proxy", " https://proxy.example ", "https://proxy.example"),
    ],
)
def test_valid_value_of_an_extra_field_is_parsed(name: str, value: object, read: object) -> None:
    found = getattr(extra(**{name: value}), name)
    assert found == read
    assert type(found) is type(read)


def test_certificates_may_be_a_file_or_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("certificates")
    assert extra(verify=str(file)).verify == str(file)
    assert extra(verify=str(tmp_path)).verify == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda value: repr(value)[:20],
)
def test_invalid_value_of_an_extra_field_is_refused_with_what_it_must_be(name: str, value: object) -> None:
    message = refusal(extra={name: value})
    assert f"extra field {name!r} is {value!r}; it must be {EXTRA_FIELDS[name].allowed}" in message


TEXT_ALLOWED = "printable ASCII without line breaks, at most 256 characters"
ALLOWED = {
    **{name: TEXT_ALLOWED for name, field in EXTRA_FIELDS.items() if field.rule is TEXT},
    "organization": f"{TEXT_ALLOWED}, no spaces",
    "api_version": "v1 or v1alpha",
    "timeout": "a number above 0, at most 3600",
    "max_retries": "a whole number from 0 to 10",
    "verify": "true, false, or an existing path",
    "allow_http": "true or false",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_error_states_what_a_field_must_be_and_its_value_without_white_space(name: str) -> None:
    message = refusal(extra={name: " \u20ac "})
    assert message.endswith(f"extra field {name!r} is '\u20ac'; it must be {ALLOWED[name]}")


@pytest.mark.parametrize(
    "proxy",
    [
        f"ada:{PROXY_PASSWORD}@proxy.example:3128",
        f"socks5://ada:{PROXY_PASSWORD}@proxy.example",
        *(
            f"http://ada:{PROXY_PASSWORD}@{rest}"
            for rest in ("", "p:port", "p:70000", "p\r\nX-Evil: 1", "[::1")
        ),
        *([PROXY], 3128, True),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_invalid_proxy_is_refused_and_not_shown(proxy: object) -> None:
    message = refusal(extra={"proxy": proxy})
    assert re.search(r"'proxy' is invalid \(not shown.*\); it must be an http:// or https:// URL", message)
    assert str(proxy) not in message


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"organization": f"Bearer {KEY}"}},
        {"extra": {"client_id": f"{KEY}\nx"}},
        {"extra": {"api_version": KEY}},
        {"extra": {"timeout": KEY}},
        {"extra": {"verify": f"/{KEY}"}},
        {"host": f"https://api.example/?key={KEY}"},
    ],
    ids=str,
)
def test_key_in_another_field_is_not_shown(fields: dict[str, Any]) -> None:
    refusal(**fields)


@pytest.mark.parametrize(
    ("misspelled", "meant"),
    [
        ("organisation", "organization"),
        ("Organization", "organization"),
        ("time_out", "timeout"),
        ("max_retry", "max_retries"),
        ("retries_max", None),
        ("client-id", "client_id"),
        ("proxies", None),
        ("proxy_", "proxy"),
        ("api-version", "api_version"),
        ("allow-http", "allow_http"),
        ("verfy", "verify"),
    ],
)
def test_misspelled_field_is_refused_with_the_right_spelling(misspelled: str, meant: str | None) -> None:
    if meant is None:
        assert extra(**{misspelled: PROXY}) == parse()
    else:
        message = refusal(extra={misspelled: PROXY})
        assert f"extra field {misspelled!r} is unknown; it must be spelled {meant!r}" in message


def test_unknown_fields_in_the_extra_are_ignored() -> None:
    assert extra(team="pictures", cost_center=4711, __extra__="{}", schema={"a": 1}) == parse()


def test_repr_shows_neither_the_key_nor_the_proxy() -> None:
    settings = extra(proxy=PROXY, organization="org-1")
    assert "organization='org-1'" in repr(settings)
    for secret in (KEY, PROXY, PROXY_PASSWORD):
        assert secret not in repr(settings)
        assert secret not in str(settings)


def test_secrets_are_the_key_and_the_proxy_password_in_every_form_sent() -> None:
    assert extra().secrets == (KEY,)
    token = base64.b64encode(f"ada:{PROXY_PASSWORD}".encode()).decode()
    assert set(extra(proxy=PROXY).secrets) == {KEY, PROXY_PASSWORD, token}


def test_percent_encoded_proxy_password_is_a_secret_when_decoded() -> None:
    assert "p@ss:word" in extra(proxy="http://ada:p%40ss%3Aword@proxy.example").secrets


def test_equal_connections_have_equal_hashable_settings_however_the_host_is_written() -> None:
    written = ("api.example", "https://API.example.:443/", " HTTPS://api.EXAMPLE ")
    assert len({parse(host=host, extra={"timeout": "30"}) for host in written}) == 1


def test_credential_is_of_the_key_alone_and_does_not_show_it() -> None:
    credential = parse().credential
    assert parse(password=f"Bearer {KEY}", host="other.example", extra=OTHER).credential == credential
    assert parse(password=KEY + "x").credential != credential
    assert KEY not in credential


def another_value(field: ExtraField) -> Any:
    """Return a valid value that is not the default."""
    special = {"organization": "org-2", "api_version": "v1alpha", "verify": False, "proxy": PROXY}
    kinds = {"string": "other", "boolean": not field.default, "integer": 1, "number": 1.5}
    return special.get(field.name, kinds[field.rule.kind])


OTHER = {name: another_value(field) for name, field in EXTRA_FIELDS.items()}


def test_every_extra_field_is_an_attribute_of_the_settings() -> None:
    attributes = {each.name for each in dataclasses.fields(Settings)}
    assert attributes == {"api_key", "base_url", *EXTRA_FIELDS}


@pytest.mark.parametrize("name", EXTRA_FIELDS)
def test_route_differs_by_every_field_but_organization_and_max_retries(name: str) -> None:
    plain, other = parse(), extra(**{name: OTHER[name]})
    assert other != plain
    assert (other.route == plain.route) is (name in {"organization", "max_retries"})
    assert (hash(other.route) == hash(plain.route)) is (name in {"organization", "max_retries"})


def test_route_differs_by_key_and_host() -> None:
    routes = {parse().route, parse(password="sk-other").route, parse(host="other.example").route}
    assert len(routes) == 3


def test_route_does_not_show_the_secrets() -> None:
    for secret in (KEY, PROXY_PASSWORD):
        assert secret not in repr(extra(proxy=PROXY).route)


@pytest.mark.parametrize("name", [name for name, field in EXTRA_FIELDS.items() if field.is_secret])
def test_secret_field_is_not_in_the_repr(name: str) -> None:
    assert f"{name}=" not in repr(extra(**{name: OTHER[name]}))


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().timeout = 1.0  # type: ignore[misc]  # that it is refused is the point


@pytest.mark.parametrize(("given", "ready"), [(None, None), ("org-1", "org-1"), (" org-1\n", "org-1")])
def test_organization_of_a_task_is_stripped(given: object, ready: str | None) -> None:
    assert check_organization(given) == ready


@pytest.mark.parametrize(
    "given",
    ["", " ", "org 1", "org-1\r\nX-Evil: 1", "org-\u00fc", "org\0", LONG, 5, True, b"org-1", ["org-1"]],
    ids=lambda value: repr(value)[:20],
)
def test_invalid_organization_of_a_task_is_refused(given: object) -> None:
    with pytest.raises(StabilityParameterError) as caught:
        check_organization(given)
    assert str(caught.value).startswith(f"organization is {given!r}; it must be ")
    assert "None in the DAG to use the connection's" in str(caught.value)
