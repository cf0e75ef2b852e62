"""The log lines of classes or modules of the package, whatever Airflow's own loggers do with them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

__all__ = ["Line", "level_and_text", "lines_of"]

_Line = TypeVar("_Line")


class Line(NamedTuple):
    """A line of a log."""

    level: str
    text: str


def level_and_text(record: logging.LogRecord) -> Line:
    """Return the parts of a line that most tests check."""
    return Line(record.levelname, record.getMessage())


@contextmanager
def lines_of(
    loggers: type | ModuleType | tuple[type | ModuleType, ...],
    monkeypatch: pytest.MonkeyPatch,
    line: Callable[[logging.LogRecord], _Line],
) -> Iterator[list[_Line]]:
    """Keep the lines that classes or modules write to their ``log``, until the end of the block.

    :param line: what is kept of each.
    """
    found: list[_Line] = []
    handler = logging.Handler()
    # Airflow's base classes write to the same logger.
    handler.addFilter(lambda record: "airflow_provider_stability" in record.pathname)
    handler.emit = lambda record: found.append(line(record))  # type: ignore[method-assign]
    log = logging.getLogger("tests.lines")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    # Airflow's own logger is another one in each version.
    for each in loggers if isinstance(loggers, tuple) else (loggers,):
        monkeypatch.setattr(each, "log", log)
    try:
        yield found
    finally:
        log.removeHandler(handler)
