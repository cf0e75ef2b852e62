"""The log lines of a class or module of the package, whatever Airflow's own loggers do with them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

__all__ = ["level_and_text", "lines_of"]

_Line = TypeVar("_Line")


def level_and_text(record: logging.LogRecord) -> tuple[str, str]:
    """Return what most tests look at."""
    return record.levelname, record.getMessage()


@contextmanager
def lines_of(
    whose: type | ModuleType, monkeypatch: pytest.MonkeyPatch, line: Callable[[logging.LogRecord], _Line]
) -> Iterator[list[_Line]]:
    """Keep the lines that a class or module writes to its ``log``, until the end of the block.

    :param line: what is kept of each.
    """
    found: list[_Line] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(line(record))  # type: ignore[method-assign]
    log = logging.getLogger(f"tests.{whose.__name__}")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    # Airflow's own logger is another one in each version.
    monkeypatch.setattr(whose, "log", log)
    try:
        yield found
    finally:
        log.removeHandler(handler)
