"""Prints the table of scenarios at the end of a run that has played them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scenarios.runner import Outcome
    from scenarios.table import Scenario

__all__ = ["PLAYED", "pytest_terminal_summary", "table"]

PLAYED: Final = pytest.StashKey[dict[str, tuple[tuple[str, ...], dict[tuple[str, str], "Outcome"]]]]()
"""What was played: by a title, the paths and the outcomes."""

_EXPLANATION: Final = "In a cell: the task's state, what it pushed, and how many requests it took."
_NAMES: Final = {"zero_worker": "no worker", "dag_test": "dag.test()"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was played."""
    if PLAYED not in config.stash:
        return
    from scenarios.table import AIRFLOW  # noqa: PLC0415  # only here: every run of pytest loads this file

    for title, (paths, outcomes) in config.stash[PLAYED].items():
        terminalreporter.section(f"{title}, Airflow {AIRFLOW}")
        for line in table(paths, outcomes):
            terminalreporter.write_line(line)


def table(paths: Sequence[str], outcomes: Mapping[tuple[str, str], Outcome]) -> Iterator[str]:
    """Yield the lines of a table with a row for each scenario, a column for each path, and footnotes."""
    from scenarios.table import TABLE  # noqa: PLC0415  # as above

    notes: list[str] = []
    rows = [["scenario", *(_NAMES.get(path, path) for path in paths)]]
    rows += [
        [scenario.name, *(_cell(scenario, path, outcomes, notes) for path in paths)]
        for scenario in TABLE
        if any((scenario.name, path) in outcomes for path in paths)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    yield _EXPLANATION
    for number, note in enumerate(notes, start=1):
        yield f"[{number}] {note}"


def _cell(
    scenario: Scenario, path: str, outcomes: Mapping[tuple[str, str], Outcome], notes: list[str]
) -> str:
    from scenarios.table import difference, expected  # noqa: PLC0415  # as above

    found = outcomes.get((scenario.name, path))
    if found is None:
        return ""
    wanted = expected(scenario, path)
    text = " ".join([found.state, *(f"{value}" for value in found.xcom), f"({len(found.asked_at)})"])
    if found.state != wanted.state:
        text = f"{text}, NOT {wanted.state}"
    differs = difference(scenario, path)
    if differs is not None:
        if differs.reason not in notes:
            notes.append(differs.reason)
        text += f" [{notes.index(differs.reason) + 1}]"
    return text
