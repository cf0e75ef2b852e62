"""What one wait for credits knows: last balance, last error, until when the service wants no request.

It belongs to one execution of a task and not to the operator, which Airflow copies, serializes and shares; so
it is found through a context variable. From one rescheduled process to the next it travels in Airflow's task
state store, which exists from 3.3 on. Earlier versions have nothing for it: they clear a task's XComs before
every poke (2.11 ``TaskInstance._execute_task_with_callbacks``, 3.x
``execution_api/routes/task_instances.py``).
"""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_stability.gate.credits import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_stability.exceptions import StabilityError

__all__ = ["Wait", "current_wait", "moment", "waiting"]

log = logging.getLogger(__name__)

_KEY: Final = "stability_wait"


@dataclass
class Wait:
    """What is known. Times are seconds since the epoch, as they outlive the process; but for the pause.

    :param credits: the last balance that was read.
    :param error: the last error's message; none of ours holds a secret.
    :param error_kind: its class.
    :param pause: seconds that the service last asked to be left alone for.
    :param pause_end: when that ends, by the monotonic clock of this process: a clock that somebody sets must
        neither lengthen nor shorten it.
    :param was_read: whether the connection has been there.
    :param survives: whether the next poke will know all this.
    """

    credits: float | None = None
    credits_at: float = 0.0
    error: str | None = None
    error_kind: str | None = None
    error_at: float = 0.0
    pause: float = 0.0
    pause_end: float = 0.0
    was_read: bool = False
    survives: bool = True

    def found(self, available: float) -> None:
        """Note a balance."""
        self.credits, self.credits_at = available, time.time()

    def failed(self, error: StabilityError) -> None:
        """Note an error, and how long the service asked for."""
        self.error, self.error_kind, self.error_at = str(error), type(error).__name__, time.time()
        if error.pause:
            self.pause, self.pause_end = error.pause, time.monotonic() + error.pause

    @property
    def pause_left(self) -> float:
        """Seconds until a request is welcome again; 0 where none is unwelcome."""
        return max(0.0, self.pause_end - time.monotonic())

    def summary(self, needed: float) -> str:
        """Return what to read when the wait has ended without enough credits."""
        if self.credits is None:
            known = "No balance was read."
        else:
            known = f"Last balance, at {moment(self.credits_at)}: {describe(self.credits, needed)}."
        return (
            known if self.error is None else f"{known} Last error, at {moment(self.error_at)}: {self.error}."
        )


def moment(seconds: float) -> str:
    """Return seconds since the epoch as a text to read."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_current: ContextVar[Wait | None] = ContextVar("stability_wait", default=None)


def current_wait() -> Wait:
    """Return the wait that is going on here; a new one where a poke is called by itself."""
    return _current.get() or Wait()


@contextmanager
def waiting(context: Mapping[str, Any], *, rescheduled: bool) -> Iterator[Wait]:
    """Make a wait the current one for as long as one process works on it.

    :param context: the task's.
    :param rescheduled: whether the next poke may be another process, which then goes on with what this one
        knew.
    """
    store = _Store(context) if rescheduled else None
    wait = store.recall() if store else Wait()
    wait.survives = store is None or store.is_there
    token = _current.set(wait)
    try:
        yield wait
    except Exception:
        # A reschedule is an exception to Airflow, and a success needs no memory.
        if store:
            store.remember(wait)
        raise
    finally:
        _current.reset(token)


class _Store:
    """Airflow's task state store (3.3 and later), for one try of a task. Without it nothing is remembered.

    A wait goes on where the store fails: then it is as if there were none.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._accessor = context.get("task_state_store")
        self._try_number = getattr(context.get("ti"), "try_number", None)

    @property
    def is_there(self) -> bool:
        """Whether this Airflow has one, and it works."""
        return self._accessor is not None

    def recall(self) -> Wait:
        """Return what an earlier process of this try knew."""
        kept = self._try(lambda accessor: accessor.get(_KEY))
        if not isinstance(kept, dict) or kept.get("try_number") != self._try_number:
            return Wait()
        names = {field.name for field in dataclasses.fields(Wait)}
        wait = Wait(**{name: value for name, value in kept.items() if name in names})
        # Processes have no clock in common but the one that can be set: never more than was asked for.
        left = min(wait.pause, max(0.0, wait.pause_end - time.time()))
        wait.pause_end = time.monotonic() + left
        return wait

    def remember(self, wait: Wait) -> None:
        """Keep what is known for the next process."""
        known = {
            **dataclasses.asdict(wait),
            "pause_end": time.time() + wait.pause_left,
            "try_number": self._try_number,
        }
        self._try(lambda accessor: accessor.set(_KEY, known))

    def _try(self, action: Callable[[Any], Any]) -> Any:
        if self._accessor is None:
            return None
        try:
            return action(self._accessor)
        except Exception as error:  # noqa: BLE001  # a memory is worth less than the wait
            self._accessor = None
            log.warning("The next poke will not know what this one does: %s", error)
            return None
