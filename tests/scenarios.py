"""The scenarios: what the service does over time, and what the task must end as. One table for every path."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from scenarios_stage import simulator

if TYPE_CHECKING:
    from scenarios_stage import Service

__all__ = ["PATHS", "TABLE", "Scenario"]

PATHS: Final = ("poke", "reschedule", "deferrable", "zero_worker", "dag_test")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    :param name: what happens, in words.
    :param service: what answers.
    :param gate: parameters of the sensor; by default it needs 40 credits.
    :param state: what the task ends as, after one try.
    :param xcom: what it pushes; None for nothing.
    :param says: patterns that its log must have.
    :param requests: how many the service gets, at least and at most.
    :param pause: seconds between the first and the second request at least.
    """

    name: str
    service: Service
    gate: dict[str, Any] = field(default_factory=dict)
    state: str = "success"
    xcom: float | None = None
    says: tuple[str, ...] = ()
    requests: tuple[int, int]
    pause: float = 0.0

    @property
    def slug(self) -> str:
        """The name as a part of an id."""
        return re.sub(r"\W+", "_", self.name).strip("_").lower()


LITTLE: Final = {"body": '{"credits": 12.5}'}
SHORT: Final = "12.5 credits, need 40, short 27.5"
OPEN: Final = "52.5 credits, need 40: open"

TABLE: Final = (
    Scenario(name="open at once", service=simulator(), xcom=52.5, says=(OPEN,), requests=(1, 1)),
    Scenario(
        name="opens later",
        service=simulator(LITTLE | {"times": 2}),
        xcom=52.5,
        says=(SHORT, OPEN),
        requests=(3, 3),
    ),
    Scenario(
        name="never opens",
        service=simulator(credits=12.5),
        gate={"timeout": 1.5},
        state="failed",
        says=(SHORT, "Last balance, at"),
        requests=(1, 12),
    ),
    Scenario(
        name="401 at once",
        service=simulator({"status": 401, "times": None}),
        state="failed",
        says=("401 unauthorized", "Put a valid API key"),
        requests=(1, 1),
    ),
)
