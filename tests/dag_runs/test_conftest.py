"""What the tests themselves leave behind."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.programs import TESTS

if TYPE_CHECKING:
    from pathlib import Path

HALF_WAY = """
import sys
sys.modules["airflow_provider_stability.simulator.fixtures"] = None
import conftest
"""


@pytest.mark.parametrize(("code", "is_broken"), [(HALF_WAY, True), ("import conftest", False)])
def test_temporary_home_is_removed_even_if_the_import_fails(
    tmp_path: Path, code: str, *, is_broken: bool
) -> None:
    made = subprocess.run(
        [sys.executable, "-c", f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\n{code}"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ("ImportError" in made.stderr or "ModuleNotFoundError" in made.stderr) == is_broken, made.stderr
    assert list(tmp_path.iterdir()) == []
