"""Every scenario of the table on every path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from scenarios import PATHS, TABLE, Scenario
from scenarios_batch import Outcome, play

if TYPE_CHECKING:
    from pathlib import Path

Outcomes = dict[tuple[str, str], Outcome]


@pytest.fixture(scope="module")
def outcomes(airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return play(TABLE, PATHS, airflow_database / "airflow.db", tmp_path_factory.mktemp("scenarios"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scenario", TABLE, ids=lambda scenario: scenario.name)
def test_a_scenario_means_the_same_on_every_path(outcomes: Outcomes, scenario: Scenario, path: str) -> None:
    found = outcomes[scenario.name, path]
    assert not found.leaks
    assert (found.state, found.tries) == (scenario.state, 1), found.log
    assert found.xcom == ([] if scenario.xcom is None else [scenario.xcom])
    assert scenario.requests[0] <= len(found.asked_at) <= scenario.requests[1], found.log
    assert not found.stray_requests
    for line in scenario.says:
        assert re.search(line, found.log), found.log


def test_a_key_that_leaks_is_found_wherever_it_is(outcomes: Outcomes) -> None:
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
