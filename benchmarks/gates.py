"""The cost of many gates that wait in one triggerer, compared with the triggers of the http provider.

Each measurement runs in its own process, with Airflow's trigger runner in a second and the simulated service
in a third. README.md describes what is measured, and how.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.support.chart import Panel, draw
from benchmarks.support.contenders import CONTENDERS, EVENT, IDLE, OURS, SENSOR
from benchmarks.support.processes import end_on_sigterm, measure
from benchmarks.support.tables import Bars, machine, median, number, ratio, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    Setting = tuple[int, int]  # organizations and gates
    Results = dict[Setting, dict[str, dict[str, float | None]]]

_MODULE: Final = "benchmarks.support.one_run"
_CHART: Final = Path(__file__).with_name("gates.svg")
_SIZES: Final = (100, 1_000, 5_000, 10_000)
_ONLY_BASELINE: Final = 5_000  # gates; compared only with the baseline

_ONCE: Final = 10_000  # gates; from this size on peers are measured once, since they take minutes

_PLAIN: Final = 10_000  # gates; with so many, opening is also measured without Airflow's runner

# The key of a measured value, its name in the table, and the factor to convert it to the unit.
_ROWS: Final = (
    ("requests", "requests per interval", 1.0),
    ("429", "429 from the service", 1.0),
    ("cpu", "CPU s per minute", 1.0),
    ("lag p99", "loop lag p99, polling, ms", 1e3),
    ("lag max", "longest stall, polling, ms", 1e3),
    ("opening stall", "longest stall, gates starting, ms", 1e3),
    ("open stall", "longest stall, gates opening, ms", 1e3),
    ("memory", "memory per gate, KiB", 1 / 1024),
    ("first fired", "top-up to first gate's event, s", 1.0),
    ("last fired", "top-up to last gate's event, s", 1.0),
    ("first open", "top-up to first event queued, s", 1.0),
    ("last open", "top-up to last event queued, s", 1.0),
    ("spread", "first to last queued of one organization, s", 1.0),
)
_FAULTS: Final[dict[str, dict[str, Any]]] = {
    "401": {"status": 401},
    "429, Retry-After 60": {"status": 429, "retry_after": 60},
    "500": {"status": 500},
    "no answer": {"delay": 600},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and draw; return 1 if a bar is missed."""
    options = _options(arguments)
    end_on_sigterm()
    show(machine())
    bars = Bars()
    if options.failures:
        _failures(options, bars)
    else:
        _gates(options, bars)
    bars.show()
    return 0 if bars.all_met else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run gates", description=__doc__)
    add = parser.add_argument
    add("--gates", type=int, nargs="+", default=list(_SIZES), help="numbers of gates; default %(default)s")
    add(
        "--organizations",
        type=int,
        nargs="+",
        default=[1, 10],
        help="numbers of organizations; default %(default)s",
    )
    add("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), help="default: all")
    add("--rounds", type=int, default=3, help="measurements of each; the median counts; default %(default)s")
    add("--interval", type=float, default=5.0, help="seconds between two polls; default %(default)g")
    add(
        "--intervals",
        type=int,
        default=3,
        help="poll intervals for the measurement of CPU; default %(default)s",
    )
    add("--timeout", type=float, default=240.0, help="of one measurement, in seconds; default %(default)g")
    add("--failures", action="store_true", help="measure failures of the service instead")
    return parser.parse_args(arguments)


# Waiting


def _gates(options: argparse.Namespace, bars: Bars) -> None:
    settings = [(many, gates) for many in options.organizations for gates in options.gates]
    runs: dict[Setting, dict[str, list[dict[str, float | None]]]] = {}
    for turn in range(options.rounds):
        for setting in settings:
            names = _in_turn([name for name in options.contenders if _is_wanted(name, setting, turn)], turn)
            for name in names:
                found = _measure(options, name, gates=setting[1], organizations=setting[0])
                runs.setdefault(setting, {}).setdefault(name, []).append(found)
    results: Results = {
        setting: {name: _medians(runs[setting][name]) for name in options.contenders if name in runs[setting]}
        for setting in settings
        if setting in runs
    }
    for setting, by_name in results.items():
        _show_setting(setting, by_name, options)
    _bars_of_gates(results, bars)
    for gates in options.gates:
        if gates == _PLAIN and OURS in options.contenders:
            _opening(gates, options, bars)
    _draw({gates: by_name for (many, gates), by_name in results.items() if many == 1}, options)


def _opening(gates: int, options: argparse.Namespace, bars: Bars) -> None:
    """Measure opening without Airflow's work on each event, which is longer than that of the triggers."""
    runs: dict[str, list[dict[str, float | None]]] = {}
    for turn in range(options.rounds):
        for name in _in_turn([OURS, IDLE], turn):
            runs.setdefault(name, []).append(_measure(options, name, gates=gates, is_plain=True))
    found = {name: _medians(each) for name, each in runs.items()}
    show(f"\n{gates:,} gates on 1 organization in a plain event loop, medians of {options.rounds}:\n")
    keys = ("lag max", "open stall", "first open", "last open", "spread")
    rows = [
        [label, *(_cell(found[name], key, factor) for name in (OURS, IDLE))]
        for key, label, factor in _ROWS
        if key in keys
    ]
    show(table(["", OURS, f"{IDLE}, all at once"], rows))
    bars.at_most(f"first to last gate open, {gates:,} gates, plain loop", found[OURS]["spread"], 0.3, " s")
    bar = options.interval + 0.5
    last = found[OURS]["last open"]
    bars.at_most(f"top-up to last gate open, {gates:,} gates, plain loop", last, bar, " s")


def _is_wanted(name: str, setting: Setting, turn: int) -> bool:
    organizations, gates = setting
    if gates >= _ONCE and turn > 0 and name not in {OURS, IDLE}:
        return False
    if gates == _ONLY_BASELINE and organizations > 1:
        return False
    if name == IDLE:
        return organizations == 1  # it makes no requests
    return gates != _ONLY_BASELINE or name == OURS


def _in_turn(names: list[str], turn: int) -> list[str]:
    """Return the names with a different one first in each turn, since a machine gets warmer or busier."""
    start = turn % max(1, len(names))
    return names[start:] + names[:start]


def _measure(options: argparse.Namespace, contender: str, **more: Any) -> dict[str, float | None]:
    what = {"contender": contender, "interval": options.interval, "intervals": options.intervals, **more}
    start = time.monotonic()
    found: dict[str, float | None]
    try:
        found = measure(_MODULE, what, options.timeout)
    except TimeoutError as error:
        if contender == OURS:
            raise
        show(f"  {contender}: {error}")
        return {key: None for key, _, _ in _ROWS}  # the result is that it did not finish
    values = ", ".join(f"{name} {number(value)}" for name, value in found.items())
    about = ", ".join(f"{name} {value}" for name, value in more.items())
    show(f"  {contender}, {about}: {values} ({time.monotonic() - start:.0f} s)")
    return found


def _medians(runs: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {name: median(run.get(name) for run in runs) for name in runs[0]}


def _show_setting(
    setting: Setting, found: dict[str, dict[str, float | None]], options: argparse.Namespace
) -> None:
    organizations, gates = setting
    where = "1 organization" if organizations == 1 else f"{organizations} organizations"
    once = ", the peers measured once" if gates >= _ONCE and options.rounds > 1 else ""
    show(
        f"\n{gates:,} gates on {where}, interval {options.interval:g} s, medians of {options.rounds}{once}:\n"
    )
    peers = [name for name in found if name != OURS]
    rows = []
    for key, label, factor in _ROWS:
        ours = _scaled(found.get(OURS, {}), key, factor)
        row = [label, _cell(found.get(OURS, {}), key, factor)]
        for peer in peers:
            theirs = _scaled(found[peer], key, factor)
            row += [_cell(found[peer], key, factor), ratio(ours, theirs)]
        rows.append(row)
    show(table(["", OURS, *(cell for peer in peers for cell in (peer, "ours is"))], rows))


def _scaled(values: dict[str, float | None], key: str, factor: float) -> float | None:
    value = values.get(key)
    return None if value is None else value * factor


def _cell(values: dict[str, float | None], key: str, factor: float) -> str:
    return number(_scaled(values, key, factor)) if key in values else ""


def _bars_of_gates(results: Results, bars: Bars) -> None:
    for (organizations, gates), found in results.items():
        ours = found.get(OURS)
        if ours is None:
            continue
        on = f"{gates:,} gates on {organizations}"
        bars.at_most(f"requests per interval, {on}", ours["requests"], organizations)
        bars.at_most(f"429 from the service, {on}", ours["429"], 0)
        if organizations > 1:
            continue
        if gates == 1_000 and SENSOR in found:
            bars.at_most(f"CPU against {SENSOR}, {on}", _over(ours, found[SENSOR], "cpu"), 1 / 20, " x")
        if gates == 5_000 and IDLE in found:
            bars.at_most(f"CPU against nothing, {on}", _over(ours, found[IDLE], "cpu"), 1.25, " x")
        if gates == 1_000 and IDLE in found:
            memory = _over(ours, found[IDLE], "memory")
            bars.at_most(f"memory per gate against nothing, {on}", memory, 1.6, " x")
        if gates == 10_000:
            bars.at_most(f"longest stall from polling, {on}", ours["lag max"], 0.05, " s")


def _over(ours: dict[str, float | None], theirs: dict[str, float | None], key: str) -> float | None:
    above, below = ours[key], theirs[key]
    return above / below if above is not None and below else None


def _draw(found: dict[int, dict[str, dict[str, float | None]]], options: argparse.Namespace) -> None:
    panels = []
    for key, title in (("requests", "Requests per interval"), ("cpu", "CPU seconds per minute")):
        series: dict[str, list[tuple[float, float]]] = {}
        for gates, by_name in sorted(found.items()):
            for name, values in by_name.items():
                value = values[key]
                if value:
                    series.setdefault(name, []).append((gates, value))
        panels.append(Panel(title, "waiting gates", series))
    if min((len(panel.series) for panel in panels), default=0) == 0 or len(found) == 1:
        return  # a chart of a single size shows nothing
    names = [name for name in (OURS, IDLE, SENSOR, EVENT) if any(name in panel.series for panel in panels)]
    note = f"One organization, a poll every {options.interval:g} s. {machine()}"
    _CHART.write_text(draw(panels, names, note), encoding="utf-8")
    show(f"\nWrote {_CHART.name}")


# Failing


def _failures(options: argparse.Namespace, bars: Bars) -> None:
    _faults(options, bars)
    _failing(options, bars)
    _stops(options, bars)


def _faults(options: argparse.Namespace, bars: Bars) -> None:
    names = [name for name in options.contenders if name != IDLE]
    rows = []
    for label, fault in _FAULTS.items():
        found: dict[str, list[dict[str, float | None]]] = {}
        for turn in range(options.rounds):
            for name in _in_turn(names, turn):
                one = _measure(options, name, gates=1_000, mode="fault", fault=fault)
                found.setdefault(name, []).append(one)
        medians = {name: _medians(runs) for name, runs in found.items()}
        ours = medians.get(OURS)
        row = [label]
        for name in names:
            row += [number(medians[name]["requests"])]
            if name != OURS:
                row += [ratio(ours["requests"], medians[name]["requests"]) if ours else ""]
        row += [number(medians[name]["ended"]) for name in names]
        rows.append(row)
        if ours:
            bars.at_most(f"requests per interval, {label}", ours["requests"], 1)
            if "429" in label:
                bars.at_most("requests in the pause after the first 429", (ours["total"] or 0) - 1, 0)
    show(f"\nRequests per interval of 1,000 gates while the service fails, medians of {options.rounds}:\n")
    head = ["the service answers"]
    for name in names:
        head += [name] if name == OURS else [name, "ours is"]
    show(table([*head, *(f"{name}: gates ended" for name in names)], rows))


def _failing(options: argparse.Namespace, bars: Bars) -> None:
    sizes = (500, 1_000, 2_000)
    found: dict[int, list[dict[str, float | None]]] = {}
    for _ in range(options.rounds):
        for gates in sizes:
            found.setdefault(gates, []).append(_measure(options, OURS, gates=gates, mode="fail"))
    medians = {gates: _medians(runs) for gates, runs in found.items()}
    show(f"\nAll gates fail at once, as the key is refused, medians of {options.rounds}:\n")
    rows = [
        [f"{gates:,}", number(each["ended"]), number(each["cpu"]), number((each["cpu"] or 0) / gates * 1e3)]
        for gates, each in medians.items()
    ]
    show(table(["gates", "ended", "CPU s", "CPU ms per gate"], rows))
    bars.at_most("CPU to fail 1,000 waiting gates", medians[1_000]["cpu"], 1, " s")
    bars.at_most("CPU to fail 2,000 against 1,000", _over(medians[2_000], medians[1_000], "cpu"), 2.2, " x")


def _stops(options: argparse.Namespace, bars: Bars) -> None:
    names = [name for name in options.contenders if name != IDLE]
    found: dict[str, list[dict[str, float | None]]] = {}
    for turn in range(options.rounds):
        for name in _in_turn(names, turn):
            found.setdefault(name, []).append(_measure(options, name, gates=100, mode="stop"))
    medians = {name: _medians(runs)["stop"] for name, runs in found.items()}
    show(f"\nSIGINT to the runner's end while a poll hangs, 100 gates, medians of {options.rounds}:\n")
    show(table(["", "s"], [[name, number(value)] for name, value in medians.items()]))
    if OURS in medians:
        bars.at_most("stop while a poll hangs", medians[OURS], 1, " s")


if __name__ == "__main__":
    sys.exit(main())
