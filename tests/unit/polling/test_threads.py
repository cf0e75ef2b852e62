"""Blocking calls in daemon threads, whatever becomes of their callers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from airflow_provider_stability.polling.threads import call_in_daemon_thread
from support.polling_gates import in_a_loop, until


@in_a_loop
async def test_a_call_returns_or_raises_what_its_function_does() -> None:
    assert await call_in_daemon_thread(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await call_in_daemon_thread(lambda: 1 / 0)


@in_a_loop
async def test_each_call_has_a_daemon_thread_that_ends_with_it() -> None:
    together = threading.Barrier(20, timeout=30)

    def call() -> threading.Thread:
        together.wait()  # would break if one call waited for another
        return threading.current_thread()

    threads = await asyncio.gather(*(call_in_daemon_thread(call) for _ in range(20)))
    assert len(set(threads)) == 20
    assert all(each.daemon for each in threads)
    await until(lambda: not any(each.is_alive() for each in threads))


@in_a_loop
async def test_a_call_whose_caller_is_cancelled_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken: list[object] = []
    monkeypatch.setattr(threading, "excepthook", broken.append)
    begun, end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hang() -> None:
        threads.append(threading.current_thread())
        begun.set()
        end.wait(30)

    caller = asyncio.create_task(call_in_daemon_thread(hang))
    try:
        await until(begun.is_set)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
    finally:
        end.set()
    await until(lambda: not threads[0].is_alive())
    assert broken == []


def test_a_call_that_hangs_delays_neither_the_end_of_the_loop_nor_of_the_process() -> None:
    program = """
import asyncio, threading
from airflow_provider_stability.polling.threads import call_in_daemon_thread
async def main():
    call = asyncio.create_task(call_in_daemon_thread(lambda: threading.Event().wait(300)))
    await asyncio.sleep(0)
asyncio.run(main())
print("the end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert (done.stdout, done.stderr) == ("the end\n", "")
