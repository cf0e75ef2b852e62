"""One wait for credits on a worker: what its pokes have found, and until when they must make no request.

A wait belongs to one execution of a task and not to the operator, which Airflow copies, serializes and
shares; so a context variable leads to it. In reschedule mode every poke is a new process: the wait is then
kept in Airflow's task state store, which exists from 3.3 on. Earlier versions have nothing for it: they clear
a task's XComs before every poke (2.11 ``TaskInstance._execute_task_with_callbacks``, 3.x
``execution_api/routes/task_instances.py``).
"""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.gate.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_stability.exceptions import StabilityError

__all__ = ["Wait", "current_wait", "waiting"]

log = logging.getLogger(__name__)

_KEY: Final = "stability_wait"


@dataclass
class Wait:
    """What the pokes of one wait have found.

    :param latest: the balance and the error.
    :param pause: seconds that the service last asked for without requests.
    :param pause_end: when they end, by the monotonic clock of this process: setting the wall clock must
        neither lengthen nor shorten a pause.
    :param connection_was_read: whether the connection has been found at least once.
    :param survives: whether the next poke will know all this.
    """

    latest: Observation = field(default_factory=Observation)
    pause: float = 0.0
    pause_end: float = 0.0
    connection_was_read: bool = False
    survives: bool = True

    def add_credits(self, available: float) -> None:
        """Record a balance."""
        self.latest = self.latest.with_credits(available, time.time())

    def add_error(self, error: StabilityError) -> None:
        """Record an error, and the pause that the service asked for with it."""
        self.latest = self.latest.with_error(error, time.time())
        if error.pause:
            self.pause, self.pause_end = error.pause, time.monotonic() + error.pause

    @property
    def pause_left(self) -> float:
        """Seconds until the next request is allowed; 0 if it is now."""
        return max(0.0, self.pause_end - time.monotonic())


_current: ContextVar[Wait | None] = ContextVar("stability_wait", default=None)


def current_wait() -> Wait:
    """Return the wait of the task that runs here; a new one where ``poke`` is called on its own."""
    return _current.get() or Wait()


@contextmanager
def waiting(context: Mapping[str, Any], *, rescheduled: bool) -> Iterator[Wait]:
    """Make a wait the current one while a process works on it.

    :param context: the task's.
    :param rescheduled: whether the next poke may be another process, which then continues with what this one
        found.
    """
    store = _Store(context) if rescheduled else None
    wait = store.load() if store else Wait()
    wait.survives = store is None or store.is_available
    token = _current.set(wait)
    try:
        yield wait
    except Exception:
        # To Airflow, a reschedule is an exception. A success needs no memory.
        if store:
            store.save(wait)
        raise
    finally:
        _current.reset(token)


class _Store:
    """Airflow's task state store (3.3 and later), for one try of a task.

    Where there is none, or it fails, nothing is kept and the wait continues.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._accessor = context.get("task_state_store")
        self._try_number = getattr(context.get("ti"), "try_number", None)

    @property
    def is_available(self) -> bool:
        """Whether this Airflow has a store, and it works."""
        return self._accessor is not None

    def load(self) -> Wait:
        """Return the wait as an earlier process of this try has left it."""
        kept = self._try(lambda accessor: accessor.get(_KEY))
        if not isinstance(kept, dict) or kept.get("try_number") != self._try_number:
            return Wait()
        wait: Wait = _known_fields(Wait, kept)
        wait.latest = _known_fields(Observation, kept.get("latest") or {})
        # Two processes share no clock but the wall clock, which can be set: never pause for longer than was
        # asked.
        wait.pause_end = time.monotonic() + min(wait.pause, max(0.0, wait.pause_end - time.time()))
        return wait

    def save(self, wait: Wait) -> None:
        """Keep the wait for the next process."""
        kept = dataclasses.asdict(wait) | {"pause_end": time.time() + wait.pause_left}
        self._try(lambda accessor: accessor.set(_KEY, kept | {"try_number": self._try_number}))

    def _try(self, action: Callable[[Any], Any]) -> Any:
        if self._accessor is None:
            return None
        try:
            return action(self._accessor)
        except Exception as error:  # noqa: BLE001  # the wait matters more than its memory
            self._accessor = None
            log.warning(
                "The next poke will not know what this one found; Airflow's task state store failed: %s",
                error,
            )
            return None


def _known_fields(cls: Any, kept: dict[str, Any]) -> Any:
    """Make an instance of what another version of this package may have stored."""
    names = {each.name for each in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in kept.items() if name in names})
