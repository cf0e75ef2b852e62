"""The demo that `scripts/demo` starts: a real DAG on a real Airflow, told step by step.

Everything it needs is its own and gone afterwards: Airflow's home and SQLite database lie in a temporary
folder, each Airflow command runs in a process group that is ended with it. After a failure the log is kept.
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

CREDITS_AT_FIRST = 12.5
TOP_UP = 50
BALANCE_PATH = "/v1/user/balance"
GATE_ASKS = 2
"""How often the gate must have asked before the top-up: the second time shows that it waits."""
DAG_SECONDS = 90
"""More than the gate's own timeout in the DAG, less than the patience of somebody who watches."""

LOG_TAIL = 30

# 2026-11-20T18:25:32.457292Z [info     ] the message [the.logger] more=fields
LOG_LINE = re.compile(
    r"\S+T(?P<time>[\d:]{8})\S* \[\w+ *\] (?P<message>.*?) +\[(?P<logger>[\w.]+)\](?: .*)?$"
)
STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Story:
    """Prints numbered steps with the time they came at, and detail lines below them."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._steps = 0

    @property
    def seconds(self) -> float:
        """How long the demo has been running."""
        return time.monotonic() - self.began

    def step(self, text: str) -> None:
        """Begin a step."""
        self._steps += 1
        print(f"\n{self._steps}. {text}  [{self.seconds:.1f} s]", flush=True)

    def detail(self, text: str) -> None:
        """Add to the step."""
        print(f"     {text}", flush=True)


class Airflow:
    """An Airflow of the demo's own, in `folder`, with one connection.

    Its settings are those of this process and its children. The connection is among them, in the environment,
    where no process list shows it.
    """

    def __init__(self, folder: Path, log: Path, connection: str, secret: str) -> None:
        self._folder = folder
        self._log = log
        self._secret = secret
        # The settings of an Airflow that lives on this machine must not reach this one, nor must a proxy.
        for name in list(os.environ):
            if name.startswith(("AIRFLOW", "STABILITY_")):
                del os.environ[name]
        for name in ("NO_PROXY", "no_proxy"):
            reached = [os.environ.get(name), "127.0.0.1", "localhost", "::1"]
            os.environ[name] = ",".join(filter(None, reached))
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
        """Run `airflow` with arguments and give its output line by line; nothing of it is left running.

        :raises DemoError: it failed, or took longer than `limit` seconds.
        """
        said = "airflow " + " ".join(arguments)
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
            yield self._lines(process, limit, said)
            if status := process.wait(limit):
                raise DemoError(f"`{said}` failed with exit status {status}.")
        finally:
            _stop(process)

    def _lines(self, process: subprocess.Popen[str], limit: float, said: str) -> Iterator[str]:
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            with self._log.open("a", encoding="utf-8") as log:
                for line in process.stdout:
                    # The package keeps the key out of what it says; this log may be passed on, so look twice.
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
                raise DemoError(f"`{said}` did not end within {limit:.0f} s.") from None
            if line is None:
                return
            yield line

    def migrate(self) -> None:
        """Make the database."""
        with self.command("db", "migrate", limit=60) as lines:
            for _ in lines:
                pass

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection works, and the words that the Test button of Airflow's UI shows."""
        # Not imported earlier: Airflow reads its settings on import, and they are made above.
        from airflow_provider_stability.hooks.stability import StabilityHook  # noqa: PLC0415

        return StabilityHook().test_connection()

    def results(self, dag_id: str) -> dict[str, Any]:
        """Return what the tasks of the run of `dag_id` pushed to XCom, by task.

        :raises DemoError: the run did not succeed.
        """
        from airflow.models import DagRun  # noqa: PLC0415
        from airflow.models.xcom import XComModel  # noqa: PLC0415
        from airflow.utils.session import create_session  # noqa: PLC0415
        from sqlalchemy import select  # noqa: PLC0415

        with create_session() as session:
            states = session.scalars(select(DagRun.state).where(DagRun.dag_id == dag_id)).all()
            if [str(state) for state in states] != ["success"]:
                raise DemoError(
                    f"The run of {dag_id} ended as {', '.join(map(str, states)) or 'nothing'}, not success."
                )
            rows = session.scalars(
                select(XComModel).where(XComModel.dag_id == dag_id, XComModel.key == "return_value")
            )
            return {row.task_id: XComModel.deserialize_value(row) for row in rows}


def _stop(process: subprocess.Popen[str]) -> None:
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break


def _tell(story: Story, lines: Iterator[str], titles: dict[str, str]) -> Iterator[str]:
    """Print what the tasks log of their work, without Airflow's own; yield the task's id after each line."""
    task = ""
    for line in lines:
        if starting := STARTING.search(line):
            task = starting[1]
            story.step(titles[task])
        elif task and (said := LOG_LINE.match(line)) and "stability" in said["logger"]:
            story.detail(f"{said['time']}  {said['message']}")
            yield task


def simulated(story: Story, folder: Path, log: Path) -> list[str]:
    """Show a gate that waits for credits, on a simulated account; return what happened in short."""
    with Simulator(credits=CREDITS_AT_FIRST) as simulator:
        story.step(
            f"A simulated account on this machine, at {simulator.base_url}: {simulator.credits():g} credits"
        )
        connection = simulator.connection()
        airflow = Airflow(folder, log, connection, json.loads(connection)["password"])
        story.step("Airflow makes its database, SQLite in a temporary folder ...")
        airflow.migrate()
        story.step("`airflow dags test stability_demo` runs gate >> generate >> account ...")
        titles = {
            "gate": "The gate, a BalanceSensor, needs 40 credits and asks every 2 seconds. Its own log:",
            "generate": "The gate is open and the paid job starts: it has a picture generated.",
            "account": "AccountOperator reads whose account it is.",
        }
        waited_at = 0.0
        with airflow.command("dags", "test", "stability_demo", limit=DAG_SECONDS) as lines:
            for task in _tell(story, lines, titles):
                asked = sum(request.path == BALANCE_PATH for request in simulator.requests)
                if task == "gate" and asked >= GATE_ASKS and not waited_at:
                    simulator.top_up(TOP_UP)
                    waited_at = simulator.credits()
                    story.step(
                        f"It asked {asked} times and waits. A top-up of {TOP_UP} credits makes {waited_at:g}"
                    )
        if not waited_at:
            raise DemoError("The gate let the job through without having waited.")
        results = _show_results(story, airflow, "stability_demo", titles)
        left = simulator.credits()
    if results["gate"] != waited_at or not results["generate"]["bytes"] or left >= waited_at:
        raise DemoError("XCom and balance do not fit together.")
    size, cost = results["generate"]["bytes"], waited_at - left
    return [
        f"{CREDITS_AT_FIRST:5g} credits: the gate stayed shut",
        f"{waited_at:5g} credits: the gate opened",
        f"{left:5g} credits: left after the job, which made a PNG of {size} bytes for {cost:g}",
    ]


def live(story: Story, folder: Path, log: Path, key: str) -> list[str]:
    """Show connection, gate and account on the real service, for free; return what happened in short."""
    connection = {"conn_type": "stability", "password": key}
    if host := os.environ.get("STABILITY_API_HOST"):
        connection["host"] = host
    story.step(f"The account is the one of STABILITY_API_KEY, at {host or 'https://api.stability.ai'}")
    airflow = Airflow(folder, log, json.dumps(connection), key)
    story.step("The connection's test says:")
    connected, words = airflow.test_connection()
    if not connected:
        raise DemoError(words)
    story.detail(words)
    story.step("Airflow makes its database, SQLite in a temporary folder ...")
    airflow.migrate()
    story.step("`airflow dags test stability_demo_live` runs gate >> account ...")
    titles = {
        "gate": "The gate, a BalanceSensor, needs 0 credits, so it opens at once. Its own log:",
        "account": "AccountOperator reads whose account it is.",
    }
    with airflow.command("dags", "test", "stability_demo_live", limit=DAG_SECONDS) as lines:
        for _ in _tell(story, lines, titles):
            pass
    results = _show_results(story, airflow, "stability_demo_live", titles)
    return [f"{results['gate']:g} credits before and after: nothing was generated"]


def _show_results(story: Story, airflow: Airflow, dag_id: str, tasks: Iterable[str]) -> dict[str, Any]:
    results = airflow.results(dag_id)
    story.step("What Airflow keeps in XCom:")
    for task in tasks:
        if task not in results:
            raise DemoError(f"The task {task} pushed no XCom.")
        if isinstance(results[task], dict):
            story.detail(f"{task}:")
            for name, value in results[task].items():
                story.detail(f"  {name}: {json.dumps(value)}")
        else:
            story.detail(f"{task}: {json.dumps(results[task])}")
    return results


def main() -> int:
    """Run the demo; return an exit status."""
    key = os.environ.get("STABILITY_API_KEY", "").strip() if sys.argv[1:] == ["--live"] else None
    if key == "":
        print("scripts/demo --live needs the key of an account in STABILITY_API_KEY.", file=sys.stderr)
        return 2
    # Whoever ends the demo ends all of it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="stability-demo-"))
    home, log = folder / "airflow", folder / "airflow.log"
    home.mkdir()
    story = Story()
    print(f"A paid job behind a gate that knows the balance, on Airflow {version('apache-airflow')}")
    try:
        summary = simulated(story, home, log) if key is None else live(story, home, log, key)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        if log.exists():
            tail = log.read_text(encoding="utf-8").splitlines()[-LOG_TAIL:]
            print(f"The last lines of {log}:", *tail, sep="\n  ", file=sys.stderr)
        shutil.rmtree(home if log.exists() else folder)
        return 1
    except BaseException:  # also Ctrl-C: leave nothing
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    print(f"\nDone in {story.seconds:.0f} s; nothing is left running.", *summary, sep="\n     ")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; nothing is left running.")
