"""What the simulator keeps of a request that reached it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.fault import Fault


class Headers(Mapping[str, str]):
    """The headers of a request, found whatever their case; of repeated ones the last.

    Its ``repr`` leaves out what Authorization holds, so that a failing assertion does not print a key.

    :param pairs: names and values in the order they came.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values = {name.lower(): (name, value) for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        """Return the value of header ``name``; KeyError if the request had none."""
        return self._values[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, written as the client wrote them."""
        return (name for name, _ in self._values.values())

    def __len__(self) -> int:
        """Return how many different names there are."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show everything but the key."""
        shown = {name: "***" if name.lower() == "authorization" else self[name] for name in self}
        return f"Headers({shown!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One request, as it came and as it was answered.

    :param method: such as GET.
    :param path: without the query string.
    :param headers: ``headers.get("organization")`` works in any case.
    :param organization: the Organization header as sent; None when it was absent or empty.
    :param at: ``time.time()`` when it had been read.
    :param body: its bytes, empty without a body.
    :param status: of the answer; 0 while the answer is held back, and for a connection that was reset.
    :param answered_at: ``time.time()`` when its answer was decided; None where it has none yet, or never had.
    :param credits: the balance that the answer told; None for every other answer, and for one that was cut.
    :param fault: what it was hit by.
    """

    method: str
    path: str
    headers: Headers
    organization: str | None
    at: float
    body: bytes = field(default=b"", repr=False)
    status: int = 0
    answered_at: float | None = None
    credits: float | None = None
    fault: Fault | None = None
