"""The response check of HttpEventTrigger, in its own module since each poll reloads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

NEEDED = 40


async def has_enough(response: requests.Response) -> bool:
    """Return whether an answer of the balance endpoint has enough credits."""
    return bool(response.json()["credits"] >= NEEDED)
