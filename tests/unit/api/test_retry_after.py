"""The Retry-After header, as services, proxies and gateways write it."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.api.retry_after import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def _in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("030", 30.0),
        ("0.5", 0.5),
        ("1.", 1.0),
        ("59.999", 59.999),
        ("86400", 86400.0),
        ("999999999999999", 999999999999999.0),
    ],
)
def test_whole_and_fractional_seconds_are_read(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "-1",
        "-0.5",
        "+5",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "1,5",
        "5 s",
        ".5",
        "5, 10",
        "\u0663",  # a digit, in Arabic
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +999999",
        "2026-01-01T00:00:00Z",
        "\0",
        "(" * 1000,
        "9" * 5000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_unreadable_value_counts_as_absent(value: str | None) -> None:
    assert parse_retry_after(value, DATE) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:50:37 +0000", 60.0),
        ("Sun, 06 Nov 1994 09:50:37 +0100", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 86400.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_date_counts_from_the_date_header_and_not_from_our_clock(value: str, seconds: float) -> None:
    assert parse_retry_after(value, DATE, now=lambda: NOW + 12345) == seconds


@pytest.mark.usefixtures("_in_tokyo")
@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:50:37 GMT",
        "Sunday, 06-Nov-94 08:50:37 GMT",
        "Sun Nov  6 08:50:37 1994",
        "Sun, 06 Nov 1994 08:50:37 -0000",
    ],
)
def test_every_date_format_is_in_gmt_whatever_the_local_time_zone(value: str) -> None:
    assert parse_retry_after(value, DATE) == 60.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_date_counts_from_our_clock_without_a_readable_date_header(date: str | None) -> None:
    assert parse_retry_after(formatdate(NOW + 45, usegmt=True), date, now=lambda: NOW) == 45.0
    assert parse_retry_after(formatdate(NOW - 45, usegmt=True), date, now=lambda: NOW) == 0.0


def test_default_clock_is_the_system_clock() -> None:
    in_an_hour = formatdate(time.time() + 3600, usegmt=True)
    assert parse_retry_after(in_an_hour) == pytest.approx(3600, abs=60)


def test_seconds_do_not_depend_on_any_clock() -> None:
    def broken_clock() -> float:
        raise AssertionError

    assert parse_retry_after("20", DATE, now=broken_clock) == 20.0
