"""Searches what a run has left for traces of its keys, of which each task has its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from support.canary import Canary

__all__ = ["Keys", "keep_what_is_deleted", "rows"]

_RUN: Final = 12
"""Length of a fragment that counts as a leak if all keys are searched for; shorter ones match by chance."""

_KEPT: Final = {"trigger": "kwargs", "task_instance": "next_kwargs"}


@dataclass
class Keys:
    """The keys of many tasks.

    :param canaries: by task.
    """

    canaries: Mapping[str, tuple[Canary, ...]]

    def __post_init__(self) -> None:
        """Prepare the search for all of them at once."""
        self._heads: dict[bytes, str] = {}
        for task, canaries in self.canaries.items():
            for canary in canaries:
                for head in _heads(canary):
                    self._heads[head] = task

    def of(self, task: str, text: str | bytes) -> bool:
        """Return whether there is a trace of a task's own keys, down to 8 characters."""
        return any(each.found_in(text) for each in self.canaries[task])

    def any(self, text: bytes) -> set[str]:
        """Return the tasks of whose keys there is a longer trace."""
        text, heads = text.lower(), self._heads
        return {heads[each] for at in range(len(text)) if (each := text[at : at + _RUN]) in heads}


def _heads(canary: Canary) -> Iterator[bytes]:
    for trace in canary._traces():  # the rest of the same search
        if len(trace) >= _RUN:
            yield trace[:_RUN].lower()
    key = canary.key.lower().encode()
    yield from (key[at : at + _RUN] for at in range(len(key) - _RUN + 1))


def keep_what_is_deleted(database: Path) -> None:
    """Have SQLite keep the kwargs of triggers and the events of tasks, which Airflow deletes in the end."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("CREATE TABLE kept_by_tests (place TEXT, task_id TEXT, value BLOB)")
        for table, column in _KEPT.items():
            task = "NEW.task_id" if table == "task_instance" else "''"
            for event in ("INSERT", f"UPDATE OF {column}"):
                connection.execute(  # the names are those above
                    f'CREATE TRIGGER keep_{table}_{event[:6]} AFTER {event} ON "{table}" BEGIN '  # noqa: S608
                    f"INSERT INTO kept_by_tests VALUES ('{table}.{column}', {task}, NEW.{column}); END"
                )
        connection.commit()


def rows(database: Path) -> Iterable[tuple[str, str | None, str]]:
    """Yield every row of a database: where it is, its ``task_id`` if it has one, and its text."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  # a table's own name
                found: dict[str, Any] = dict(row)
                place = found["place"] if table == "kept_by_tests" else table
                yield place, found.get("task_id") or None, " ".join(map(_text, found.values()))


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
