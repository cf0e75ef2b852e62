"""Where the tests' files are, and how their helper programs are started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["DAGS", "EXAMPLES", "ROOT", "TESTS", "python_path"]

TESTS: Final = Path(__file__).parents[1]
ROOT: Final = TESTS.parent
DAGS: Final = TESTS / "support" / "dags"
EXAMPLES: Final = ROOT / "example_dags"


def python_path() -> str:
    """Return the ``PYTHONPATH`` for ``python -m support.supervised`` and the like."""
    return os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
