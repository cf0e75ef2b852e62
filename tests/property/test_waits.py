"""When to ask again: any Retry-After, any traffic with a key; and any history of a balance that is seen."""

from __future__ import annotations

import itertools
import json
import math
from email.utils import format_datetime, formatdate
from typing import TYPE_CHECKING

from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_stability.api.retry_after import parse_retry_after
from airflow_provider_stability.exceptions import MAX_PAUSE, RateLimitError, ServerError
from airflow_provider_stability.gate.crossing import CrossingDetector
from airflow_provider_stability.polling.rate_limiter import RateLimiter
from airflow_provider_stability.polling.timing import Timing
from support.properties import EVERY_RUN_THE_SAME
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_WORDS = (
    *("Sun,", "Sunday,", "06", "31", "99", "Nov", "06-Nov-94", "1994", "99999", "-1", "08:49:37", "24:61:99"),
    *("GMT", "UTC", "+0100", "-9999", "+99999999", "PST", "1e3", "60", "nan", "inf", ".", ":", "\u0663"),
)
_DATE_LIKE = st.lists(st.sampled_from(_WORDS), max_size=8).map(" ".join)
HEADERS = st.text() | _DATE_LIKE | st.datetimes().map(format_datetime) | st.text("0123456789.,+-e ")
SECONDS = st.integers(0, 4_000_000_000)


@EVERY_RUN_THE_SAME
@given(st.none() | HEADERS, st.none() | HEADERS)
@example("9" * 400, None)
@example("Sun, 06 Nov 1994 08:49:37 -9999", "Fri, 31 Dec 9999 23:59:59 +9999")
def test_any_retry_after_is_a_pause_or_none(value: str | None, date: str | None) -> None:
    found = parse_retry_after(value, date)
    assert found is None or (type(found) is float and math.isfinite(found) and found >= 0)
    pause = RateLimitError("x", status_code=429, retry_after=found).pause
    assert pause == (60.0 if found is None else min(found, MAX_PAUSE))
    assert ServerError("x", status_code=503, retry_after=found).pause == min(found or 0, MAX_PAUSE)


@EVERY_RUN_THE_SAME
@given(st.integers(0, 10**9), st.text(" \t", max_size=3), st.none() | HEADERS)
def test_seconds_do_not_depend_on_the_date(seconds: int, around: str, date: str | None) -> None:
    assert parse_retry_after(f"{around}{seconds}{around}", date) == seconds


@EVERY_RUN_THE_SAME
@given(SECONDS, SECONDS)
def test_date_counts_from_the_date_of_the_response(now: int, until: int) -> None:
    value, date = formatdate(until, usegmt=True), formatdate(now, usegmt=True)
    assert parse_retry_after(value, date) == max(0, until - now)


@EVERY_RUN_THE_SAME
@given(st.datetimes(), st.datetimes())
def test_every_form_of_a_date_is_the_same_time(now: datetime, until: datetime) -> None:
    now, until = now.replace(microsecond=0), until.replace(microsecond=0)
    value, date = until.strftime("%A, %d-%b-%Y %H:%M:%S GMT"), now.strftime("%a %b %d %H:%M:%S %Y")
    if now.year >= 1000 <= until.year:  # strftime does not fill up the others
        assert parse_retry_after(value, date) == max(0.0, (until - now).total_seconds())


_STEPS = st.lists(
    st.tuples(st.just("ask"), st.integers(1, 200))
    | st.tuples(st.just("pass"), st.floats(0, 30))
    | st.tuples(st.just("pause"), st.floats(0, 30)),
    max_size=25,
)


@EVERY_RUN_THE_SAME
@given(_STEPS, st.floats(0, 1e6))
@example([("ask", 200), ("pass", 9.5), ("ask", 200), ("pause", 3.0), ("ask", 200)], 0.0)
def test_rate_limiter_allows_exactly_what_limit_and_pauses_allow(
    steps: list[tuple[str, float]], start: float
) -> None:
    clock = VirtualClock()
    clock.now = start
    timing = Timing(clock=clock)
    made: list[float] = []
    pauses: list[tuple[float, float]] = []
    limiter = RateLimiter(timing)
    for what, number in steps:
        if what == "pass":
            clock.now += number
        elif what == "pause":
            limiter.pause(number, "slow down")
            pauses.append((clock.now, clock.now + number))
        else:
            for _ in range(int(number)):
                while not limiter.try_acquire():
                    assert must_wait(timing, made, pauses)
                    clock.now = max(clock.now + limiter.delay, math.nextafter(clock.now, math.inf))
                made.append(clock.now)
    for first, last in zip(made, made[timing.requests :], strict=False):
        assert last - first >= timing.window * (1 - 1e-9)
    assert not [each for each in made for begin, end in pauses if begin < each < end]


def must_wait(timing: Timing, made: Sequence[float], pauses: Sequence[tuple[float, float]]) -> bool:
    """Tell by hand whether a request has to wait."""
    now = timing.clock.monotonic()
    recent = [each for each in made if each + timing.window >= now]
    return len(recent) >= timing.requests or any(end >= now for _, end in pauses)


BALANCES = st.lists(st.integers(0, 20) | st.floats(0, 20), max_size=40)
_DIRECTIONS = st.sampled_from(("below", "above"))


def crossings_by_hand(balances: Sequence[float], threshold: float, direction: str, band: float) -> list[int]:
    """Return where the threshold is crossed, each time looking back over all that was before."""

    def is_past(balance: float) -> bool:
        return balance < threshold if direction == "below" else balance >= threshold

    def is_back(balance: float) -> bool:
        return balance >= threshold + band if direction == "below" else balance <= threshold - band

    found = []
    for number, balance in enumerate(balances):
        earlier = balances[:number]
        past = [each for each, other in enumerate(earlier) if is_past(other)]
        between = earlier[past[-1] + 1 :] if past else earlier
        came_back = any(not is_past(each) and is_back(each) for each in between) if past else bool(earlier)
        if is_past(balance) and came_back:
            found.append(number)
    return found


@EVERY_RUN_THE_SAME
@given(BALANCES, st.integers(0, 20), _DIRECTIONS, st.integers(0, 6), st.sets(st.integers(0, 40)))
def test_crossing_fires_once_until_rearmed_across_restarts(
    balances: list[float], threshold: int, direction: str, band: int, restarts: set[int]
) -> None:
    assume(direction == "below" or band <= threshold)
    detector = CrossingDetector(threshold, direction, band)
    found = []
    for number, balance in enumerate(balances):
        if number in restarts:
            kept = json.dumps({"is_armed": detector.is_armed})
            detector = CrossingDetector(threshold, direction, band)
            detector.is_armed = json.loads(kept)["is_armed"]
        if detector.has_crossed(balance):
            found.append(number)
    assert found == crossings_by_hand(balances, threshold, direction, band)


@EVERY_RUN_THE_SAME
@given(BALANCES, st.floats(0, 20), _DIRECTIONS, st.floats(0, 6))
def test_balance_returns_by_the_band_between_two_crossings(
    balances: list[float], threshold: float, direction: str, band: float
) -> None:
    assume(direction == "below" or band <= threshold)
    detector = CrossingDetector(threshold, direction, band)
    fired = [number for number, balance in enumerate(balances) if detector.has_crossed(balance)]
    assert fired == crossings_by_hand(balances, threshold, direction, band)
    for first, second in itertools.pairwise(fired):
        between = balances[first + 1 : second]
        furthest = max(between) - threshold if direction == "below" else threshold - min(between)
        assert furthest >= band or math.isclose(furthest, band, abs_tol=1e-9)
