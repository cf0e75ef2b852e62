"""Plugins of pytest: what the tests do without a mutant, and those that are chosen for one."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    import coverage

__all__ = ["HANGS", "TEST_FACTOR", "Chosen", "Recorder"]

SLOW: Final = "airflow_database"
"""A test that asks for this fixture runs a whole DAG, and is no test to run for each of many mutants."""

# How long a test may take beyond what it takes without a mutant, before it counts as hanging.
TEST_FACTOR: Final = 6.0
TEST_SECONDS: Final = 6.0

HANGS: Final = 97  # exit status of a fork whose test took too long


def _is_slow(item: pytest.Item) -> bool:
    return SLOW in getattr(item, "fixturenames", ())


class Recorder:
    """A pytest plugin: how long each test takes, and in which lines it has been."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the slow ones out."""
        items[:] = [each for each in items if not _is_slow(each)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take the time of a test."""
        self._measured.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            self._measured.switch_context("")


class Chosen:
    """A pytest plugin: runs the chosen tests only, the fastest first, each for so long at most.

    :param tests: the chosen ones, with the seconds that each takes.
    :param seen: those that ran without a mutant.
    :param patience: by how much to multiply the time that a test has.
    """

    def __init__(self, tests: dict[str, float], seen: set[str], patience: float) -> None:
        self._tests = tests
        self._others = seen - tests.keys()
        self._patience = patience
        self.ran = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose, and sort."""
        # Those that nobody has seen are made of values that the mutant changes.
        chosen = [each for each in items if each.nodeid not in self._others and not _is_slow(each)]
        items[:] = sorted(chosen, key=lambda each: self._tests.get(each.nodeid, 0.0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """End the process where a test takes too long."""
        self.ran += 1
        signal.signal(signal.SIGALRM, self._hang)
        signal.setitimer(signal.ITIMER_REAL, self._limit(item.nodeid))
        self._now = item.nodeid
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _limit(self, test: str) -> float:
        return (TEST_SECONDS + TEST_FACTOR * self._tests.get(test, 0.0)) * self._patience

    def _hang(self, *_: object) -> None:
        print(f"HANGS {self._now}", flush=True)
        os._exit(HANGS)
