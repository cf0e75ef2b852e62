"""A directive for what the code itself says: ``{from-code} errors`` is the table of the package's errors."""
# ruff: noqa: INP001, S603  # Sphinx reads it, it is no package; what it runs is ours

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

from sphinx.util.docutils import SphinxDirective

from airflow_provider_stability import exceptions
from airflow_provider_stability.connection.fields import DEFAULT_BASE_URL, EXTRA_FIELDS, RELABELING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docutils import nodes
    from sphinx.application import Sphinx


def connection_fields() -> str:
    """Return the fields of a connection, in the order of its form."""
    key = "The API key, with or without a leading `Bearer`."
    api = f"Where the API is. Default: `{DEFAULT_BASE_URL}`."
    url = "a URL, with or without `https://`, port and path; `http://` to this machine or with `allow_http`"
    rows = [
        ("`password`", RELABELING["password"], key, "an API key"),
        ("`host`", RELABELING["host"], api, url),
    ]
    for field in EXTRA_FIELDS.values():
        default = json.dumps(field.default).strip('"')
        what = field.help if field.default is None else f"{field.help} Default: `{default}`."
        rows.append((f"`{field.name}`", field.label, what, field.allowed))
    return _table(("field", "in the form", "what it does", "must be"), rows)


def errors() -> str:
    """Return the errors that are raised, with what their docstrings and ``advice`` say."""
    rows = []
    for name, error in vars(exceptions).items():
        is_error = inspect.isclass(error) and issubclass(error, exceptions.StabilityError)
        if not is_error or error in {exceptions.StabilityError, exceptions.StabilityStatusError}:
            continue
        is_status = issubclass(error, exceptions.StabilityStatusError)
        transient = error.transient if is_status else error("x").transient
        when = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
        rows.append((f"`{name}`", when, "keeps waiting" if transient else "fails", error.advice))
    return _table(("error", "when", "a gate", "what to do"), rows)


def simulator_options() -> str:
    """Return what the simulator prints for ``--help``."""
    command = [sys.executable, "-m", "airflow_provider_stability.simulator", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return f"```text\n{done.stdout}```"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


class FromCode(SphinxDirective):
    """Put in what a function above returns, as Markdown."""

    required_arguments = 1
    parts: ClassVar[dict[str, Callable[[], str]]] = {
        "connection-fields": connection_fields,
        "errors": errors,
        "simulator-options": simulator_options,
    }

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the part that is named."""
        name = self.arguments[0]
        if name not in self.parts:
            raise self.error(f"from-code is {name!r}; it must be one of {', '.join(self.parts)}")
        return self.parse_text_to_nodes(self.parts[name]())


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
