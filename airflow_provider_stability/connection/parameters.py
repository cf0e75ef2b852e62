"""What a task or a hook may be given beside a connection. Light, as every DAG file imports it."""

from __future__ import annotations

import re
from typing import Final

from airflow_provider_stability.connection.fields import EXTRA_FIELDS
from airflow_provider_stability.exceptions import StabilityParameterError

__all__ = [
    "BACKSTOP",
    "MAX_CHARACTERS",
    "MAX_RETRIES",
    "TOKEN",
    "check_connection_id",
    "check_max_retries",
    "check_organization",
]

BACKSTOP: Final = 60.0
"""Seconds by which Airflow's own limit on a deferral is later than the gate's: for when no triggerer runs."""

MAX_CHARACTERS: Final = 256
MAX_RETRIES: Final = 10
TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""What can stand in a header as one word."""


def check_organization(organization: object, *, is_given: bool = False) -> str | None:
    """Return a task's ``organization`` ready for a header; None means the connection's.

    What rendered or resolved to nothing is refused: it would silently gate on somebody else's credits.

    :param organization: the value as it is when the task runs.
    :param is_given: whether the DAG names one, so that None can only be what became of it.
    :raises StabilityParameterError: for anything that is no organization id.
    """
    if organization is None and not is_given:
        return None
    text = organization.strip() if isinstance(organization, str) else ""
    # A template without native types renders None to this text.
    if not TOKEN.fullmatch(text) or len(text) > MAX_CHARACTERS or text == "None":
        became = "is" if organization is not None else "was given, and became"
        raise StabilityParameterError(
            f"organization {became} {organization!r}; allowed is {EXTRA_FIELDS['organization'].allowed}, "
            "or None in the DAG for the connection's"
        )
    return text


def check_connection_id(value: object) -> None:
    """Refuse what cannot be the id of a connection, such as what a template has rendered to.

    :raises StabilityParameterError: naming the value.
    """
    if not isinstance(value, str) or not value.strip():
        raise StabilityParameterError(f"stability_conn_id is {value!r}; allowed is the id of a connection")


def check_max_retries(value: object) -> None:
    """Refuse a hook's ``max_retries`` that is neither None nor what the connection's may be.

    :raises StabilityParameterError: naming the value and what is allowed.
    """
    if value is None or (type(value) is int and 0 <= value <= MAX_RETRIES):
        return
    raise StabilityParameterError(
        f"max_retries is {value!r}; allowed is {EXTRA_FIELDS['max_retries'].allowed}, "
        "or None for the connection's"
    )
