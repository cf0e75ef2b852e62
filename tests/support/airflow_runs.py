"""Runs DAGs on the installed Airflow, and reads the results from its database."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

DagBag: Any = import_module(
    "airflow.dag_processing.dagbag" if AIRFLOW_V_3_0_PLUS else "airflow.models"
).DagBag
_xcom: Any = import_module("airflow.models.xcom")
XComModel: Any = _xcom.XComModel if AIRFLOW_V_3_0_PLUS else _xcom.XCom

__all__ = ["AIRFLOW_V_3_0_PLUS", "Run", "load_dag", "run_dag", "warm_up"]


class Run:
    """The result of a DAG run.

    :param dag_run: as ``dag.test`` returns it.
    """

    def __init__(self, dag_run: Any) -> None:
        self.dag_run = dag_run
        self.state = str(getattr(dag_run.state, "value", dag_run.state))
        self.states = {
            (ti.task_id if ti.map_index < 0 else (ti.task_id, ti.map_index)): str(ti.state)
            for ti in dag_run.get_task_instances()
        }

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return the value that a task pushed; fails where it pushed none."""
        found = self.xcoms(task_id, key)
        assert map_index in found, f"{task_id} pushed no {key}: {found}"
        return found[map_index]

    def xcoms(self, task_id: str, key: str = "return_value") -> dict[int, Any]:
        """Return what a task pushed, by map index."""
        from airflow.utils.session import create_session  # noqa: PLC0415  # Airflow must be configured by then

        found = {
            "run_id": self.dag_run.run_id,
            "dag_ids": self.dag_run.dag_id,
            "task_ids": task_id,
            "key": key,
        }
        with create_session() as session:
            if not AIRFLOW_V_3_0_PLUS:  # where a row's value is already deserialized
                return {row.map_index: row.value for row in XComModel.get_many(**found, session=session)}
            rows = session.scalars(XComModel.get_many(**found))
            return {row.map_index: XComModel.deserialize_value(row) for row in rows}


def load_dag(dag_id: str) -> Any:
    """Return a DAG of the tests' DAG folder, parsed as Airflow parses it."""
    bag = DagBag()
    assert not bag.import_errors
    return bag.dags[dag_id]


def run_dag(dag_id: str) -> Run:
    """Run a DAG to its end in this process, as ``airflow dags test`` does."""
    return Run(load_dag(dag_id).test())


def warm_up() -> None:
    """Do once, before processes are forked, what takes each of them seconds: make Airflow 3's own API.

    Its secret ``AIRFLOW__API_AUTH__JWT_SECRET`` must be set. No thread is left.
    """
    if not AIRFLOW_V_3_0_PLUS:
        return
    supervisor: Any = import_module("airflow.sdk.execution_time.supervisor")
    client = supervisor.InProcessTestSupervisor._api_client()
    client.connections.get("any")  # the first request makes the routes
    client.close()
    del client
    del supervisor.in_process_api_server().transport  # it has a thread, which ends with it
    gc.collect()
