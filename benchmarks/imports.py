"""The cost of the sensor to a DAG file, compared with HttpSensor: its import, and parsing 1,000 gates."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.support.processes import end_on_sigterm, measure
from benchmarks.support.tables import Bars, machine, median, number, ratio, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 240.0  # seconds for one measurement
_MODULE = "benchmarks.support.one_import"
_SENSORS = {
    "BalanceSensor": (
        "airflow_provider_stability.sensors.balance",
        "min_credits=40, organization='org-b'",
    ),
    "HttpSensor": (
        "airflow.providers.http.sensors.http",
        "endpoint='v1/user/balance', headers={'Organization': 'org-b'}",
    ),
}
_DAG = """
import datetime
from {dag_module} import DAG
from {module} import {name}

with DAG("gates", schedule=None, start_date=datetime.datetime(2024, 1, 1)) as dag:
    for number in range({gates}):
        {name}(task_id=f"gate_{{number}}", {arguments}, deferrable=True, poke_interval=60)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks/run imports", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="fresh processes for each; default %(default)s")
    parser.add_argument("--gates", type=int, default=1_000, help="gates in the DAG file; default %(default)s")
    options = parser.parse_args(arguments)
    end_on_sigterm()
    show(machine())
    bars = Bars()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        # The first round compiles everything, into a temporary folder.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "bytecode"))
        _imports(options.rounds, bars)
        _parsing(Path(folder), options.gates, options.rounds, bars)
    bars.show()
    return 0 if bars.all_met else 1


def _imports(rounds: int, bars: Bars) -> None:
    runs = _interleaved({name: {"module": module} for name, (module, _) in _SENSORS.items()}, rounds)
    show(f"\nImport after Airflow's own names, fresh processes, medians of {rounds}:\n")
    ours, theirs = (median(run["seconds"] for run in runs[name]) for name in _SENSORS)
    imports_requests = [any(run["requests"] for run in runs[name]) for name in _SENSORS]
    rows = [
        ["ms", number((ours or 0) * 1e3), number((theirs or 0) * 1e3), ratio(ours, theirs)],
        ["further modules", *(number(runs[name][0]["modules"]) for name in _SENSORS), ""],
        ["imports requests", *("yes" if each else "no" for each in imports_requests), ""],
    ]
    show(table(["", *_SENSORS, "ours is"], rows))
    bars.at_most("import against HttpSensor's", _over(ours, theirs), 1 / 20, " x")
    bars.at_most("imports of requests", float(imports_requests[0]), 0)


def _parsing(folder: Path, gates: int, rounds: int, bars: Bars) -> None:
    dag_module = "airflow" if _is_airflow_2() else "airflow.sdk"
    sources: dict[str, dict[str, Any]] = {}
    for name, (module, arguments) in _SENSORS.items():
        source = folder / f"{name}.py"
        source.write_text(
            _DAG.format(dag_module=dag_module, module=module, name=name, arguments=arguments, gates=gates),
            encoding="utf-8",
        )
        sources[name] = {"source": str(source)}
    runs = _interleaved(sources, rounds)
    show(f"\nA DAG file of {gates:,} gates, parsed again in the same process, medians of {rounds}:\n")
    ours, theirs = (median(run["seconds"] for run in runs[name]) for name in _SENSORS)
    first = [median(run["first"] for run in runs[name]) for name in _SENSORS]
    rows = [
        ["ms", number((ours or 0) * 1e3), number((theirs or 0) * 1e3), ratio(ours, theirs)],
        ["ms, first time, with imports", *(number((each or 0) * 1e3) for each in first), ratio(*first)],
        ["tasks", *(number(runs[name][0]["tasks"]) for name in _SENSORS), ""],
    ]
    show(table(["", *_SENSORS, "ours is"], rows))
    bars.at_most("parsing against HttpSensors", _over(ours, theirs), 1.0, " x")


def _interleaved(options: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options}
    for turn in range(1 + rounds):  # the first turn compiles, and does not count
        for name in sorted(options, reverse=bool(turn % 2)):
            found = measure(_MODULE, options[name], _TIMEOUT)
            if turn:
                runs[name].append(found)
    return runs


def _is_airflow_2() -> bool:
    from importlib.metadata import version

    return version("apache-airflow").startswith("2.")


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


if __name__ == "__main__":
    sys.exit(main())
