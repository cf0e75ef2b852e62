"""Make the README's links lead to the public home, in the description that PyPI shows.

The home is ``Source`` in ``[project.urls]`` of ``pyproject.toml``. Without it the README stays as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_CODE_BLOCK: Final = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)\s*$)", flags=re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(
    r"""
    (?P<before> \]\( | ^\[[^\]]+\]:\s+ | \b(?:src|href)=" )  # [text](path), [name]: path, <img src="path">
    (?! [a-z][a-z0-9+.-]*: | // | \# )                       # neither a whole URL nor an anchor
    (?P<path> [^\s)"]+ )
    """,
    flags=re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_IMAGES: Final = (".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp")


def absolute_links(markdown: str, source: str, version: str) -> str:
    """Return a README whose relative links and images lead to the files of a released version.

    :param markdown: the README; what stands in fenced code blocks is left alone.
    :param source: the address of the repository, with paths as on GitHub.
    :param version: the version, whose tag is ``v`` and the version.
    """

    def absolute(link: re.Match[str]) -> str:
        path = link["path"].removeprefix("./")
        view = "raw" if path.lower().endswith(_IMAGES) else "blob"
        return f"{link['before']}{source.rstrip('/')}/{view}/v{version}/{path}"

    parts = _CODE_BLOCK.split(markdown)
    parts[::2] = [_LINK.sub(absolute, text) for text in parts[::2]]  # the others are the code blocks
    return "".join(parts)


class ReadmeHook(MetadataHookInterface):
    """Gives hatchling the README."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the project's ``readme``.

        :param metadata: the ``[project]`` table, with the version.
        """
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        if source:
            text = absolute_links(text, source, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
