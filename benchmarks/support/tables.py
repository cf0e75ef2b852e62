"""Printing of results."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Bars", "machine", "median", "number", "percentile", "ratio", "show", "table"]

_MANY = 100
_FEW = 10
_SMALL = 0.1


def show(text: str = "") -> None:
    """Print a line and flush, so that a long run can be followed."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def machine() -> str:
    """Return the machine and versions of a result: results of different machines do not compare."""
    cpu = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            cpu = next(names, cpu)
    except OSError:
        pass
    versions = ", ".join(
        f"{name} {version(package)}"
        for name, package in (
            ("Airflow", "apache-airflow"),
            ("http provider", "apache-airflow-providers-http"),
            ("requests", "requests"),
        )
    )
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def median(values: Iterable[float | None]) -> float | None:
    """Return the median; None without values, or if one is None."""
    known = list(values)
    if not known or any(each is None for each in known):
        return None
    return statistics.median(each for each in known if each is not None)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all values (0 to 1) does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def number(value: float | None) -> str:
    """Format a number with about three digits."""
    if value is None:
        return "never"
    if abs(value) >= _MANY or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _FEW else f"{value:.3g}"


def ratio(ours: float | None, theirs: float | None) -> str:
    """Format ours as a multiple of theirs, or as a fraction if it is below a tenth."""
    if ours is None or not theirs:
        return ""
    share = ours / theirs
    return f"1/{1 / share:,.0f}" if 0 < share < _SMALL else f"{number(share)} x"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, aligned for reading in a terminal."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in lines
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


class Bars:
    """The limits that results must meet, and the measured values."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str]] = []
        self.all_met = True

    def at_most(self, what: str, measured: float | None, bar: float, unit: str = "") -> None:
        """Add a value and its limit; a missing value misses every limit."""
        is_met = measured is not None and measured <= bar
        self.all_met = self.all_met and is_met
        verdict = "met" if is_met else "MISSED"
        self._rows.append((what, f"{number(measured)}{unit}", f"{number(bar)}{unit}", verdict))

    def show(self) -> None:
        """Print the table of bars."""
        if self._rows:
            show()
            show(table(("bar", "measured", "at most", ""), self._rows))
