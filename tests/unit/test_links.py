"""The "Buy credits" button: when it can be shown before its task ends."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_stability import links
from airflow_provider_stability.links import BILLING_URL, BillingLink, show_link_early
from support.log_lines import level_and_text, lines_of

HAS_KEY = hasattr(BillingLink(), "xcom_key")  # Airflow 2 stores no links


class TaskInstance:
    """Takes the XComs of a task."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.pushed: list[tuple[str, str]] = []

    def xcom_push(self, *, key: str, value: str) -> None:
        if self.error is not None:
            raise self.error
        self.pushed.append((key, value))


@pytest.mark.parametrize(
    ("backend", "is_shown"),
    [
        ("", True),
        ("airflow.sdk.execution_time.xcom.BaseXCom", True),
        ("mine.BaseXCom.OtherXCom", False),
    ],
)
def test_the_link_is_shown_early_where_the_ui_would_find_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, *, is_shown: bool
) -> None:
    if backend:
        monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", backend)
    instance: Any = TaskInstance()
    show_link_early({"ti": instance})
    assert instance.pushed == ([("_link_BillingLink", BILLING_URL)] if is_shown and HAS_KEY else [])


def test_a_task_without_an_instance_has_no_link_early() -> None:
    show_link_early({})


def test_a_link_that_cannot_be_stored_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    instance: Any = TaskInstance(RuntimeError("no XCom"))
    with lines_of(links, monkeypatch, level_and_text) as lines:
        show_link_early({"ti": instance})
    expected = [("WARNING", "The link 'Buy credits' is not shown yet: no XCom")]
    assert lines == (expected if HAS_KEY else [])
