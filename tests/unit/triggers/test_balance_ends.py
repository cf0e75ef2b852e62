"""The gate in the triggerer at its edges: when its wait ends, by a clock; and what it says then."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.base import TriggerEvent
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.log_lines import level_and_text, lines_of
from support.polling_gates import in_a_loop, until

from airflow_provider_stability.exceptions import AuthenticationError, StabilityError
from airflow_provider_stability.gate.outcome import Failed
from airflow_provider_stability.gate.wait import Wait
from airflow_provider_stability.polling import balance_poll as streams
from airflow_provider_stability.triggers import balance
from airflow_provider_stability.triggers.balance import BalanceTrigger, failed_event
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.simulator import Simulator

TOLD = "12.5 credits, need 40, short 27.5"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Return the log lines of the gates, each with its level."""
    with lines_of(BalanceTrigger, monkeypatch, level_and_text) as found:
        yield found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock of the wall as the gates see it: it stands where ``now`` is set."""
    clock = SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(balance, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def gate(**kwargs: Any) -> BalanceTrigger:
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.05}
    return BalanceTrigger(**(given | kwargs))


async def events(trigger: BalanceTrigger) -> list[TriggerEvent]:
    return [event async for event in trigger.run()]


async def payload(trigger: BalanceTrigger) -> Any:
    (event,) = await events(trigger)
    return event.payload


def test_what_a_trigger_is_not_told_has_its_default() -> None:
    assert BalanceTrigger(min_credits=40).serialize()[1] == {
        "min_credits": 40,
        "organization": None,
        "stability_conn_id": "stability_default",
        "poke_interval": 60.0,
        "end_time": None,
        "end_from_trigger": False,
        "do_xcom_push": True,
        "names_organization": False,
        "timeout": None,
        "deferral_limit": None,
    }
    assert BalanceCrossingTrigger(threshold=40, direction="below").serialize()[1] == {
        "threshold": 40,
        "direction": "below",
        "rearm_band": 0.0,
        "organization": None,
        "stability_conn_id": "stability_default",
        "poke_interval": 60.0,
    }


LIMIT = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = LIMIT.timestamp()


@pytest.mark.parametrize(
    ("kwargs", "by", "end"),
    [
        ({"end_time": 5.0, "timeout": 60, "deferral_limit": 120}, (LIMIT, LIMIT), 5.0),
        ({}, (LIMIT, LIMIT), math.inf),
        ({"timeout": 60, "deferral_limit": 120}, (None, None), 1_000_060.0),
        ({"timeout": 60}, (LIMIT, LIMIT), 1_000_060.0),
        ({"timeout": 60, "deferral_limit": 120}, (LIMIT, None), EPOCH - 60),
        ({"timeout": 60, "deferral_limit": 120}, (None, LIMIT), EPOCH - 60),
        ({"timeout": 60, "deferral_limit": 30}, (LIMIT, None), EPOCH + 30),
    ],
)
def test_a_wait_ends_when_it_was_told_or_so_long_after_its_start(
    clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    kwargs: dict[str, Any],
    by: tuple[datetime | None, datetime | None],
    end: float,
) -> None:
    trigger = gate(**kwargs)
    assert trigger.timeout_after is None
    trigger.timeout_after, by_task = by
    # A property of Airflow 3, which checks what it is given; a plain attribute of Airflow 2.
    for task_instance in [SimpleNamespace(trigger_timeout=by_task), *([] if by_task else [None])]:
        monkeypatch.setattr(BalanceTrigger if AIRFLOW_V_3_0_PLUS else trigger, "task_instance", task_instance)
        assert trigger._end_of_wait() == end


@in_a_loop
async def test_a_wait_goes_on_to_its_end_and_no_further(account: Simulator, clock: SimpleNamespace) -> None:
    waiting = asyncio.create_task(payload(gate(end_time=clock.now + 1.0)))
    await until(lambda: account.count() >= 3)
    clock.now += 0.5
    polls = account.count()
    await until(lambda: account.count() >= polls + 3)
    assert not waiting.done()
    clock.now += 0.5
    async with asyncio.timeout(30):
        event = await waiting
    assert event["status"] == "timeout"
    assert event["message"].endswith(f"{TOLD}.")


@in_a_loop
async def test_a_wait_that_is_over_gives_its_first_look_thirty_seconds(
    account: Simulator, clock: SimpleNamespace
) -> None:
    account.fail(delay=60, times=None)
    waiting = asyncio.create_task(payload(gate(end_time=1.0)))
    await until(lambda: account.count() == 1)
    clock.now += 29.5
    done, _ = await asyncio.wait([waiting], timeout=0.6)  # it looks at the clock five times a second
    assert not done
    clock.now += 0.5
    async with asyncio.timeout(30):
        assert await waiting == {"status": "timeout", "message": "No balance was read."}


@in_a_loop
async def test_a_wait_that_is_over_notices_soon_that_no_look_comes(
    account: Simulator, clock: SimpleNamespace
) -> None:
    account.fail(status=429, retry_after=600)
    assert (await payload(gate(end_time=1.0)))["message"].startswith("No balance was read. Last error, at ")
    polls = account.count()
    assert (await payload(gate(end_time=1.0, organization="org-b")))["message"].startswith(
        "No balance was read."
    )
    assert account.count() == polls


@in_a_loop
async def test_an_error_that_goes_on_is_said_now_and_then(
    account: Simulator, lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.2)
    account.fail(status=503, times=None, body='{"name": "down", "message": "for now", "id": "1"}')
    waiting = asyncio.create_task(payload(gate(poke_interval=0.02)))
    await until(lambda: len(lines) >= 3)
    account.heal()
    account.top_up(40)
    await waiting
    said = "Still waiting; could not read the balance: GET /v1/user/balance: 503 down: for now [error id 1]"
    assert lines[:3] == [("WARNING", said), *[("WARNING", f"{said} (still)")] * 2]


@in_a_loop
async def test_a_gate_says_nothing_where_nothing_is_known(lines: list[tuple[str, str]]) -> None:
    waiter: Any = SimpleNamespace(known=Wait(), is_known=False)
    assert gate()._say(waiter, 40, "as before") == "as before"
    assert lines == []


@in_a_loop
async def test_a_defect_of_ours_is_logged_and_told_by_its_class_alone(
    account: Simulator, lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "join", lambda *_: 1 // 0)
    assert await payload(gate()) == {
        "status": "failed",
        "kind": "StabilityError",
        "message": "the gate broke: ZeroDivisionError; the trigger's log has the rest",
    }
    assert lines == [("ERROR", "The gate broke")]


@pytest.mark.parametrize(
    ("trigger_id", "end_from_trigger", "credits_", "ends"),
    [(7, True, 60, True), (7, False, 60, False), (None, True, 60, False), (7, True, 10, False)],
)
@in_a_loop
async def test_a_task_ends_here_only_in_a_triggerer_where_it_was_told_to_and_has_enough(
    account: Simulator,
    lines: list[tuple[str, str]],
    trigger_id: int | None,
    *,
    end_from_trigger: bool,
    credits_: float,
    ends: bool,
) -> None:
    account.set_credits(credits_)
    trigger = gate(end_from_trigger=end_from_trigger, do_xcom_push=False, end_time=1.0)
    trigger.trigger_id = trigger_id  # type: ignore[assignment,unused-ignore]
    (event,) = await events(trigger)
    assert (type(event) is not TriggerEvent) is ends
    # Said once: by who ends the task.
    assert (("INFO", "60 credits, need 40: open") in lines) is ends


@in_a_loop
async def test_an_xcom_that_cannot_be_pushed_from_here_leaves_the_end_to_a_worker(
    account: Simulator, lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[tuple[object, float]] = []

    async def push(trigger: object, available: float) -> TriggerEvent:
        pushed.append((trigger, available))
        if len(pushed) > 1:
            raise RuntimeError("no API server")
        return TriggerEvent("pushed")

    monkeypatch.setattr(balance, "success_event", push)
    account.set_credits(60)
    trigger = gate(end_from_trigger=True)
    trigger.trigger_id = 7
    assert await payload(trigger) == "pushed"
    assert await payload(trigger) == {"status": "success", "credits": 60.0}
    assert pushed == [(trigger, 60.0)] * 2
    assert lines[-1] == ("ERROR", "The XCom could not be pushed from here; a worker ends the task")


def test_the_event_of_an_error_is_its_class_and_its_words() -> None:
    assert failed_event(AuthenticationError("401 no", status_code=401)) == {
        "status": "failed",
        "kind": "AuthenticationError",
        "message": "401 no",
    }
    assert Failed(StabilityError("x")).error.args == ("x",)


@in_a_loop
async def test_a_gate_that_has_fired_waits_no_more(account: Simulator) -> None:
    account.top_up(40)
    await payload(gate())
    await until(lambda: len(asyncio.all_tasks()) == 1)
