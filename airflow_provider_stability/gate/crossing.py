"""When a balance has crossed a threshold: once per crossing, however much it varies. Knows numbers only."""

from __future__ import annotations

from typing import Final, Literal, get_args

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.credits import is_enough, parse_credits

__all__ = ["CrossingDetector", "Direction"]

Direction = Literal["below", "above"]
_DIRECTIONS: Final = get_args(Direction)


class CrossingDetector:
    """Tells for each balance whether the threshold has just been crossed.

    It fires when it is armed and the balance is past the threshold, and is then disarmed until the balance
    has come back by the re-arm band. The first balance only shows on which side the account is: no crossing.

    :param threshold: credits. ``below`` it are fewer, ``above`` are as many or more: enough for a gate.
    :param direction: which crossing counts.
    :param band: credits by which the balance must come back before the next crossing counts; 0 or more, for
        ``above`` at most the threshold.
    :raises StabilityParameterError: for any other value.
    """

    def __init__(self, threshold: object, direction: object, band: object = 0.0) -> None:
        if direction not in _DIRECTIONS:
            raise StabilityParameterError(
                f"direction is {direction!r}; it must be {' or '.join(map(repr, _DIRECTIONS))}"
            )
        self._threshold = parse_credits("threshold", threshold)
        self._is_below = direction == "below"
        self._band = parse_credits("rearm_band", band)
        if not self._is_below and self._band > self._threshold:
            raise StabilityParameterError(
                f"rearm_band is {band!r}; with direction 'above' it must be at most the threshold, "
                f"{threshold!r}: the balance would have to fall below 0 before the next event"
            )
        self.is_armed: bool | None = None
        """None until the first balance. If it is kept over a restart, no crossing is lost or invented."""

    def has_crossed(self, available: float) -> bool:
        """Return whether the balance has just crossed the threshold."""
        is_past = is_enough(available, self._threshold) != self._is_below
        if self.is_armed is None:
            self.is_armed = not is_past
        elif self.is_armed:
            self.is_armed = not is_past
            return is_past
        elif not is_past:
            self.is_armed = self._is_back(available)
        return False

    def _is_back(self, available: float) -> bool:
        if self._is_below:
            return available >= self._threshold + self._band
        return available <= self._threshold - self._band
