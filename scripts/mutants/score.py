"""Counts which mutants the tests have noticed, and holds the rest against `survivors.md`.

``python score.py RESULTS`` prints the table; its status is 1 where too few were noticed. ``python score.py
--modules`` prints the modules that have tests in ``pyproject.toml``.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
EXPLAINED: Final = Path(__file__).with_name("survivors.md")
LEAST: Final = 0.95
"""The part of the covered mutants that a test has to notice."""

_LINE: Final = re.compile(
    r"- `(?P<where>[^`]+)`, `(?P<operator>\w+) (?P<numbers>\d+(?:, \d+)*)`: (?P<why>\S.*)"
)

Key = tuple[str, str, str, int]
"""Of a mutant: its module, where in it, the operator, and the number among those of the operator there."""


def explanations() -> dict[Key, str]:
    """Return why a mutant may survive."""
    found: dict[Key, str] = {}
    module = ""
    for line in EXPLAINED.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            module = line[3:].strip()
        elif line.startswith("- `"):
            entry = _LINE.fullmatch(line)
            if entry is None:
                sys.exit(f"{EXPLAINED.name}: an entry has another form: {line}")
            for number in entry["numbers"].split(", "):
                found[module, entry["where"], entry["operator"], int(number)] = entry["why"]
    return found


def key_of(mutant: dict[str, Any]) -> Key:
    """Return where a mutant's explanation would stand."""
    return mutant["module"], mutant["where"], mutant["operator"], mutant["number"]


def main() -> None:
    """Print the survivors that nobody has explained, and the table."""
    if sys.argv[1] == "--modules":
        config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        print(*config["tool"]["mutants"]["tests"])
        return
    mutants = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    explained = explanations()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    used = set()
    for mutant in mutants:
        verdict = mutant["verdict"]
        if verdict == "survived":
            key = key_of(mutant)
            if key in explained:
                verdict = "explained"
                used.add(key)
            else:
                verdict = "unexplained"
                module, where, operator, number = key
                print(f"survived, {module}:{mutant['lines'][0]}: {mutant['before']} -> {mutant['after']}")
                print(f"- `{where}`, `{operator} {number}`: ?")
        counts[mutant["module"]][verdict] += 1
    for key in explained:
        if key[0] in counts and key not in used:
            print(f"{EXPLAINED.name} explains what did not survive: {key[0]}, {key[1]}, {key[2]} {key[3]}")
    total = sum(counts.values(), Counter())
    print(
        f"\n{'module':<20}{'mutants':>9}{'covered':>9}{'killed':>8}{'timeouts':>10}{'survived':>10}", end=""
    )
    print(f"{'explained':>11}{'not':>5}{'score':>9}")
    for module, count in [*counts.items(), ("all", total)]:
        made = count.total()
        covered = made - count["not covered"]
        survived = count["explained"] + count["unexplained"]
        print(f"{module:<20}{made:>9}{covered:>9}{count['killed']:>8}{count['timeout']:>10}", end="")
        print(f"{survived:>10}{count['explained']:>11}{count['unexplained']:>5}{score(count):>9.1%}")
    print(f"\nThe score is (killed + timeouts) / covered; at least {LEAST:.0%} over all.")
    sys.exit(score(total) < LEAST)


def score(count: Counter[str]) -> float:
    """Return the part of the covered mutants that was noticed: by a test that fails, or never ends."""
    covered = count.total() - count["not covered"]
    return (count["killed"] + count["timeout"]) / covered if covered else 1.0


if __name__ == "__main__":
    main()
