"""Where a scenario is played: its connection, and everything that its service was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.canary import Canary

__all__ = ["Action", "Service", "Stage", "simulator"]


@dataclass
class Stage:
    """One scenario on one path.

    :param connection: the file with its Airflow connection, which need not be there.
    :param canary: its key.
    :param other: a key to change to.
    """

    connection: Path
    canary: Canary
    other: Canary
    simulators: list[Simulator] = field(default_factory=list)
    tapped: list[bytes] = field(default_factory=list)  # what went to servers that must not see the key
    timers: list[threading.Timer] = field(default_factory=list)
    strays: list[Callable[[], int]] = field(default_factory=list)  # count requests that must not be made

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless the scenario has ended."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self.timers.append(timer)
        timer.start()

    def connect(self, host: str, password: str | None = None, **extra: object) -> None:
        """Replace the connection atomically."""
        draft = self.connection.with_suffix(".draft")
        draft.write_text(
            json.dumps(
                {
                    "conn_type": "stability",
                    "host": host,
                    "password": self.canary.key if password is None else password,
                    "extra": {"timeout": 20, **extra},
                }
            ),
            encoding="utf-8",
        )
        draft.replace(self.connection)

    def disconnect(self) -> None:
        """Delete the connection."""
        self.connection.unlink()

    @property
    def asked_at(self) -> list[float]:
        """The times of the requests."""
        return sorted(each.at for simulator in self.simulators for each in simulator.requests)

    @property
    def stray_requests(self) -> int:
        """The number of requests to hosts that must get none."""
        return sum(count() for count in self.strays)

    @property
    def has_tapped_a_key(self) -> bool:
        """Whether a server that must not see the key has seen it."""
        return any(self.canary.found_in(each) for each in self.tapped)


Service = Callable[[Stage], AbstractContextManager[None]]
"""What answers in a scenario, from before the task starts until after it has ended; sets the connection."""

Action = Callable[[Stage, Simulator], None]
"""What happens right after an answer was decided, and before it is sent."""


def simulator(
    *answers: Mapping[str, Any],
    credits: float = 52.5,  # noqa: A002  # the service's own word
    then: Mapping[int, Action] | None = None,
    **extra: Any,
) -> Service:
    """Return a service that gives these answers, one after the other, and from then on the balance.

    :param answers: faults, as ``Simulator.fail`` takes them.
    :param credits: the balance.
    :param then: what happens after which answer, counted from 1.
    :param extra: what the connection's extra field holds.
    """

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        told = iter(range(1, 10_000))

        def tell(_: object) -> None:
            action = (then or {}).get(next(told))
            if action is not None:
                action(stage, running)

        with Simulator(credits=credits, api_key=stage.canary.key, on_answer=tell) as running:
            for answer in answers:
                running.fail(**answer)
            stage.simulators.append(running)
            stage.connect(running.base_url, **extra)
            try:
                yield
            finally:
                for timer in stage.timers:
                    timer.cancel()

    return serve
