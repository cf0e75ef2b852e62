"""The requests that the simulator records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.fault import Fault


class Headers(Mapping[str, str]):
    """The headers of a request, looked up in any case. Of repeated ones the last counts.

    Its ``repr`` hides the value of Authorization, so that a failed assertion does not print a key.

    :param pairs: names and values in the order received.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values = {name.lower(): (name, value) for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        """Return the value of header ``name``; raises KeyError if the request has none."""
        return self._values[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names as the client spelled them."""
        return (name for name, _ in self._values.values())

    def __len__(self) -> int:
        """Return the number of different names."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show all headers, but not the key."""
        visible = {name: "***" if name.lower() == "authorization" else self[name] for name in self}
        return f"Headers({visible!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One request as received, and how it was answered.

    :param method: such as GET.
    :param path: without the query string.
    :param headers: names are looked up in any case.
    :param organization: the Organization header as sent; None if it was absent or empty.
    :param at: when it had been read, in seconds since the epoch.
    :param body: the bytes of the body, empty if there was none.
    :param status: of the answer; 0 while it is delayed, and for a connection that was reset.
    :param answered_at: when the answer was decided, in seconds since the epoch; None if there is none.
    :param credits: the balance in the answer; None if it held none, or the body was cut.
    :param fault: the fault that affected it.
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
