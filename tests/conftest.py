"""One Airflow for the whole test run: its own home, its own database, nothing of the machine's."""

from __future__ import annotations

import atexit
import fcntl
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from support.gates import WallClock

HERE = Path(__file__).parent
_HOME = Path(tempfile.mkdtemp(prefix="stability-tests-"))
_PROCESS = os.getpid()


def _remove_home() -> None:
    if os.getpid() == _PROCESS:  # not at the end of a fork
        shutil.rmtree(_HOME, ignore_errors=True)


# Not by a hook of pytest's: it calls none of a conftest whose import fails half way.
atexit.register(_remove_home)

# Before anything imports Airflow, which reads all this once.
for _name in [each for each in os.environ if each.startswith(("AIRFLOW_", "STABILITY_"))]:
    del os.environ[_name]
for _name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(_name, None)
for _name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(_name, None)
os.environ |= {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "NO_PROXY": "127.0.0.1,localhost,::1",
}
# From Airflow 3.1 on a DAG that is run has to be in a DAG folder; there is one, so all go there.
for _folder in (HERE / "support" / "dags", HERE.parent / "example_dags"):
    shutil.copytree(_folder, _HOME / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

if importlib.metadata.version("apache-airflow").startswith("2."):
    # Asset watchers came with Airflow 3.0; their examples say so.
    for _path in (_HOME / "dags").glob("*.py"):
        if "AssetWatcher" in _path.read_text(encoding="utf-8"):
            _path.unlink()

from airflow_provider_stability.simulator import Simulator  # noqa: E402
from airflow_provider_stability.simulator.fixtures import stability_simulator  # noqa: E402, F401  # a fixture
from scenarios.report import pytest_terminal_summary  # noqa: E402, F401  # a hook
from support.keys import KEY  # noqa: E402
from support.log_lines import Line, level_and_text, lines_of  # noqa: E402


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Airflow's home, with a migrated database in it. Of parallel workers, one migrates for all."""
    from airflow import settings  # noqa: PLC0415  # after the environment is set
    from airflow.utils.db import initdb  # noqa: PLC0415

    database = _HOME / "airflow.db"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        initdb()
        return _HOME
    migrated = tmp_path_factory.getbasetemp().parent / "airflow.db"
    with migrated.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if migrated.exists():
            shutil.copy(migrated, database)
        else:
            initdb()
            assert settings.engine is not None
            settings.engine.dispose()
            shutil.copy(database, migrated)
    return _HOME


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve an account with 12.5 credits, and 60 in ``org-b``, that the default connection leads to."""
    with Simulator(credits=12.5, organizations={"org-b": 60.0}, api_key=KEY, rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        yield simulator


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what this machine, or this file, tells HTTP clients."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Line]]:
    """Return the log lines of gates and watchers."""
    from airflow_provider_stability.sensors.balance import BalanceSensor  # noqa: PLC0415  # needs Airflow
    from airflow_provider_stability.triggers.balance import BalanceTrigger  # noqa: PLC0415
    from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger  # noqa: PLC0415

    with lines_of(
        (BalanceSensor, BalanceTrigger, BalanceCrossingTrigger), monkeypatch, level_and_text
    ) as found:
        yield found


@pytest.fixture
def wall_clock(mocker: MockerFixture) -> WallClock:
    """Return the wall clock as the gates and the simulator see it."""
    from support.gates import WallClock  # noqa: PLC0415  # needs Airflow

    return WallClock(mocker)
