"""Runs a DAG as ``dag.test`` does, but each task in a process of its own, as executors do.

``python -m support.forked_run DAG_ID`` prints the result as JSON, as its last line. The environment must
lead to a migrated database.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

from airflow import settings
from support.airflow_runs import AIRFLOW_V_3_0_PLUS, Run, load_dag, warm_up

runner: Any = import_module("airflow.sdk.definitions.dag" if AIRFLOW_V_3_0_PLUS else "airflow.models.dag")
_run_task = runner._run_task
processes: list[int] = []


def run_in_a_process(**kwargs: Any) -> None:
    """Take the place of Airflow's own function, and call it in a child."""
    # No connection to the database may be open on both sides of a fork.
    assert settings.engine is not None
    settings.engine.dispose()
    child = os.fork()
    if child == 0:
        try:
            _run_task(**kwargs)
        except BaseException:  # noqa: BLE001  # nothing of the child's may go on in the copy of the parent's stack
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    processes.append(child)
    os.waitpid(child, 0)


def main() -> None:
    """Run the DAG named on the command line."""
    (dag_id,) = sys.argv[1:]
    runner._run_task = run_in_a_process
    dag = load_dag(dag_id)
    os.environ.setdefault("AIRFLOW__API_AUTH__JWT_SECRET", "of no use")
    warm_up()
    run = Run(dag.test())
    print(  # noqa: T201  # the result is the output
        json.dumps({"states": run.states, "processes": len(set(processes)), "xcom": run.xcoms("gate")})
    )


if __name__ == "__main__":
    main()
