"""Measures one import or the parsing of one DAG file: ``one_import.py OPTIONS RESULT``, both JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

_PARSES = 5


def measure_import(module: str) -> dict[str, Any]:
    """Measure an import after those that every DAG file with a sensor needs."""
    _import_airflow()
    before = set(sys.modules)
    start = time.perf_counter()
    import_module(module)
    took = time.perf_counter() - start
    return {
        "seconds": took,
        "modules": len(set(sys.modules) - before),
        "requests": "requests" in set(sys.modules) - before,
    }


def _import_airflow() -> None:
    names = import_module("airflow.providers.common.compat.sdk")
    # Airflow imports these on first access; every DAG file with a sensor needs them.
    assert names.DAG
    assert names.BaseSensorOperator


def measure_parse(source: str) -> dict[str, Any]:
    """Measure parsing a DAG file, the first time and again."""
    code = compile(Path(source).read_text(encoding="utf-8"), source, "exec")
    times = []
    tasks = 0
    for _ in range(1 + _PARSES):
        names: dict[str, Any] = {"__name__": "benchmark_dag"}
        start = time.perf_counter()
        exec(code, names)  # noqa: S102  # the benchmark's own file
        times.append(time.perf_counter() - start)
        tasks = len(names["dag"].tasks)
    return {"seconds": statistics.median(times[1:]), "first": times[0], "tasks": tasks}


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    found = measure_import(**options) if "module" in options else measure_parse(**options)
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
