"""When a balance has crossed a threshold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.crossing import CrossingDetector


def crossings(direction: str, balances: list[float], threshold: float = 100, band: float = 20) -> list[float]:
    detector = CrossingDetector(threshold, direction, band)
    return [each for each in balances if detector.has_crossed(each)]


@pytest.mark.parametrize(
    ("direction", "balances", "fired"),
    [
        ("below", [150, 120, 99.9, 50, 10], [99.9]),
        ("below", [150, 100, 99.9], [99.9]),
        ("below", [50, 40], []),  # the first balance is no crossing
        ("below", [50, 119, 90], []),  # not back by the band
        ("below", [150, 99, 119, 98, 120, 97], [99, 97]),
        ("above", [50, 100, 150], [100]),
        ("above", [150, 160], []),
        ("above", [50, 100, 81, 101, 80, 100.5], [100, 100.5]),
        ("above", [-5, 1000], [1000]),
    ],
)
def test_a_crossing_counts_once_until_the_balance_has_come_back(
    direction: str, balances: list[float], fired: list[float]
) -> None:
    assert crossings(direction, balances) == fired


@pytest.mark.parametrize(("direction", "fired"), [("below", [99.0] * 3), ("above", [101.0] * 2)])
def test_every_crossing_counts_without_a_band(direction: str, fired: list[float]) -> None:
    assert crossings(direction, [101.0, 99.0] * 3, band=0) == fired


def test_a_detector_has_no_band_unless_it_is_given_one() -> None:
    detector = CrossingDetector(100, "below")
    assert [detector.has_crossed(each) for each in (101, 99, 100, 99)] == [False, True, False, True]


def test_a_band_as_wide_as_the_threshold_is_passed_at_a_balance_of_0() -> None:
    assert crossings("above", [10, 50, 1, 51, 0, 52], threshold=40, band=40) == [50, 52]


def test_a_detector_with_the_state_of_an_earlier_one_continues_where_that_stopped() -> None:
    detector = CrossingDetector(100, "below")
    detector.is_armed = True
    assert detector.has_crossed(50)

    continued = CrossingDetector(100, "below")
    continued.is_armed = detector.is_armed
    assert not continued.has_crossed(50)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"direction": "sideways"}, "direction is 'sideways'; it must be 'below' or 'above'"),
        ({"direction": None}, "direction is None; it must be 'below' or 'above'"),
        ({"threshold": -1}, "threshold is -1; it must be a finite number of 0 or more"),
        ({"threshold": "many"}, "threshold is 'many'; it must be a finite number of 0 or more"),
        ({"band": float("inf")}, "rearm_band is inf; it must be a finite number of 0 or more"),
        ({"band": -1}, "rearm_band is -1; it must be a finite number of 0 or more"),
        (
            {"direction": "above", "threshold": 40, "band": 41},
            (
                "rearm_band is 41; with direction 'above' it must be at most the threshold, 40: "
                "the balance would have to fall below 0 before the next event"
            ),
        ),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_with_what_it_must_be(wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"threshold": 100, "direction": "below"}
    with pytest.raises(StabilityParameterError, match=f"^{re.escape(message)}$"):
        CrossingDetector(**(given | wrong))


@pytest.mark.parametrize(("direction", "band"), [("above", 40), ("below", 41)])
def test_a_band_may_be_as_wide_as_a_balance_can_come_back(direction: str, band: float) -> None:
    detector = CrossingDetector(40, direction, band)
    assert not detector.has_crossed(50)
