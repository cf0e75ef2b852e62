"""What differs between the supported Airflow versions, as far as common-compat does not level it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

__all__ = ["RENDERS_IN_TRIGGERER", "STARTS_IN_TRIGGERER", "can_start_in_triggerer", "success_event"]

_VERSION = Version(Version(airflow_version).base_version)

STARTS_IN_TRIGGERER = not Version("3.1") <= _VERSION < Version("3.3")
"""Whether ``start_from_trigger`` is heeded: 3.1 and 3.2 accept and ignore it (``models/dagrun.py`` there)."""

RENDERS_IN_TRIGGERER = Version("3.3") <= _VERSION
"""Whether a task that starts in the triggerer has its templates rendered there (``triggers/base.py``)."""

_KEEPS_TYPES_AT_END = Version("3.0") > _VERSION
"""Whether an end event's XComs keep their types. 3.x encodes them twice (3.3.2 ``XComModel.set``): the next
task reads 10.0 as the text "10.0"."""


def can_start_in_triggerer(*parameters: object) -> bool:
    """Return whether a task with these parameters can start in this Airflow's triggerer."""
    has_template = any(isinstance(each, str) and ("{{" in each or "{%" in each) for each in parameters)
    is_plain = all(each is None or isinstance(each, str | int | float) for each in parameters)
    return STARTS_IN_TRIGGERER and is_plain and (RENDERS_IN_TRIGGERER or not has_template)


async def success_event(trigger: BaseTrigger, value: float) -> TriggerEvent:
    """Push a task's XCom from its trigger, typed as from a worker, and return the event that ends it."""
    if _KEEPS_TYPES_AT_END:
        return TaskSuccessEvent(xcoms={"return_value": value})
    ti = trigger.task_instance
    where: dict[str, Any] = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    await sync_to_async(XCom.set)(key="return_value", value=value, **where)
    return TaskSuccessEvent()
