"""One wait for credits on a worker: what its pokes have found, and until when they must make no request.

A wait belongs to one execution of a task and not to the operator, which Airflow copies and shares; so a
context variable leads to it. In reschedule mode every poke is a new process: the wait is then kept in
Airflow's task state store, which exists from 3.3 on. Before, nothing is kept: Airflow clears a task's XComs
before every poke (2.11 ``TaskInstance._execute_task_with_callbacks``, 3.x
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
    from collections.abc import Iterator, Mapping

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
        found. Where Airflow has no store, or it fails, nothing is kept and the wait continues.
    """
    store = context.get("task_state_store") if rescheduled else None
    try_number = getattr(context.get("ti"), "try_number", None)
    wait = Wait(survives=False) if rescheduled else Wait()
    if store is not None:
        with _not_worth_a_wait():
            wait = _from_stored(store.get(_KEY), try_number)
    token = _current.set(wait)
    try:
        yield wait
    except Exception:
        # To Airflow, a reschedule is an exception. A success needs no memory.
        if store is not None and wait.survives:
            stored = dataclasses.asdict(wait) | {"pause_end": time.time() + wait.pause_left}
            with _not_worth_a_wait():
                store.set(_KEY, stored | {"try_number": try_number})
        raise
    finally:
        _current.reset(token)


def _from_stored(stored: Any, try_number: object) -> Wait:
    """Return the wait that an earlier process of this try has stored; else a new one."""
    if not isinstance(stored, dict) or stored.get("try_number") != try_number:
        return Wait()
    values = {name: value for name, value in stored.items() if name != "try_number"}
    try:
        wait = Wait(**values | {"latest": Observation(**stored["latest"])})
    except (TypeError, KeyError):  # stored by another version of this package
        return Wait()
    # Two processes share only the wall clock, which can be set: never pause for longer than was asked.
    wait.pause_end = time.monotonic() + min(wait.pause, max(0.0, wait.pause_end - time.time()))
    return wait


@contextmanager
def _not_worth_a_wait() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # the wait matters more than its memory
        log.warning(
            "The next poke will not know what this one found; Airflow's task state store failed: %s", error
        )
