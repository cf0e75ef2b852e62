"""Differences between the supported Airflow versions, as far as common-compat does not cover them.

Light, as every DAG file imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

__all__ = [
    "RENDERS_IN_TRIGGERER",
    "STARTS_IN_TRIGGERER",
    "can_start_in_triggerer",
    "is_template",
    "is_unmapped",
    "is_xcom_arg",
    "success_event",
]

_VERSION = Version(Version(airflow_version).base_version)

STARTS_IN_TRIGGERER = not Version("3.1") <= _VERSION < Version("3.3")
"""Whether ``start_from_trigger`` works: 3.1 and 3.2 accept and ignore it (``models/dagrun.py`` there)."""

RENDERS_IN_TRIGGERER = Version("3.3") <= _VERSION
"""Whether the templates of a task that starts in the triggerer are rendered (``triggers/base.py``)."""

_KEEPS_TYPES_AT_END = Version("3.0") > _VERSION
"""Whether an end event's XComs keep their types. 3.x encodes them twice (3.3.2 ``XComModel.set``): the next
task reads 10.0 as the string "10.0"."""


def is_template(value: object) -> bool:
    """Return whether a parameter is a string that Airflow renders."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def is_xcom_arg(value: object) -> bool:
    """Return whether a parameter is the result of another task."""
    return hasattr(value, "resolve")  # its base class is in another module in each version


def is_unmapped(operator: object) -> bool:
    """Return whether Airflow constructs this operator from a mapped task, with resolved parameters."""
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))  # the name in 2.11 to 3.3


def can_start_in_triggerer(*parameters: object) -> bool:
    """Return whether a task with these parameters can start in this Airflow's triggerer."""
    has_template = any(map(is_template, parameters))
    is_plain = all(each is None or isinstance(each, str | int | float) for each in parameters)
    return STARTS_IN_TRIGGERER and is_plain and (RENDERS_IN_TRIGGERER or not has_template)


async def success_event(trigger: BaseTrigger, value: float) -> TriggerEvent:
    """Push a task's XCom from its trigger, typed as from a worker, and return the event that ends it."""
    from airflow.triggers.base import TaskSuccessEvent

    if _KEEPS_TYPES_AT_END:
        return TaskSuccessEvent(xcoms={"return_value": value})

    from airflow.providers.common.compat.sdk import XCom
    from asgiref.sync import sync_to_async

    ti = trigger.task_instance
    where: dict[str, Any] = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    await sync_to_async(XCom.set)(key="return_value", value=value, **where)
    return TaskSuccessEvent()
