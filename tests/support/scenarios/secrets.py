"""A secrets backend for Airflow: a folder with a file for each connection, which can change at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.secrets import BaseSecretsBackend

__all__ = ["Folder"]


class Folder(BaseSecretsBackend):
    """Reads a connection's JSON from the file of its name, anew each time.

    :param folder: where the files are.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:  # noqa: ARG002
        """Return the JSON; None for a connection that is not there."""
        try:
            return (self._folder / conn_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def get_variable(self, *_: Any, **__: Any) -> str | None:
        """Return None: there are none."""
        return None

    def get_config(self, *_: Any, **__: Any) -> str | None:
        """Return None: there are none."""
        return None
