"""The demo that `scripts/demo` runs: a real DAG on a real Airflow, step by step.

It leaves nothing behind: Airflow's home and SQLite database are in a temporary folder, and each Airflow
command runs in a process group that is ended with it. Only if the demo fails, it keeps Airflow's log.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INITIAL_CREDITS = 12.5
TOP_UP = 40
BALANCE_PATH = "/v1/user/balance"
POKES_BEFORE_TOP_UP = 2
"""The second poke shows that the gate waits."""
DAG_TIMEOUT = 90
"""In seconds; longer than the timeout of the gate in the DAG."""

LOG_TAIL = 30

# 2026-11-20T18:25:32.457292Z [info     ] the message [the.logger] more=fields
LOG_LINE = re.compile(
    r"\S+T(?P<time>[\d:]{8})\S* \[\w+ *\] (?P<message>.*?) +\[(?P<logger>[\w.]+)\](?: .*)?$"
)
STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")


class DemoError(Exception):
    """The demo failed, for the reason in the message."""


class Report:
    """Prints numbered steps with the seconds since the start, and details below them."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._steps = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start of the demo."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """Print the heading of the next step."""
        self._steps += 1
        print(f"\n{self._steps}. {text}  [{self.seconds:.1f} s]", flush=True)

    def detail(self, text: str) -> None:
        """Print a detail of the step."""
        print(f"     {text}", flush=True)


class Airflow:
    """An Airflow in `folder`, with one connection.

    Its settings are in the environment of this process and its children. So is the connection, where no
    process list shows it.
    """

    def __init__(self, folder: Path, log: Path, connection: str, secret: str) -> None:
        self._folder = folder
        self._log = log
        self._secret = secret
        # The settings of another Airflow on this machine, and proxies, must not affect this one.
        for name in list(os.environ):
            if name.startswith(("AIRFLOW", "STABILITY_")):
                del os.environ[name]
        for name in ("NO_PROXY", "no_proxy"):
            direct = [os.environ.get(name), "127.0.0.1", "localhost", "::1"]
            os.environ[name] = ",".join(filter(None, direct))
        os.environ |= {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW_CONN_STABILITY_DEFAULT": connection,
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).with_name("demo_dags")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }

    @contextmanager
    def command(self, *arguments: str, limit: float) -> Iterator[Iterator[str]]:
        """Run `airflow` with arguments, yield its output line by line, and end all its processes.

        :raises DemoError: if it fails or takes longer than `limit` seconds.
        """
        command = "airflow " + " ".join(arguments)
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            yield self._lines(process, limit, command)
            if status := process.wait(limit):
                raise DemoError(f"`{command}` failed with exit status {status}.")
        finally:
            _stop(process)

    def _lines(self, process: subprocess.Popen[str], limit: float, command: str) -> Iterator[str]:
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            with self._log.open("a", encoding="utf-8") as log:
                for line in process.stdout:
                    # The package never logs the key. This log may be shared, so make sure.
                    safe = line.replace(self._secret, "***")
                    print(safe, end="", file=log, flush=True)
                    lines.put(safe.rstrip("\n"))
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        end = time.monotonic() + limit
        while True:
            try:
                line = lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise DemoError(f"`{command}` did not end within {limit:.0f} s.") from None
            if line is None:
                return
            yield line

    def migrate(self) -> None:
        """Create the database."""
        with self.command("db", "migrate", limit=60) as lines:
            for _ in lines:
                pass

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection works, and the message that the Test button of Airflow's UI shows."""
        # Imported here, since Airflow reads its settings, which the constructor sets, on import.
        from airflow_provider_stability.hooks.stability import StabilityHook  # noqa: PLC0415

        return StabilityHook().test_connection()

    def results(self, dag_id: str) -> dict[str, Any]:
        """Return the XCom results of the tasks in the run of `dag_id`, by task.

        :raises DemoError: if the run did not succeed.
        """
        from airflow.models import DagRun  # noqa: PLC0415
        from airflow.models.xcom import XComModel  # noqa: PLC0415
        from airflow.utils.session import create_session  # noqa: PLC0415
        from sqlalchemy import select  # noqa: PLC0415

        with create_session() as session:
            states = session.scalars(select(DagRun.state).where(DagRun.dag_id == dag_id)).all()
            if [str(state) for state in states] != ["success"]:
                raise DemoError(
                    f"The run of {dag_id} ended as {', '.join(map(str, states)) or 'unknown'}, not success."
                )
            rows = session.scalars(
                select(XComModel).where(XComModel.dag_id == dag_id, XComModel.key == "return_value")
            )
            return {row.task_id: XComModel.deserialize_value(row) for row in rows}


def _stop(process: subprocess.Popen[str]) -> None:
    for number, timeout in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
            break


def _print_log(report: Report, lines: Iterator[str], titles: dict[str, str]) -> Iterator[str]:
    """Print the log lines of the tasks, without Airflow's own; yield the id of the task after each line."""
    task = ""
    for line in lines:
        if starting := STARTING.search(line):
            task = starting[1]
            report.step(titles[task])
        elif task and (entry := LOG_LINE.match(line)) and "stability" in entry["logger"]:
            report.detail(f"{entry['time']}  {entry['message']}")
            yield task


def simulated(report: Report, folder: Path, log: Path) -> list[str]:
    """Run a gate that waits for credits of a simulated account; return a summary."""
    with Simulator(credits=INITIAL_CREDITS) as simulator:
        report.step(
            f"Start a simulated account at {simulator.base_url}, with {simulator.credits():g} credits."
        )
        connection = simulator.connection()
        airflow = Airflow(folder, log, connection, json.loads(connection)["password"])
        report.step("Create Airflow's database: SQLite, in a temporary folder.")
        airflow.migrate()
        report.step("Run the DAG, gate >> generate >> account, with `airflow dags test stability_demo`.")
        titles = {
            "gate": "Task gate, a BalanceSensor, needs 40 credits and checks every 2 seconds. Its log:",
            "generate": "The gate is open, so task generate, the paid job, starts. It generates an image:",
            "account": "Task account, an AccountOperator, reads the account:",
        }
        topped_up = 0.0
        with airflow.command("dags", "test", "stability_demo", limit=DAG_TIMEOUT) as lines:
            for task in _print_log(report, lines, titles):
                pokes = simulator.count(BALANCE_PATH)
                if task == "gate" and pokes >= POKES_BEFORE_TOP_UP and not topped_up:
                    simulator.top_up(TOP_UP)
                    topped_up = simulator.credits()
                    report.step(f"The gate has checked {pokes} times. Now add {TOP_UP} credits:")
        if not topped_up:
            raise DemoError("The gate opened without having waited.")
        results = _show_results(report, airflow, "stability_demo", titles)
        remaining = simulator.credits()
    if results["gate"] != topped_up or not results["generate"]["bytes"] or remaining >= topped_up:
        raise DemoError("The XCom results do not match the balance.")
    size = results["generate"]["bytes"]
    return [
        f"{INITIAL_CREDITS:g} credits: the gate waited.",
        f"{topped_up:g} credits: the gate opened.",
        f"{remaining:g} credits: left after the job, which generated a PNG of {size:,} bytes.",
    ]


def live(report: Report, folder: Path, log: Path, key: str) -> list[str]:
    """Run connection test, gate and account on the real service, at no cost; return a summary."""
    connection = {"conn_type": "stability", "password": key}
    if host := os.environ.get("STABILITY_API_HOST"):
        connection["host"] = host
    report.step(f"Use the account of STABILITY_API_KEY at {host or 'https://api.stability.ai'}.")
    airflow = Airflow(folder, log, json.dumps(connection), key)
    report.step("Test the connection:")
    connected, message = airflow.test_connection()
    if not connected:
        raise DemoError(message)
    report.detail(message)
    report.step("Create Airflow's database: SQLite, in a temporary folder.")
    airflow.migrate()
    report.step("Run the DAG, gate >> account, with `airflow dags test stability_demo_live`.")
    titles = {
        "gate": "Task gate, a BalanceSensor, needs 0 credits, so it opens at once. Its log:",
        "account": "Task account, an AccountOperator, reads the account:",
    }
    with airflow.command("dags", "test", "stability_demo_live", limit=DAG_TIMEOUT) as lines:
        for _ in _print_log(report, lines, titles):
            pass
    results = _show_results(report, airflow, "stability_demo_live", titles)
    return [f"{results['gate']:g} credits, before and after: nothing was generated."]


def _show_results(report: Report, airflow: Airflow, dag_id: str, tasks: Iterable[str]) -> dict[str, Any]:
    results = airflow.results(dag_id)
    report.step("Read the results of the tasks from XCom:")
    for task in tasks:
        if task not in results:
            raise DemoError(f"Task {task} pushed no XCom.")
        if isinstance(results[task], dict):
            report.detail(f"{task}:")
            for name, value in results[task].items():
                report.detail(f"  {name}: {json.dumps(value)}")
        else:
            report.detail(f"{task}: {json.dumps(results[task])}")
    return results


def main() -> int:
    """Run the demo; return an exit status."""
    key = os.environ.get("STABILITY_API_KEY", "").strip() if sys.argv[1:] == ["--live"] else None
    if key == "":
        print("STABILITY_API_KEY is empty; it must be an API key.", file=sys.stderr)
        return 2
    # These must end the processes of the demo, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="stability-demo-"))
    home, log = folder / "airflow", folder / "airflow.log"
    home.mkdir()
    report = Report()
    print(
        f"A paid job that waits until the account has enough credits, on Airflow {version('apache-airflow')}."
    )
    try:
        summary = simulated(report, home, log) if key is None else live(report, home, log, key)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        if log.exists():
            tail = log.read_text(encoding="utf-8").splitlines()[-LOG_TAIL:]
            print(f"The last lines of {log}:", *tail, sep="\n  ", file=sys.stderr)
        shutil.rmtree(home if log.exists() else folder)
        return 1
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    print(f"\nDone in {report.seconds:.0f} s. Nothing is left running or on disk.", *summary, sep="\n     ")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Nothing is left running or on disk.")
