"""The API key of the simulated accounts."""

from __future__ import annotations

from typing import Final

__all__ = ["KEY"]

KEY: Final = "sk-CanaryKey0123456789"
"""Looked for where no key may be."""
