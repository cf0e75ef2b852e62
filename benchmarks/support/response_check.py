"""The response check of HttpEventTrigger; alone in here, as each of its polls reloads the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

NEEDED = 40


async def has_enough(response: requests.Response) -> bool:
    """Tell whether an answer of the balance endpoint has enough credits."""
    return bool(response.json()["credits"] >= NEEDED)
