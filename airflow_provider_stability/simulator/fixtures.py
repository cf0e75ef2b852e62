"""The pytest fixture for users' own DAG tests; the one module of the simulator that imports pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.simulator.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stability_simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Yield a running simulator with 10 credits that the connection ``stability_default`` leads to.

    Import it in a ``conftest.py``. The connection is set in the environment, for the test alone.
    """
    with Simulator() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection())
        yield simulator
