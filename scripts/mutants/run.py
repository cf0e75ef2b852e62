"""Runs the tests on each mutant: which of them notice it, which do not.

One process imports Airflow and the tests once; each mutant gets a fork of it, which imports the package anew
with the one module changed, in memory only: the files of the checkout stay as they are. A mutant is run
against the tests of its module (pyproject.toml, ``tool.mutants``) that execute its statement, the fastest
first, until one fails.

``python run.py ROOT MUTANTS RESULTS WORKERS`` reads what ``make.py`` printed and writes one verdict for each.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import coverage
import hypothesis
import pytest
from forks import end_group, in_a_fork
from hypothesis import Phase
from loading import Finder, Mutated
from plugins import HANGS, TEST_FACTOR, Chosen, Recorder

PACKAGE: Final = "airflow_provider_stability"
PYTEST: Final = [
    "-p",
    "no:cacheprovider",
    "-q",
    "-x",
    "--tb=line",
    "--assert=plain",
    "-o",
    "addopts=",
    "--import-mode=importlib",
]

MUTANT_SECONDS: Final = 120.0  # for all of its tests, beyond what they take without a mutant

_NO_TEST: Final = 98

Mutant = dict[str, Any]


@dataclass
class Baseline:
    """What the tests do without a mutant.

    :param seconds: by test.
    :param lines: by module, and test: the lines that it executes.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, set[int]]] = field(default_factory=dict)


def measure(root: Path, files: list[str], modules: list[str], work: Path) -> Baseline:
    """Run the tests without a mutant."""
    found = work / "baseline.json"

    def run() -> int:
        paths = [str(root / PACKAGE / (each.replace(".", "/") + ".py")) for each in modules]
        measured = coverage.Coverage(data_file=None, include=paths, config_file=False)
        recorder = Recorder(measured)
        measured.start()
        status = int(pytest.main([*PYTEST, *files], plugins=[recorder]))
        measured.stop()
        data = measured.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for module, path in zip(modules, paths, strict=True):
            by_test = lines.setdefault(module, {})
            for line, tests in data.contexts_by_lineno(path).items():
                for test in tests:
                    by_test.setdefault(test, []).append(line)
        found.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}))
        return status

    log = work / "baseline.log"
    pid = in_a_fork(run, log)
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        end_group(pid)
    if status != 0:
        sys.exit(f"The tests fail without a mutant:\n{log.read_text(errors='replace')[-4000:]}")
    kept = json.loads(found.read_text())
    lines = {
        module: {test: set(each) for test, each in by_test.items()}
        for module, by_test in kept["lines"].items()
    }
    return Baseline(kept["seconds"], lines)


def tests_for(mutant: Mutant, files: list[str], baseline: Baseline) -> dict[str, float]:
    """Return the tests to run on a mutant; none where no test executes its statement."""
    by_test = baseline.lines[mutant["module"]]
    first, last = mutant["lines"]
    before_any = any(first <= line <= last for line in by_test.get("", ()))
    if mutant["at_import"] or before_any:
        # What stands outside of functions is executed when the module is imported, before any test; and tests
        # make values to be parametrized with.
        names = list(baseline.seconds)
    else:
        names = [test for test, lines in by_test.items() if any(first <= line <= last for line in lines)]
    return {each: baseline.seconds[each] for each in names if each.partition("::")[0] in files}


def try_mutant(mutant: Mutant, tests: dict[str, float], patience: float) -> int:
    """Run the tests on a mutant, in the process that calls it, and return pytest's exit status."""
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top == PACKAGE or getattr(sys.modules[name], "__file__", None) in _TEST_FILES:
            del sys.modules[name]
    if mutant["source"] is not None:
        name = f"{PACKAGE}.{mutant['module']}"
        sys.meta_path.insert(0, Finder(Mutated(name, mutant["path"], mutant["source"])))
    # An example that fails is enough: nobody reads a smaller one.
    hypothesis.settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])
    hypothesis.settings.load_profile("mutants")
    chosen = Chosen(tests, _SEEN, patience)
    files = sorted({each.partition("::")[0] for each in tests})
    status = int(pytest.main([*PYTEST, *files], plugins=[chosen]))
    print(f"RAN {chosen.ran} of {len(tests)}", flush=True)
    return _NO_TEST if status == 0 and not chosen.ran else status


_TEST_FILES: set[str | None] = set()
_SEEN: set[str] = set()
"""The tests that ran without a mutant."""


@dataclass
class Job:
    """A mutant that is being tried."""

    number: int
    limit: float
    log: Path


def verdict(status: int, *, killed_by_us: bool) -> str:
    """Return what the end of a fork says of its mutant."""
    if killed_by_us or os.waitstatus_to_exitcode(status) == HANGS:
        return "timeout"
    match os.waitstatus_to_exitcode(status):
        case 0:
            return "survived"
        case 1 | 2:
            return "killed"  # 2: pytest could not even import the tests
        case code if code < 0 and code != -signal.SIGKILL:
            return "killed"  # it brought the interpreter down
        case code:
            return f"broken {code}"


def culprit(log: Path) -> str:
    """Return the last words of a run, for people."""
    lines = log.read_text(errors="replace").splitlines()
    said = [each for each in lines if each.startswith(("FAILED", "ERROR", "HANGS"))]
    return (said or lines or [""])[-1][:200]


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def described(mutant: Mutant) -> str:
    """Return a mutant in one line."""
    return (
        f"{mutant['module']} {mutant['where']}:{mutant['lines'][0]}: {mutant['before']} -> {mutant['after']}"
    )


def try_all(
    mutants: list[Mutant], tests: list[dict[str, float]], workers: int, work: Path, *, patience: float = 1.0
) -> list[tuple[str, str]]:
    """Return a verdict, and its reason, for each mutant."""
    verdicts = [("not covered", "")] * len(mutants)
    waiting = [number for number in range(len(mutants)) if tests[number]]
    jobs: dict[int, Job] = {}
    done = 0
    began = time.monotonic()
    try:
        while waiting or jobs:
            while waiting and len(jobs) < workers:
                number = waiting.pop(0)
                job = Job(number, time.monotonic(), work / f"{number}.log")
                job.limit += (sum(tests[number].values()) * TEST_FACTOR + MUTANT_SECONDS) * patience
                action = partial(try_mutant, mutants[number], tests[number], patience)
                jobs[in_a_fork(action, job.log)] = job
            for pid, job in list(jobs.items()):
                what = end_of(pid, job)
                if what is None:
                    continue
                del jobs[pid]
                verdicts[job.number] = (what, culprit(job.log))
                if what != "killed" and mutants[job.number]["source"] is not None:
                    say(f"{what}: {described(mutants[job.number])}")
                done += 1
                if done % 50 == 0:
                    say(f"{done} of {len(mutants)} tried in {time.monotonic() - began:.0f} s")
            time.sleep(0.01)
    finally:
        for pid in jobs:
            end_group(pid)
    return verdicts


def end_of(pid: int, job: Job) -> str | None:
    """Return the verdict of a fork that has come to its end, or is brought to it as its time is over."""
    is_late = time.monotonic() > job.limit
    if is_late:
        end_group(pid)
    ended, status = os.waitpid(pid, 0 if is_late else os.WNOHANG)
    if not ended:
        return None
    end_group(pid)  # whatever its tests have started
    return verdict(status, killed_by_us=is_late)


def warm_up(files: list[str]) -> Path:
    """Import Airflow and the tests, for the forks, and return the home that this Airflow has."""
    output = os.dup(1)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    pytest.main([*PYTEST, "--collect-only", *files])
    os.dup2(output, 1)
    gc.collect()
    gc.freeze()  # pytest collects garbage thrice a run: Airflow's modules are none
    home = Path(os.environ["AIRFLOW_HOME"])  # the tests' own; Airflow keeps to the first that it has seen
    home.mkdir(parents=True, exist_ok=True)
    return home


def tried(
    mutants: list[Mutant], config: dict[str, list[str]], workers: int, work: Path
) -> list[tuple[str, str]]:
    """Return a verdict, and its reason, for each mutant; end the program where there can be none."""
    modules = sorted({each["module"] for each in mutants})
    by_module = {
        module: sorted({str(each) for pattern in config[module] for each in Path("tests").glob(pattern)})
        for module in modules
    }
    files = sorted({each for module in modules for each in by_module[module]})
    say(f"Running {len(files)} test files without a mutant ...")
    baseline = measure(Path.cwd(), files, modules, work)
    home = warm_up(files)
    _SEEN.update(baseline.seconds)
    _TEST_FILES.update(str(each) for each in (Path.cwd() / "tests").rglob("*.py"))

    # Without a mutant, and under the same load, no test may fail: else a kill would prove nothing.
    controls: list[Mutant] = [
        {"module": each, "source": None, "at_import": True, "lines": [0, 0]} for each in modules
    ]
    every = [*controls, *mutants]
    tests = [tests_for(each, by_module[each["module"]], baseline) for each in every]
    say(f"Trying {len(mutants)} mutants, {workers} at a time ...")
    verdicts = try_all(every, tests, workers, work)
    # What took too long on a busy machine is tried again, with more time; and so is what failed unchanged.
    late = [
        number
        for number, (each, _) in enumerate(verdicts)
        if each == "timeout" or (number < len(controls) and each != "survived")
    ]
    again = try_all(
        [every[each] for each in late], [tests[each] for each in late], workers, work, patience=2.0
    )
    for number, verdict_again in zip(late, again, strict=True):
        verdicts[number] = verdict_again
    shutil.rmtree(home, ignore_errors=True)
    for control, (what, why) in zip(controls, verdicts, strict=False):
        if what != "survived":
            sys.exit(f"The tests of {control['module']} fail without a mutant ({what}): {why}")
    return verdicts[len(controls) :]


def main() -> None:
    """Try the mutants in a file, and write the verdicts into another."""
    root, source, results = (Path(each).resolve() for each in sys.argv[1:4])
    workers = int(sys.argv[4])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.chdir(root)
    sys.path.insert(0, str(root))
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutants"]["tests"]
    mutants: list[Mutant] = json.loads(source.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="stability-mutants-") as folder:
        verdicts = tried(mutants, config, workers, Path(folder))
    for mutant, (what, why) in zip(mutants, verdicts, strict=True):
        del mutant["source"]
        mutant["verdict"], mutant["why"] = what, why
    results.write_text(json.dumps(mutants), encoding="utf-8")


if __name__ == "__main__":
    main()
