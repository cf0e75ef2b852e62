"""Each example DAG, run on a real Airflow against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.airflow_runs import AIRFLOW_V_3_0_PLUS, run_dag
from support.programs import EXAMPLES

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator

pytestmark = pytest.mark.usefixtures("airflow_database")

GENERATION = "/v1/generation/stable-diffusion-v1-6/text-to-image"


def test_gate_opens_and_the_job_spends_a_credit(account: Simulator) -> None:
    run = run_dag("example_stability_gate_then_generate")

    assert run.states == {"enough_credits": "success", "generate": "success"}
    assert run.xcom("enough_credits") == 12.5
    assert run.xcom("generate") > 0
    assert account.credits() == 11.5
    assert [each.path for each in account.requests] == ["/v1/user/balance", GENERATION]


def test_report_names_each_organization_and_pushes_no_email(account: Simulator) -> None:
    run = run_dag("example_stability_account_report")

    assert run.state == "success"
    assert set(run.xcom("account")) == {"id", "organizations"}
    assert run.xcom("report") == ["Organization default: 12.5 credits", "Organization b: 60.0 credits"]
    # Mapped tasks run in any order.
    assert {each.organization for each in account.requests} == {None, "org-default", "org-b"}
    assert account.count() == 3


@pytest.mark.parametrize(
    ("credits_there", "followed", "skipped"),
    [(100.0, "render_all", "render_one"), (99.9, "render_one", "render_all")],
)
def test_branch_follows_the_credits(
    account: Simulator, credits_there: float, followed: str, skipped: str
) -> None:
    account.set_credits(credits_there)

    run = run_dag("example_stability_branch")

    assert run.states == {"enough_for_all": "success", followed: "success", skipped: "skipped"}


def test_each_organization_has_its_own_gate_and_pays_for_its_own_job(account: Simulator) -> None:
    run = run_dag("example_stability_gate_per_organization")

    assert run.state == "success"
    assert run.xcoms("job.enough_credits") == {0: 12.5, 1: 60.0}
    assert run.xcoms("job.generate") == {0: "org-default", 1: "org-b"}
    assert (account.credits(), account.credits("org-b")) == (11.5, 59.0)


@pytest.mark.parametrize(
    ("dag_id", "result"),
    [("example_stability_top_up_alert", []), ("example_stability_backlog", "worked off")],
)
def test_event_driven_dag_runs_on_airflow_with_asset_watchers(
    account: Simulator, dag_id: str, result: object
) -> None:
    if AIRFLOW_V_3_0_PLUS:
        run = run_dag(dag_id)  # started by hand, so without an event
        assert run.state == "success"
        (task_id,) = run.states
        assert run.xcom(str(task_id)) == result
    else:
        path = EXAMPLES / f"{dag_id}.py"
        assert "Airflow 3.0 or newer" in path.read_text(encoding="utf-8").splitlines()[0]
    assert account.count() == 0


def test_every_example_has_a_test() -> None:
    examples = {each.stem for each in EXAMPLES.glob("*.py")}
    tests = Path(__file__).read_text(encoding="utf-8")

    assert examples
    assert {each for each in examples if f'"{each}"' not in tests} == set()
