"""DAGs with a gate, run by ``dag.test()``; how a gate waits and ends in each mode is in the scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.airflow_runs import run_dag

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.mark.parametrize(
    "name",
    [
        "poke",
        "poke_templated",
        "reschedule",
        "deferred_templated",
        "deferred_decimal",
        "start",
        "start_templated",
        "end",
    ],
)
def test_gate_opens_and_pushes_its_credits(account: Simulator, name: str) -> None:
    account.set_credits(60)
    run = run_dag(f"gate_{name}")
    assert run.states == {"gate": "success"}
    assert run.xcom("gate") == 60.0
    assert [each.organization for each in account.requests] == ["org-b" if "templated" in name else None]


def test_mapped_gates_push_their_credits(account: Simulator) -> None:
    run = run_dag("gate_mapped")
    assert run.states == {("gate", 0): "success", ("gate", 1): "success", ("gate", 2): "success"}
    assert run.xcoms("gate") == {0: 12.5, 1: 12.5, 2: 12.5}
