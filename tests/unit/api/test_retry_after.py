"""The Retry-After header, as services, proxies and gateways write it."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.api.retry_after import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

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
def test_seconds_are_read_whole_or_not(value: str, seconds: float) -> None:
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
def test_what_cannot_be_read_counts_as_absent(value: str | None) -> None:
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
def test_a_date_counts_from_the_answers_own_date_and_not_from_our_clock(
    mocker: MockerFixture, value: str, seconds: float
) -> None:
    mocker.patch("time.time", return_value=NOW + 12345)
    assert parse_retry_after(value, DATE) == seconds


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
def test_each_form_of_a_date_is_in_gmt_wherever_this_machine_stands(value: str) -> None:
    assert parse_retry_after(value, DATE) == 60.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_a_date_counts_from_our_clock_where_the_answer_has_no_readable_one(
    mocker: MockerFixture, date: str | None
) -> None:
    mocker.patch("time.time", return_value=NOW)
    assert parse_retry_after(formatdate(NOW + 45, usegmt=True), date) == 45.0
    assert parse_retry_after(formatdate(NOW - 45, usegmt=True), date) == 0.0


def test_seconds_do_not_depend_on_any_clock(mocker: MockerFixture) -> None:
    mocker.patch("time.time", side_effect=AssertionError("looked at the clock"))
    assert parse_retry_after("20", DATE) == 20.0
