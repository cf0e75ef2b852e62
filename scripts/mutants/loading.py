"""Lets Python import one module of the package from a text that is in no file."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

__all__ = ["Finder", "Mutated"]


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads one module of the package from another text."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # Python's signature
        """Compile the other text."""
        return compile(self._source, self.path, "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Lets one module be loaded by one loader."""

    def __init__(self, loader: Mutated) -> None:
        self._loader = loader

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # Python's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the one module, and no other."""
        if fullname != self._loader.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)
