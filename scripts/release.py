"""Say what is missing before this project can be released under a tag: ``release.py TAG``."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems(root: Path, tag: str) -> list[str]:
    """Return what is wrong, one sentence each."""
    init = (root / "airflow_provider_stability" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', init, flags=re.MULTILINE)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(iter(re.findall(r"^## (.*)$", changelog, flags=re.MULTILINE)), "")
    urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})

    found = []
    if tag != f"v{version}":
        found.append(f"The tag is {tag!r}; it must be 'v{version}', as in the package's __init__.py.")
    if not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}", newest):
        found.append(f"CHANGELOG.md begins with {newest!r}; it must be '{version} - YYYY-MM-DD'.")
    for name in ("Documentation", "Source"):
        url = urls.get(name, "")
        if not url.startswith("https://"):
            found.append(
                f"{name} in [project.urls] of pyproject.toml is {url!r}; it must be an https:// URL."
            )
    return found


if __name__ == "__main__":
    found = problems(ROOT, sys.argv[1])
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(bool(found))
