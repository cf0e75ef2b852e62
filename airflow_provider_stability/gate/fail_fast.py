"""What a permanent error does to a task: it fails at once, without retries."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stability.exceptions import StabilityError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["describe_target", "fail_fast"]


def describe_target(task: Any) -> str:
    """Return whose credits a task is about, for its log: its connection and its organization, if any."""
    organization = getattr(task, "organization", None)
    scope = "" if organization is None else f", organization {organization!r}"
    return f"connection {task.stability_conn_id!r}{scope}"


@contextmanager
def fail_fast(task: Any) -> Iterator[None]:
    """Turn a permanent error into the exception that Airflow does not retry.

    Transient errors pass through, so that the task's ``retries`` apply to them. In a sensor, this must be
    around everything else: inside a poke, Airflow's ``soft_fail`` would skip on an AirflowFailException.

    :param task: the operator.
    :raises AirflowFailException: from the permanent error, with what to do about it.
    """
    try:
        yield
    except StabilityError as error:
        if error.transient:
            raise
        message = f"Not retried, as it would fail again: {error}. {error.advice} ({describe_target(task)})"
        raise AirflowFailException(message) from error
