"""Daemon threads that make blocking calls for an event loop.

Not the loop's default executor: Python waits for its threads at exit, so that one hanging request would hold
up the triggerer's stop for as long as its timeout (measured: 8 s). Nobody waits for these.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST", "CallThreads"]

MOST: Final = 8
"""Threads at most."""

_State = TypeVar("_State")


class CallThreads(Generic[_State]):
    """A few threads, started when they are needed. Each has a state of its own, such as a client.

    :param make_state: makes the state of a thread from nothing.
    :param end_state: releases it when the thread ends.
    """

    def __init__(self, make_state: Callable[[], _State], end_state: Callable[[_State], None]) -> None:
        self._make_state = make_state
        self._end_state = end_state
        self._calls: queue.SimpleQueue[tuple[Callable[[_State], Any], asyncio.Future[Any]] | None]
        self._calls = queue.SimpleQueue()
        self._started = 0
        # Calls that are made or wait to be, also for callers who have left: a thread that hangs is no free
        # one.
        self._open = 0
        self._lock = threading.Lock()

    async def call(self, function: Callable[[_State], Any]) -> Any:
        """Run a function in one of the threads, on that thread's state, and return what it returns.

        A caller that is cancelled leaves the thread to finish by itself.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._open += 1
            if self._open > self._started and self._started < MOST:
                self._started += 1
                threading.Thread(target=self._work, name="stability-poll", daemon=True).start()
        self._calls.put((function, future))
        return await future

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        state = self._make_state()
        try:
            while (item := self._calls.get()) is not None:
                self._make(state, *item)
        finally:
            self._end_state(state)

    def _make(self, state: _State, function: Callable[[_State], Any], future: asyncio.Future[Any]) -> None:
        result, error = None, None
        try:
            if not future.cancelled():
                result = function(state)
        except Exception as raised:  # noqa: BLE001  # it is the caller's, and goes there
            error = raised
        with self._lock:
            self._open -= 1  # before the caller knows, whose next call is to find this thread free
        # The loop may have been closed while the call hung; then nobody is left to tell.
        with suppress(RuntimeError):
            future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
