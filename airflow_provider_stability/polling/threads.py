"""Daemon threads that make blocking calls for an event loop.

Not the loop's default executor: Python waits for its threads at exit, so that one hanging request would hold
up the triggerer's stop for as long as its timeout (measured: 8 s). Nobody waits for these.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallThreads", "NoThreadError"]

MOST: Final = 8
"""Threads that make calls for somebody at most."""

_MOST_WITH_LEFT: Final = 32
"""The same with those that hang in a call whose caller has left."""

_State = TypeVar("_State")


class NoThreadError(Exception):
    """The operating system gives no thread."""


@dataclass(eq=False)
class _Call:
    """One call, from when it waits for a thread to when its caller knows or has left."""

    function: Callable[[Any], Any]
    future: asyncio.Future[Any]
    is_made: bool = False
    is_left: bool = False


class CallThreads(Generic[_State]):
    """A few threads, started when they are needed. Each has a state of its own, such as a client.

    :param make_state: makes the state of a thread from nothing.
    :param end_state: releases it when the thread ends.
    """

    def __init__(self, make_state: Callable[[], _State], end_state: Callable[[_State], None]) -> None:
        self._make_state = make_state
        self._end_state = end_state
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0  # threads, but for those that hang in a call whose caller has left
        self._left = 0  # these
        self._open = 0  # calls that are made or wait to be
        self._is_closed = False

    async def call(self, function: Callable[[_State], Any]) -> Any:
        """Run a function in one of the threads, on that thread's state, and return what it returns.

        A caller that is cancelled leaves the thread to finish by itself; another one takes its place.

        :raises NoThreadError: where none is to be had.
        """
        call = _Call(function, asyncio.get_running_loop().create_future())
        with self._lock:
            self._start_if_wanted(self._open + 1)
            self._open += 1
        self._calls.put(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._leave(call)
            raise

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._started):
                self._calls.put(None)

    def _start_if_wanted(self, calls: int) -> None:
        if not self._is_wanted(calls) or self._started + self._left >= _MOST_WITH_LEFT:
            return
        try:
            threading.Thread(target=self._work, name="stability-poll", daemon=True).start()
        except RuntimeError as error:
            if not self._started:  # those that are there will come to it
                raise NoThreadError(str(error)) from None
        else:
            self._started += 1

    def _is_wanted(self, calls: int) -> bool:
        return calls > self._started and self._started < MOST and not self._is_closed

    def _leave(self, call: _Call) -> None:
        with self._lock:
            if call.is_made:
                call.is_left = True
                self._open -= 1
                self._started -= 1
                self._left += 1
                with suppress(NoThreadError):  # the next call tries again, and this thread may come back
                    self._start_if_wanted(self._open)

    def _work(self) -> None:
        state = self._make_state()
        try:
            while (call := self._calls.get()) is not None:
                if not self._make(state, call):
                    return
        finally:
            self._end_state(state)

    def _make(self, state: _State, call: _Call) -> bool:
        """Make a call, and return whether this thread is to make more."""
        result, error = None, None
        with self._lock:
            call.is_made = not call.future.cancelled()
        if call.is_made:
            try:
                result = call.function(state)
            except Exception as raised:  # noqa: BLE001  # it is the caller's, and goes there
                error = raised
        with self._lock:  # before the caller knows, whose next call is to find this thread free
            if call.is_left:
                self._left -= 1
                # It stays where calls wait for which no thread could be started.
                stays = self._is_wanted(self._open)
                self._started += stays
                return stays
            self._open -= 1
            call.is_made = False
        # The loop may have been closed while the call hung; then nobody is left to tell.
        with suppress(RuntimeError):
            call.future.get_loop().call_soon_threadsafe(_settle, call.future, result, error)
        return True


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
