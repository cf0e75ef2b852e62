"""Makes the mutants: each is one module of the package with one small change, of the kinds that mutmut makes.

Runs in an environment of its own, where mutmut is; nothing of the package is imported. Mutmut's own runner is
not used: it leaves out what stands outside of functions and every property, which is most of
``exceptions.py``.

``python make.py ROOT MODULE...`` prints the mutants as JSON. A module is named as below the package, such as
``sensors.balance``. A mutant's name is the function, class or constant that it changes, the operator that
made it, and its number among those of this operator there: rewording or moving a line does not change it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

PACKAGE: Final = "airflow_provider_stability"

# Not mutated, and why. Docstrings and annotations: mutmut's operators and the visitor pass them over, since
# nothing at run time reads them.
_LOG_METHODS: Final = {"debug", "info", "warning", "error", "exception"}  # the wording of a log line
_TYPE_NAMES: Final = {"TypeVar"}  # what only a type checker reads
_NOT_MUTATED_NAMES: Final = {"__all__"}  # read by `import *` only, which nobody writes
_NEVER_CALLED_ANEW: Final = {"len", "isinstance", "cast"}  # as in mutmut: their mutants are errors of types


class _Mutants(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str, str, tuple[int, int], bool]] = []
        self._names: list[str] = []
        self._functions = 0
        self._statements: list[tuple[int, int]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_left_alone(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._names.append(node.name.value)
            self._functions += isinstance(node, cst.FunctionDef)
        if (constant := self._constant(node)) is not None:
            self._names.append(constant)
        if isinstance(node, cst.Parameters):
            self._functions -= 1  # defaults are made where the function is
        if isinstance(node, cst.SimpleStatementLine):
            self._statements.append(self._lines(node))
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                variants = list(operator(node))
                if operator is operator_string:
                    # In capitals and in small letters, the same text would be three mutants.
                    variants = [] if self._is_in_log_call(node) else variants[:1]
                lines = self._statements[-1] if self._statements else self._lines(node)
                for each in variants:
                    where = ".".join(self._names)
                    name = operator.__name__.removeprefix("operator_")
                    self.found.append((node, each, where, name, lines, self._functions == 0))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        super().on_leave(original_node)
        if _is_left_alone(original_node):
            return
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._names.pop()
        if self._constant(original_node) is not None:
            self._names.pop()
            self._functions -= isinstance(original_node, cst.FunctionDef)
        if isinstance(original_node, cst.Parameters):
            self._functions += 1
        if isinstance(original_node, cst.SimpleStatementLine):
            self._statements.pop()

    def _constant(self, node: cst.CSTNode) -> str | None:
        """Return the name that a statement of a module or a class gives a value."""
        if self._functions:
            return None
        match node:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))]):
                return str(name)
            case cst.AnnAssign(target=cst.Name(value=name)):
                return str(name)
        return None

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        place = self.get_metadata(PositionProvider, node, None)
        while place is None:
            node = self.get_metadata(ParentNodeProvider, node)
            place = self.get_metadata(PositionProvider, node, None)
        return place.start.line, place.end.line

    def _is_in_log_call(self, node: cst.CSTNode) -> bool:
        above: Any = node
        while not isinstance(above, cst.BaseStatement | cst.SimpleStatementLine | cst.Module):
            above = self.get_metadata(ParentNodeProvider, above)
            if isinstance(above, cst.Call) and isinstance(above.func, cst.Attribute):
                owner = above.func.value
                is_log = m.matches(owner, m.Name("log") | m.Attribute(attr=m.Name("log")))
                if is_log and above.func.attr.value in _LOG_METHODS:
                    return True
        return False


def _is_left_alone(node: cst.CSTNode) -> bool:
    match node:
        case cst.Annotation() | cst.Decorator() | cst.Assert() | cst.ImportFrom() | cst.Import():
            return True  # an assert narrows a type here; that it holds, it says itself
        case cst.Call(func=cst.Attribute(value=cst.Name(value="log"), attr=cst.Name(value="debug"))):
            return True  # for whoever looks for a defect of ours
        case cst.Call(func=cst.Name(value=name)):
            return name in _NEVER_CALLED_ANEW or name in _TYPE_NAMES
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
            is_type = isinstance(value, cst.Call) and m.matches(value.func, m.Name("TypeVar"))
            return name in _NOT_MUTATED_NAMES or is_type
        case cst.If(test=test):
            return m.matches(test, m.Name("TYPE_CHECKING"))
    return False


def mutants_of(root: Path, module: str) -> list[dict[str, Any]]:
    """Return the mutants of a module of the package, in the order in which they stand in it."""
    path = root / PACKAGE / (module.replace(".", "/") + ".py")
    source = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    visitor = _Mutants()
    wrapper.visit(visitor)
    mutants = []
    known = set()
    numbers: Counter[tuple[str, str]] = Counter()
    for old, new, where, operator, lines, at_import in visitor.found:
        try:
            changed = cst.ensure_type(wrapper.module.deep_replace(old, new), cst.Module).code
            compile(changed, str(path), "exec")
        except (SyntaxError, cst.CSTValidationError, TypeError, AttributeError):
            continue  # no program
        if changed == source or changed in known:
            continue
        known.add(changed)
        numbers[where, operator] += 1
        before, after = _difference(source, changed)
        mutants.append(
            {
                "module": module,
                "path": str(path),
                "where": where or "(module)",
                "operator": operator,
                "number": numbers[where, operator],
                "lines": lines,
                "at_import": at_import,
                "before": before,
                "after": after,
                "source": changed,
            }
        )
    return mutants


def _difference(old: str, new: str) -> tuple[str, str]:
    """Return the lines that differ, before and after, without those that are equal on both sides of them."""
    gone, come = old.splitlines(), new.splitlines()
    while gone and come and gone[0] == come[0]:
        del gone[0], come[0]
    while gone and come and gone[-1] == come[-1]:
        del gone[-1], come[-1]
    return " ".join(each.strip() for each in gone), " ".join(each.strip() for each in come)


def main() -> None:
    """Print the mutants of the modules named on the command line."""
    root, *modules = sys.argv[1:]
    json.dump([each for module in modules for each in mutants_of(Path(root), module)], sys.stdout)


if __name__ == "__main__":
    main()
