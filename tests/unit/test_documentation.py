"""The documents say what the code does: tables against their one definition, code blocks executed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.programs import ROOT

import airflow_provider_stability
from airflow_provider_stability import exceptions
from airflow_provider_stability.connection.fields import DEFAULT_BASE_URL, EXTRA_FIELDS, RELABELING
from airflow_provider_stability.connection.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """Return the first table under a heading, by its first column."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line[:1] == "|"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): [cell.strip("`") for cell in row[1:]] for row in rows[2:]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_table_of_errors_is_the_tree() -> None:
    classes = {name: getattr(exceptions, name) for name in exceptions.__all__ if name.endswith("Error")}
    leaves = {k: v for k, v in classes.items() if k not in {"StabilityError", "StabilityStatusError"}}
    rows = table("Errors")
    assert set(rows) == set(leaves)
    for name, (when, passes, advice) in rows.items():
        error = leaves[name]
        instance_default = error("x").transient if name.startswith("Stability") else error.transient
        assert (passes == "yes") == instance_default, name
        assert advice == error.advice, name
        if status := re.match(r"\d{3}$", when):
            assert exceptions.status_error_class(int(status[0])) is error


def test_the_table_of_connection_fields_is_the_form() -> None:
    rows = table("Connection")
    assert list(rows) == ["password", "host", *EXTRA_FIELDS]
    assert [rows[name][0] for name in ("host", "password")] == [RELABELING["host"], RELABELING["password"]]
    assert rows["host"][2] == DEFAULT_BASE_URL
    for name, field in EXTRA_FIELDS.items():
        label, allowed, default = rows[name]
        assert (label, allowed) == (field.label, field.allowed)
        if field.default is not None:
            assert default == json.dumps(field.default).strip('"')


def test_the_json_of_the_environment_variable_is_a_usable_connection() -> None:
    (line,) = re.findall(r"^export AIRFLOW_CONN_STABILITY_DEFAULT=(.*)$", README, flags=re.MULTILINE)
    connection = json.loads(shlex.split(line)[0])
    assert connection["conn_type"] == "stability"
    settings = Settings.parse("x", password=connection["password"], extra=connection["extra"])
    assert settings.organization == "org-123456"


def test_the_first_block_is_a_dag_that_airflow_takes(tmp_path: Path) -> None:
    checks = "assert [t.task_id for t in gate.downstream_list] == ['render']\nprint('parsed')\n"
    (tmp_path / "readme.py").write_text(f"{blocks('python')[0]}\n{checks}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "readme.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "parsed"


@pytest.mark.parametrize("block", blocks("python"))
def test_every_block_of_python_compiles_and_imports_what_is_there(block: str) -> None:
    compile(block, "README.md", "exec")
    for line in block.splitlines():
        if line.startswith("from airflow_provider_stability"):
            exec(line, {})  # noqa: S102  # an import line of our own README


def test_the_table_of_versions_is_the_matrix() -> None:
    matrix = {each.stem.removeprefix("airflow-") for each in (ROOT / "requirements").glob("airflow-*.in")}
    assert set(table("Versions")) == matrix


def test_the_changelog_has_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {airflow_provider_stability.__version__}" in changelog


def test_links_into_the_repository_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [each for each in targets if not (ROOT / each).exists()] == []
