"""Blocking calls from an event loop, each in a daemon thread of its own.

Not in the loop's default executor: Python waits for its threads when it exits, so a request that hangs would
delay the end of the triggerer by its whole timeout (measured: 8 s). Nobody waits for a daemon thread.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_stability.exceptions import StabilityConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_in_daemon_thread"]

_Result = TypeVar("_Result")


async def call_in_daemon_thread(function: Callable[[], _Result]) -> _Result:
    """Call a function in a new thread, and return or raise what it does.

    :raises StabilityConnectionError: if the operating system has no thread left.
    """
    future: Future[_Result] = Future()
    future.set_running_or_notify_cancel()  # from here on it cannot be cancelled: the thread will set a result

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001  # it is raised in the caller
            future.set_exception(error)

    try:
        threading.Thread(target=run, name="stability-poll", daemon=True).start()
    except RuntimeError as error:
        raise StabilityConnectionError(f"no thread could be started for the request: {error}") from None
    return await asyncio.wrap_future(future)
