"""Any value in any field of a connection gives valid settings, or an error that names the field."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_stability.connection.fields import EXTRA_FIELDS
from airflow_provider_stability.connection.rules import TEXT
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.connection.urls import is_loopback
from airflow_provider_stability.exceptions import StabilityConfigurationError
from support.properties import EVERY_RUN_THE_SAME, JSON, KEYS, PRINTABLE, attempt

HOSTS = ("api.example", "localhost", "127.0.0.1", "::1", "[::1]", "10.0.0.1", "-bad-", "a b", "", "x.")
FRAGMENTS = st.sampled_from(
    ("http://", "https://", "ftp://", "://", "/", ":8080", ":0", ":99999", "@", "?q", *HOSTS)
)
URL_LIKE = st.lists(FRAGMENTS | st.text(PRINTABLE, max_size=4), max_size=5).map("".join)
WORDS = (
    st.text()
    | st.text(PRINTABLE)
    | URL_LIKE
    | st.sampled_from(("true", "no", "v1", "v1alpha", "30", "1e9", "0"))
)
VALUES = JSON | WORDS | st.integers(-2, 4000) | st.floats(-1, 4000)
TEXTS = st.text(f"{PRINTABLE} ", min_size=1, max_size=256).filter(str.strip)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "organization": st.text(PRINTABLE, min_size=1, max_size=256),
    **{name: TEXTS for name, field in EXTRA_FIELDS.items() if field.rule is TEXT},
    "api_version": st.sampled_from(("v1", "v1alpha")),
    "timeout": st.floats(0, 3600, exclude_min=True),
    "max_retries": st.integers(0, 10),
    "verify": st.sampled_from((True, False, "true", "no", str(Path(__file__).parent))),
    "proxy": st.sampled_from(("http://proxy.example:3128", "https://u:p@proxy.example")),
    "allow_http": st.sampled_from((True, False, "yes", "off", 1, 0)),
}
FIELD = re.compile(
    r"connection 'eu': (password|host|port|schema|extra field '(\w+)') .*; it must be .", re.DOTALL
)

REFUSED_PASSWORD = re.compile(
    "connection 'eu': password (is empty|contains a space or an unprintable character); "
    "it must be (the API key of a Stability AI account|an API key, printable ASCII)"
)


@st.composite
def connections(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a key, and fields that are valid, arbitrary, or contain the key."""
    key = draw(KEYS)
    spoiled = st.tuples(WORDS, WORDS).map(lambda around: f"{around[0]}{key}{around[1]}")
    extra = {}
    for name in draw(st.sets(st.sampled_from(sorted(GOOD)), max_size=4)):
        extra[name] = draw(GOOD[name] | GOOD[name] | VALUES | spoiled)
    if draw(st.integers(0, 9)) == 0:
        extra[draw(st.text(max_size=12) | st.sampled_from(("organisation", "Timeout", "verify_")))] = draw(
            VALUES
        )
    host = draw(st.none() | st.sampled_from(HOSTS) | URL_LIKE | WORDS | spoiled)
    port = draw(st.none() | st.none() | st.integers(-1, 70000))
    schema = draw(st.sampled_from((None, None, None, None, "", "v1", f"/{key}")))
    return key, {"host": host, "port": port, "schema": schema, "extra": extra}


def check(settings: Settings) -> None:
    """Check what holds for all valid settings."""
    parts = urlsplit(settings.base_url)
    assert parts.scheme in {"http", "https"}
    assert parts.hostname
    assert not any((parts.username, parts.password, parts.query, parts.fragment))
    assert not settings.base_url.endswith("/")
    assert settings.base_url.isascii()
    assert settings.base_url.isprintable()
    assert parts.scheme == "https" or settings.allow_http or is_loopback(parts.hostname)
    assert settings.proxy is None or urlsplit(settings.proxy).scheme in {"http", "https"}
    assert not (settings.is_direct and settings.proxy)
    assert settings.api_version in {"v1", "v1alpha"}
    assert type(settings.timeout) is float
    assert 0 < settings.timeout <= 3600
    assert type(settings.max_retries) is int
    assert 0 <= settings.max_retries <= 10
    assert isinstance(settings.verify, bool) or os.path.exists(settings.verify)  # noqa: PTH110  # as it does
    assert isinstance(settings.allow_http, bool)
    for header in (getattr(settings, name) for name, field in EXTRA_FIELDS.items() if field.header):
        assert header is None or re.fullmatch(r"[\x20-\x7e]{1,256}", header)
    assert settings.organization is None or " " not in settings.organization
    assert parts.port != {"http": 80, "https": 443}[parts.scheme]
    assert not parts.hostname.endswith(".")
    assert hash(settings) == hash(dataclasses.replace(settings))
    # The other fields may be anything, also what is in the key.
    assert settings.api_key not in repr(Settings(settings.api_key, proxy=settings.proxy))


@EVERY_RUN_THE_SAME
@given(connections())
@example(("sk-0123456789abcdef", {"extra": {"timeout": "sk-0123456789abcdef"}}))
@example((r"sk-\a\b\c\d\e\f\g\h", {"extra": {"timeout": r"sk-\a\b\c\d\e\f\g\h"}}))
def test_any_connection_is_valid_or_refused_by_field_without_the_key(
    drawn: tuple[str, dict[str, Any]],
) -> None:
    key, fields = drawn
    found = attempt(lambda: Settings.parse("eu", password=key, **fields), StabilityConfigurationError)
    if isinstance(found, Settings):
        assert found.api_key == key
        check(found)
    else:
        assert FIELD.match(str(found))
        assert not found.transient
        assert key not in str(found)
        assert repr(key)[1:-1] not in str(found)


@EVERY_RUN_THE_SAME
@given(
    st.fixed_dictionaries({}, optional=GOOD),
    st.sampled_from((None, "https://api.example/v/", "api.example:8443")),
)
def test_valid_fields_are_kept_as_given(extra: dict[str, Any], host: str | None) -> None:
    settings = Settings.parse("eu", password="sk-0123456789", host=host, extra=extra)
    check(settings)
    for name in set(GOOD) - {"verify", "allow_http"}:  # whose words become booleans
        value = extra.get(name)
        if value is not None:
            assert getattr(settings, name) == (value.strip() if isinstance(value, str) else value)
    # Forms and URIs send numbers as text.
    text = {name: str(value) for name, value in extra.items()}
    assert Settings.parse("eu", password="sk-0123456789", host=host, extra=text) == settings


@EVERY_RUN_THE_SAME
@given(KEYS, st.sampled_from(("", "Bearer ", "bearer\t", " BEARER   ")), st.text(" \t\n", max_size=3))
def test_pasted_prefix_and_white_space_do_not_change_the_key(key: str, before: str, space: str) -> None:
    pasted = Settings.parse("eu", password=f"{space}{before}{key}{space}")
    assert pasted == Settings.parse("eu", password=key)
    assert pasted.api_key == key


@EVERY_RUN_THE_SAME
@given(st.none() | WORDS)
def test_any_password_is_a_key_or_refused_without_being_shown(password: str | None) -> None:
    found = attempt(lambda: Settings.parse("eu", password=password), StabilityConfigurationError)
    if isinstance(found, Settings):
        assert re.fullmatch(r"[\x21-\x7e]+", found.api_key)
    else:
        assert REFUSED_PASSWORD.fullmatch(str(found))


@pytest.mark.parametrize("name", EXTRA_FIELDS)
@EVERY_RUN_THE_SAME
@given(data=st.data())
def test_any_value_of_an_extra_field_is_used_or_refused_by_field(name: str, data: st.DataObject) -> None:
    value = data.draw(VALUES)
    found = attempt(
        lambda: Settings.parse("eu", password="sk-0123456789", extra={name: value}),
        StabilityConfigurationError,
    )
    if isinstance(found, Settings):
        check(found)
        used = getattr(found, name)
        if isinstance(used, float) and value is not None and str(value).strip():
            assert math.isclose(used, float(value))
    else:
        assert f"extra field {name!r}" in str(found)
        assert str(found).endswith((EXTRA_FIELDS[name].allowed, "is true"))
