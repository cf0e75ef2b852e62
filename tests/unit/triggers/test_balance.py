"""A gate in the triggerer: its event, and when its wait ends. Whole waits are the scenarios'."""

from __future__ import annotations

import asyncio
import json
import math
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_provider_stability.triggers import balance
from airflow_provider_stability.triggers.balance import BalanceTrigger
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.gates import events, fire, trigger, use_timing
from support.polling_gates import in_a_loop, until

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

SHORT = "12.5 credits, need 40, short 27.5"
OPENED = {"status": "success", "credits": 52.5}
LIMIT = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1_000_000.0


def test_a_trigger_is_made_again_from_plain_json() -> None:
    given: dict[str, Any] = {
        "min_credits": "40",
        "organization": "org-b",
        "stability_conn_id": "x",
        "poke_interval": 5.0,
        "end_time": 1.5,
        "end_from_trigger": True,
        "do_xcom_push": False,
        "names_organization": True,
        "timeout": 60.0,
        "deferral_limit": 120.0,
    }
    path, kwargs = BalanceTrigger(**given).serialize()
    assert path == "airflow_provider_stability.triggers.balance.BalanceTrigger"
    assert kwargs == given
    assert BalanceTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, given)


def test_a_trigger_that_a_version_with_fewer_parameters_has_stored_can_be_made() -> None:
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


@in_a_loop
async def test_a_gate_accepts_the_text_that_its_parameters_were_rendered_to(account: Simulator) -> None:
    event = await fire(trigger(min_credits=" 40 ", organization=" org-b ", names_organization=True))
    assert event == {"status": "success", "credits": 60.0}
    assert account.count(organization="org-b") == account.count() == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"min_credits": "forty"}, "min_credits is 'forty'; "),
        ({"min_credits": None}, "min_credits is None, a NoneType; "),
        ({"organization": "or g"}, "organization is 'or g'; "),
        ({"organization": None, "names_organization": True}, "organization "),
        ({"stability_conn_id": None}, "stability_conn_id is None; "),
        ({"stability_conn_id": " "}, "stability_conn_id is ' '; "),
    ],
    ids=str,
)
@in_a_loop
async def test_a_parameter_that_rendered_to_nonsense_fails_the_gate_before_a_request(
    account: Simulator, kwargs: dict[str, Any], message: str
) -> None:
    event = await fire(trigger(**kwargs))
    assert (event["status"], event["kind"]) == ("failed", "StabilityParameterError")
    assert event["message"].startswith(message)
    assert account.count() == 0


@in_a_loop
async def test_gates_with_a_refused_key_get_an_event_each_from_one_request(
    account: Simulator, mocker: MockerFixture
) -> None:
    told = mocker.spy(balance, "to_event")
    key = account.api_key
    account.fail(status=401, body=f'{{"id": "1", "name": "no", "message": "bad {key}"}}', times=None)
    found = await asyncio.gather(*(fire(trigger()) for _ in range(200)))
    assert {event["kind"] for event in found} == {"AuthenticationError"}
    assert {event["message"] for event in found} == {"GET /v1/user/balance: 401 no: bad *** [error id 1]"}
    assert account.count() == 1
    # No gate has raised the error: its traceback would have grown with each.
    assert {each.args[0].error.__traceback__ for each in told.call_args_list} == {None}


@in_a_loop
async def test_an_unexpected_exception_is_logged_and_reported_by_its_class_alone(
    account: Simulator, lines: list[Line], mocker: MockerFixture
) -> None:
    mocker.patch.object(balance, "subscribe", side_effect=ZeroDivisionError(account.api_key))
    assert await fire(trigger()) == {
        "status": "failed",
        "kind": "StabilityError",
        "message": "the gate broke: ZeroDivisionError; see the trigger's log",
    }
    assert lines == [("ERROR", "The gate broke")]


@in_a_loop
async def test_a_gate_that_fired_or_was_cancelled_leaves_its_poll(account: Simulator) -> None:
    registry = use_timing(linger=0.0)
    stays, *leave = [asyncio.create_task(fire(trigger(min_credits=50))) for _ in range(20)]
    await until(account.count)
    for task in leave:
        task.cancel()
    requests = account.count()
    await until(lambda: account.count() >= requests + 2)  # the one that stays still gets its answers
    account.top_up(40)
    assert await stays == OPENED
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert registry.pollers == {}


@pytest.mark.parametrize(
    ("kwargs", "limits", "end"),
    [
        ({"end_time": 5.0, "timeout": 60, "deferral_limit": 120}, (LIMIT, LIMIT), 5.0),
        ({}, (LIMIT, LIMIT), math.inf),
        ({"timeout": 60, "deferral_limit": 120}, (None, None), NOW + 60),
        ({"timeout": 60}, (LIMIT, LIMIT), NOW + 60),
        ({"timeout": 60, "deferral_limit": 120}, (LIMIT, None), LIMIT.timestamp() - 60),
        ({"timeout": 60, "deferral_limit": 120}, (None, LIMIT), LIMIT.timestamp() - 60),
        # An execution_timeout that is shorter does not end the wait any earlier.
        ({"timeout": 60, "deferral_limit": 30}, (LIMIT, None), LIMIT.timestamp() + 30),
    ],
)
def test_a_wait_ends_at_its_end_time_or_its_timeout_after_the_start(
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
    kwargs: dict[str, Any],
    limits: tuple[datetime | None, datetime | None],
    end: float,
) -> None:
    mocker.patch("time.time", return_value=NOW)
    waiting = trigger(**kwargs)
    assert waiting.timeout_after is None
    waiting.timeout_after, by_task = limits
    # A property of Airflow 3, which checks what it is given; a plain attribute of Airflow 2.
    for task_instance in [SimpleNamespace(trigger_timeout=by_task), *([] if by_task else [None])]:
        monkeypatch.setattr(BalanceTrigger if AIRFLOW_V_3_0_PLUS else waiting, "task_instance", task_instance)
        assert waiting._end_of_wait() == end


@in_a_loop
async def test_a_gate_sleeps_until_there_is_news(account: Simulator, mocker: MockerFixture) -> None:
    mocker.patch.object(balance, "_CHECK_AGAIN", 0.001)  # only for a gate whose time is over
    clock = mocker.patch("time.time", return_value=NOW)
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(fire(trigger(poke_interval=600, end_time=NOW + 900)))
        other = group.create_task(fire(trigger(organization="org-b", min_credits=100)))
        await until(account.count)
        looks = clock.call_count
        await until(lambda: account.count(organization="org-b") >= 10)
        assert clock.call_count - looks < 100
        sleeping.cancel()
        other.cancel()


@in_a_loop
async def test_a_gate_whose_time_is_over_still_looks_once(account: Simulator) -> None:
    event = await fire(trigger(end_time=1.0))
    assert event["status"] == "timeout"
    assert event["message"].endswith(f"{SHORT}.")
    assert await fire(trigger(end_time=1.0, min_credits=10)) == {"status": "success", "credits": 12.5}
    assert account.count() == 1


@pytest.mark.parametrize("needed", [10, 50], ids=["was enough", "was not"])
@in_a_loop
async def test_a_gate_whose_time_is_over_looks_once_although_an_earlier_gate_left_an_old_answer(
    account: Simulator, needed: float
) -> None:
    passed = 0.0
    clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + passed)
    use_timing(clock=clock)
    assert (await fire(trigger(end_time=1.0)))["status"] == "timeout"
    account.top_up(40)
    passed = 7.0  # more than an answer is fresh, and less than a poll lingers
    assert await fire(trigger(end_time=1.0, min_credits=needed)) == OPENED
    assert account.count() == 2


@in_a_loop
async def test_a_wait_ends_at_its_end_time_and_no_sooner(account: Simulator, mocker: MockerFixture) -> None:
    mocker.patch("time.time", return_value=NOW)
    async with asyncio.timeout(30):
        assert (await fire(trigger(end_time=NOW)))["status"] == "timeout"
        waiting = asyncio.create_task(fire(trigger(end_time=NOW + 0.5)))
        await until(lambda: account.count() >= 3)
        account.top_up(40)
        assert await waiting == OPENED


@in_a_loop
async def test_a_gate_whose_time_is_over_gives_the_first_answer_thirty_seconds(
    account: Simulator, mocker: MockerFixture
) -> None:
    clock = mocker.patch("time.time", return_value=NOW)
    account.fail(delay=60, times=None)
    waiting = asyncio.create_task(fire(trigger(end_time=1.0)))
    await until(account.count)
    clock.return_value = NOW + 29.9
    checks = clock.call_count
    await until(lambda: clock.call_count > checks + 1)
    assert not waiting.done()
    clock.return_value = NOW + 30
    async with asyncio.timeout(30):
        assert await waiting == {"status": "timeout", "message": "No balance was read."}


@in_a_loop
async def test_a_gate_whose_time_is_over_does_not_wait_for_a_pause(account: Simulator) -> None:
    account.fail(status=429, retry_after=600)
    for organization in (None, "org-b"):  # the pause is the key's
        async with asyncio.timeout(20):
            event = await fire(trigger(end_time=1.0, organization=organization))
        assert event["status"] == "timeout"
        assert event["message"].startswith("No balance was read. Last error, at ")
    assert account.count() == 1


@pytest.mark.parametrize(
    ("trigger_id", "end_from_trigger", "available", "ends"),
    [(7, True, 60, True), (7, False, 60, False), (None, True, 60, False), (7, True, 10, False)],
)
@in_a_loop
async def test_a_task_ends_in_the_triggerer_only_if_told_to_and_with_enough_credits(
    account: Simulator,
    lines: list[Line],
    trigger_id: int | None,
    *,
    end_from_trigger: bool,
    available: float,
    ends: bool,
) -> None:
    account.set_credits(available)
    waiting = trigger(end_from_trigger=end_from_trigger, do_xcom_push=False, end_time=1.0)
    waiting.trigger_id = trigger_id  # type: ignore[assignment,unused-ignore]
    (event,) = await events(waiting)
    assert isinstance(event, TaskSuccessEvent) is ends
    # Logged once, by whoever ends the task.
    assert (("INFO", "60 credits, need 40: open") in lines) is ends


@in_a_loop
async def test_an_xcom_that_cannot_be_pushed_leaves_the_end_of_the_task_to_a_worker(
    account: Simulator, lines: list[Line], mocker: MockerFixture
) -> None:
    pushed = TriggerEvent("pushed")
    push = mocker.patch.object(balance, "success_event", side_effect=[pushed, RuntimeError("no API server")])
    account.set_credits(60)
    waiting = trigger(end_from_trigger=True)
    waiting.trigger_id = 7
    assert await events(waiting) == [pushed]
    assert await fire(waiting) == {"status": "success", "credits": 60.0}
    assert [call.args for call in push.call_args_list] == [(waiting, 60.0)] * 2
    assert lines[-1] == ("ERROR", "Could not push the XCom from the triggerer; a worker will end the task")


@pytest.mark.parametrize("do_xcom_push", [True, False])
@in_a_loop
async def test_a_task_that_ends_in_the_triggerer_pushes_its_credits_unless_told_not_to(
    account: Simulator, *, do_xcom_push: bool
) -> None:
    account.top_up(40)
    waiting = trigger(end_from_trigger=True, do_xcom_push=do_xcom_push)
    waiting.trigger_id = 1
    (event,) = await events(waiting)
    if do_xcom_push and AIRFLOW_V_3_0_PLUS:
        # There is no triggerer here that would take the XCom; so a worker has to.
        assert event.payload == OPENED
    else:
        assert isinstance(event, TaskSuccessEvent)
        assert (event.xcoms or {}) == ({"return_value": 52.5} if do_xcom_push else {})
