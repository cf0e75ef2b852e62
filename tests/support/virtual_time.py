"""An event loop whose time stands still while a call is under way, and else jumps to what is due next.

An hour of waiting takes as long as the requests that are made in it, and every time is exact.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

__all__ = ["THREAD_NAME", "VirtualClock", "VirtualLoop", "pass_time"]

_Result = TypeVar("_Result")
_Args = TypeVarTuple("_Args")

THREAD_NAME: Final = "stability-poll"
_EPOCH: Final = 1_769_860_800.0  # 2026-01-31 12:00:00 UTC
_TURN: Final = 0.0005
"""Seconds of real time between two looks whether a call is over."""


class VirtualClock:
    """What ``Timing`` takes for a clock. It starts at 0, which is 2026-01-31 12:00:00 UTC."""

    def __init__(self) -> None:
        self.now = 0.0
        self.monotonic: Callable[[], float] = lambda: self.now
        self.time: Callable[[], float] = lambda: _EPOCH + self.now


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that goes by a virtual clock.

    :param clock: the clock, which this loop moves.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._in_executors = 0
        self._others = set(threading.enumerate())  # such as calls that an earlier test has left hanging
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Args]], _Result], *args: *_Args
    ) -> asyncio.Future[_Result]:
        future = super().run_in_executor(executor, func, *args)
        self._in_executors += 1
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _: object) -> None:
        self._in_executors -= 1

    def is_call_under_way(self) -> bool:
        """Whether a thread may still have something to say to this loop."""
        return self._in_executors > 0 or any(
            each.name == THREAD_NAME and each not in self._others for each in threading.enumerate()
        )


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self._loop.is_call_under_way():
            return super().select(_TURN)
        # What a call had to say, it has said before its thread ended.
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing is due any more: the test would wait for ever"
            self._loop.clock.now += timeout
        return events


async def pass_time(seconds: float) -> None:
    """Let so much virtual time pass, and all happen that is due in it."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(seconds)
