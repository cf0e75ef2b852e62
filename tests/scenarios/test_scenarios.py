"""Every scenario of the table on every path."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER
from scenarios.report import PLAYED
from scenarios.runner import Outcome, check, play
from scenarios.table import DIFFERENCES, PATHS, TABLE, Scenario, expected

if TYPE_CHECKING:
    from pathlib import Path

Outcomes = dict[tuple[str, str], Outcome]


@pytest.fixture(scope="module")
def outcomes(
    airflow_database: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Outcomes:
    found = play(TABLE, PATHS, airflow_database / "airflow.db", tmp_path_factory.mktemp("scenarios"))
    pytestconfig.stash.setdefault(PLAYED, {})["Scenarios"] = PATHS, found
    return found


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scenario", TABLE, ids=lambda scenario: scenario.name)
def test_scenario_has_the_same_outcome_in_every_mode(
    outcomes: Outcomes, scenario: Scenario, path: str
) -> None:
    found, wanted = outcomes[scenario.name, path], expected(scenario, path)
    check(found, wanted)
    if path == "zero_worker" and STARTS_IN_TRIGGERER:
        assert found.workers == (0 if wanted.state == "success" else 1)
    elif path in {"deferrable", "zero_worker"}:
        assert found.workers == (2 if wanted.defers else 1)
    elif path == "reschedule":
        assert found.workers >= len(found.asked_at)  # a process for each poke
    else:
        assert found.workers == 1


def test_scenario_names_are_unique_and_differences_differ() -> None:
    by_name = {scenario.name: scenario for scenario in TABLE}
    assert len({scenario.slug for scenario in TABLE}) == len(TABLE)
    for each in DIFFERENCES:
        for name in each.scenarios:
            assert repr(replace(by_name[name], **each.instead)) != repr(by_name[name])  # 40 is not 40.0


def test_leaked_key_is_found_wherever_it_is(outcomes: Outcomes) -> None:
    everywhere = {
        "airflow.db",
        "the worker's log",
        "task_instance.next_kwargs",
        "rendered_task_instance_fields",
        "xcom",
    }
    assert outcomes["leak", "inline"].leaks >= everywhere
    # A trigger that runs in the task's process is not stored on each version.
    assert outcomes["leak", "others"].leaks >= everywhere | {"trigger.kwargs"}
