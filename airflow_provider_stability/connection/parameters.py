"""Checks of what tasks and hooks are given beside a connection. Light: every DAG file imports it."""

from __future__ import annotations

from airflow_provider_stability.connection.fields import EXTRA_FIELDS
from airflow_provider_stability.exceptions import StabilityParameterError

__all__ = ["check_connection_id", "check_max_retries", "check_organization"]


def check_organization(organization: object, *, is_given: bool = False) -> str | None:
    """Return a task's ``organization`` ready for a header; None means the connection's.

    A value that renders or resolves to nothing is refused: the task would silently use another organization.

    :param organization: the value when the task runs.
    :param is_given: whether the DAG sets an organization, so that None can only be what it rendered to.
    :raises StabilityParameterError: for anything that is not an organization id.
    """
    if organization is None and not is_given:
        return None
    field = EXTRA_FIELDS["organization"]
    # A template without native types renders None to the text "None".
    text = organization.strip() if isinstance(organization, str) and organization.strip() != "None" else ""
    try:
        return str(field.rule.parse(text))
    except ValueError:
        found = f"is {organization!r}" if organization is not None else "is set in the DAG, but became None"
        raise StabilityParameterError(
            f"organization {found}; it must be {field.allowed}, or None in the DAG to use the connection's"
        ) from None


def check_connection_id(value: object) -> None:
    """Refuse a value that cannot be a connection id, such as what a template may render to.

    :raises StabilityParameterError: naming the value.
    """
    if not isinstance(value, str) or not value.strip():
        raise StabilityParameterError(f"stability_conn_id is {value!r}; it must be the id of a connection")


def check_max_retries(value: object) -> None:
    """Refuse a hook's ``max_retries`` that is neither None nor valid for a connection.

    :raises StabilityParameterError: naming the value and what it must be.
    """
    field = EXTRA_FIELDS["max_retries"]
    try:
        if value is None or (type(value) is int and field.rule.parse(value) == value):
            return
    except ValueError:
        pass
    raise StabilityParameterError(
        f"max_retries is {value!r}; it must be {field.allowed}, or None to use the connection's"
    )
