"""The documents say what the code does: tables against their definitions, whole files of code executed.

A block of Python that begins with its path, such as ``# dags/first_gate.py``, is a whole file and is run.
Any other block is a fragment: it must compile, and what it imports from this package must be there.
``scripts/docs`` makes the tables of errors and of connection fields from the code, and checks the links
between the pages strictly.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_stability
from airflow_provider_stability import metrics
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

ROOT = next(each for each in Path(__file__).parents if (each / "README.md").exists())
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}

FIRST_GATE = """
from threading import Thread

from first_gate import dag


def test_the_first_gate_waits_opens_and_generates(stability_simulator, monkeypatch):
    stability_simulator.set_credits(2.5)
    monkeypatch.setattr(dag.get_task("enough_credits"), "poke_interval", 0.5)

    def top_up():
        stability_simulator.wait_for_requests(2, timeout=60)
        stability_simulator.top_up(10)

    thread = Thread(target=top_up)
    thread.start()
    run = dag.test()
    thread.join()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == {"enough_credits": "success", "generate": "success"}
    assert stability_simulator.credits() == 11.5
"""
"""The page tells what is seen of its DAG; this is a test of that."""


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a language, with the page each is on."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    return [(page, block) for page, text in TEXTS.items() for block in fence.findall(text)]


def table(page: str, first_column: str) -> dict[str, list[str]]:
    """Return the rows of the one table of a page whose first column is so named, by that column."""
    (found,) = re.findall(
        rf"^\| {first_column} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", TEXTS[page], flags=re.MULTILINE
    )
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found.splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows}


def whole_files() -> dict[str, str]:
    """Return the blocks that begin with a path, by that path."""
    files: dict[str, str] = {}
    for page, block in blocks("python"):
        if path := re.match(r"# ((?:dags|tests)/\w+\.py)\n", block):
            assert files.setdefault(path[1], block) == block, (
                f"{path[1]} of {page} differs from another page's"
            )
    return files


def own_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return what a class takes beside what its base class does."""
    parameters = dict(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]  # a class, not an instance
    return {name: each for name, each in parameters.items() if name not in {"self", "kwargs"}}


def test_the_table_of_classes_names_their_parameters_and_template_fields() -> None:
    rows = table("README.md", "class")
    for path, (what, described, _) in rows.items():
        module, _, name = path.rpartition(".")
        cls: Any = getattr(importlib.import_module(f"airflow_provider_stability.{module}"), name)
        named = dict(re.findall(r"`(\w+)`( T)?", described))
        assert set(named) == set(own_parameters(cls)) - {"stability_conn_id"}, path
        templates = {each for each, mark in named.items() if mark}
        assert templates == set(getattr(cls, "template_fields", ())) - {"stability_conn_id"}, path
        for method in re.findall(r"`(\w+)\(\)`", what):
            assert callable(getattr(cls, method)), f"{path}.{method}"


def test_the_table_of_classes_has_each_class_that_a_dag_file_uses() -> None:
    package = Path(airflow_provider_stability.__file__).parent
    there = {
        f"{folder}.{module.stem}.{name}"
        for folder in ("hooks", "operators", "sensors", "triggers")
        for module in (package / folder).glob("[!_]*.py")
        for name in importlib.import_module(f"airflow_provider_stability.{folder}.{module.stem}").__all__
    }
    assert set(table("README.md", "class")) == there - {"triggers.balance.BalanceTrigger"}  # the sensor's own


def test_the_tables_of_parameters_have_each_parameter_and_its_default() -> None:
    gate = {name.strip("` ") for key in table("docs/gates.md", "parameter") for name in key.split(",")}
    assert gate == set(own_parameters(BalanceSensor)) | {"poke_interval", "timeout", "mode"}
    watcher = table("docs/events.md", "parameter")
    assert set(watcher) == set(own_parameters(BalanceCrossingTrigger))
    for name, parameter in own_parameters(BalanceCrossingTrigger).items():
        default = watcher[name][1]
        if parameter.default is inspect.Parameter.empty:
            assert default == "none, it has to be given", name
        elif isinstance(parameter.default, float):
            assert float(default) == parameter.default, name
    sensor = BalanceSensor(task_id="defaults", min_credits=1)
    rows = table("docs/gates.md", "parameter")
    assert rows["poke_interval"][1] == f"{sensor.poke_interval:g} s"
    assert rows["timeout"][1].startswith(f"{sensor.timeout / 86400:g} days ")


def test_the_table_of_metrics_is_what_is_sent() -> None:
    sent = set(re.findall(r'"(stability\.\w+)"', inspect.getsource(metrics)))
    assert sent
    assert set(table("docs/operating.md", "metric")) == sent


def test_the_table_of_versions_is_the_matrix() -> None:
    matrix = {each.stem.removeprefix("airflow-") for each in (ROOT / "requirements").glob("airflow-*.in")}
    assert set(table("README.md", "Airflow")) == matrix


def test_the_changelog_has_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {airflow_provider_stability.__version__}" in changelog


@pytest.mark.parametrize(
    ("page", "line"),
    [
        (page, line)
        for page, text in TEXTS.items()
        for line in re.findall(r"^export AIRFLOW_CONN_STABILITY_DEFAULT=(.*)$", text, flags=re.MULTILINE)
    ],
)
def test_the_json_of_an_environment_variable_is_a_usable_connection(page: str, line: str) -> None:
    (text,) = shlex.split(line)
    connection = json.loads(text)
    assert connection["conn_type"] == "stability"
    host, password = connection.get("host"), connection["password"]
    Settings.parse("x", host=host, password=password, extra=connection.get("extra", {}))
    if host is not None and "127.0.0.1" in host:
        with Simulator() as simulator:
            assert password == simulator.api_key


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_every_block_of_python_compiles_and_imports_what_is_there(page: str, block: str) -> None:
    compile(block, page, "exec")
    for line in block.splitlines():
        if line.startswith("from airflow_provider_stability"):
            exec(line, {})  # noqa: S102  # an import line of our own pages


@pytest.mark.parametrize("page", PAGES, ids=list(TEXTS))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        if not file.exists():
            broken.append(target)
        elif anchor and anchor not in anchors(file):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return what a forge and MyST call the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_whole_files_of_the_pages_run_as_the_pages_say(tmp_path: Path) -> None:
    files = whole_files() | {"tests/test_first_gate.py": FIRST_GATE}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    dags = {each.stem for each in (tmp_path / "dags").glob("*.py")}
    tests = {each.stem.removeprefix("test_") for each in (tmp_path / "tests").glob("test_*.py")}
    assert dags == tests, "a DAG without a test, or the other way round"

    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "-s", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout + done.stderr
    assert [line for line in quoted_log_lines() if line not in printed and not ends_a_wait(line)] == []


def quoted_log_lines() -> list[str]:
    """Return the log lines on the pages, as far as each is quoted."""
    pages = TEXTS["README.md"] + TEXTS["docs/getting-started.md"]
    lines = re.findall(r"^(?:(?:Waiting for )?[\d.]+ credits|Still waiting;).*$", pages, flags=re.MULTILINE)
    rows = re.findall(
        r"^\| `(.*?)` \|", TEXTS["docs/operating.md"].partition("## Log lines")[2], flags=re.MULTILINE
    )
    assert len(lines) == 6
    assert len(rows) == 6
    return [each.removesuffix("...").rstrip() for each in lines + rows]


def ends_a_wait(line: str) -> bool:
    """Return whether the sensor has this line for a timeout, for which no test waits here."""
    return line.replace("43200", "{timeout}") in inspect.getsource(BalanceSensor)
