"""What a permanent error does to a task: it fails at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stability.exceptions import StabilityError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["permanent_errors_fail_at_once", "whose"]


def whose(task: Any) -> str:
    """Return whose credits a task of this package asks about, for whoever reads one line of its log.

    :param task: an operator with a ``stability_conn_id``, and perhaps an ``organization``.
    """
    organization = getattr(task, "organization", None)
    scope = "" if organization is None else f", organization {organization!r}"
    return f"connection {task.stability_conn_id!r}{scope}"


@contextmanager
def permanent_errors_fail_at_once(task: Any) -> Iterator[None]:
    """Turn an error that no retry can mend into the exception that Airflow does not retry.

    Transient errors pass as they are, so that the task's ``retries`` count for them. To be used around
    everything else a sensor does: inside a poke, Airflow's ``soft_fail`` would make a skip of an
    AirflowFailException.

    :param task: the operator.
    :raises AirflowFailException: from the permanent error, with what to do about it.
    """
    try:
        yield
    except StabilityError as error:
        if error.transient:
            raise
        said = f"Not retried, as it would fail again: {error}. {error.advice} ({whose(task)})"
        raise AirflowFailException(said) from error
