"""Checks of task parameters while a DAG file is parsed, where an error is seen before the task runs."""

from __future__ import annotations

from typing import Any

from airflow_provider_stability.gate.credits import parse_min_credits
from airflow_provider_stability.version_compat import is_template, is_unmapped, is_xcom_arg

__all__ = ["check_literal_min_credits"]


def check_literal_min_credits(value: Any, operator: object) -> None:
    """Refuse a ``min_credits`` that is written in the DAG file and invalid.

    Templates and values from other tasks are only known at run time, and pass.

    :param operator: the operator under construction. Airflow constructs a mapped task's on the worker,
        outside of the code that keeps permanent errors from being retried; it checks when it executes.
    :raises StabilityParameterError: as ``parse_min_credits`` does.
    """
    if not (is_unmapped(operator) or is_template(value) or is_xcom_arg(value)):
        parse_min_credits(value)
