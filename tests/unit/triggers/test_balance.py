"""The gate in the triggerer: its event, its end, its log; in real event loops, against the simulator."""

from __future__ import annotations

import asyncio
import json
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.airflow_runs import AIRFLOW_V_3_0_PLUS
from support.keys import KEY
from support.log_lines import lines_of
from support.polling_gates import CONNECTION, in_a_loop, pollers, until

from airflow_provider_stability.connection.parameters import BACKSTOP
from airflow_provider_stability.polling import balance_poll as streams
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.sensors.balance import BalanceSensor
from airflow_provider_stability.triggers.balance import BalanceTrigger
from airflow_provider_stability.version_compat import STARTS_IN_TRIGGERER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.simulator import Simulator

TOLD = "12.5 credits, need 40, short 27.5"

gate_name: ContextVar[str | None] = ContextVar("gate_name", default=None)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, str]]]:
    """Return the log lines of the gates, each with the gate in whose context it was written."""
    with lines_of(
        BalanceTrigger, monkeypatch, lambda record: (gate_name.get(), record.getMessage())
    ) as found:
        yield found


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, str]]]:
    """Return what the package tells Airflow's metrics; what of it arrives, test_metrics.py says."""
    found: list[tuple[str, str, dict[str, str]]] = []
    recorder = SimpleNamespace(
        incr=lambda name, tags: found.append(("incr", name, tags)),
        gauge=lambda name, value, tags: found.append((f"gauge {value}", name, tags)),
    )
    monkeypatch.setattr("airflow_provider_stability.metrics.Stats", recorder)
    return found


def gate(**kwargs: Any) -> BalanceTrigger:
    given: dict[str, Any] = {"min_credits": 40, "poke_interval": 0.1}
    return BalanceTrigger(**(given | kwargs))


async def fire(trigger: BalanceTrigger, name: str | None = None) -> Any:
    """Run a trigger to its end, and return its one event's payload."""
    gate_name.set(name)
    (event,) = [event async for event in trigger.run()]
    return json.loads(json.dumps(event.payload))


def test_a_trigger_is_made_again_from_plain_json_without_a_secret(account: Simulator) -> None:
    given: dict[str, Any] = {"min_credits": "40", "organization": "org-b", "stability_conn_id": "x"}
    given |= {"poke_interval": 5.0}
    given |= {"timeout": 60.0, "deferral_limit": 120.0}
    given |= {"end_time": 1.5, "end_from_trigger": True, "do_xcom_push": False, "names_organization": True}
    path, kwargs = BalanceTrigger(**given).serialize()
    assert path == "airflow_provider_stability.triggers.balance.BalanceTrigger"
    assert kwargs == given
    assert BalanceTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, given)
    assert KEY not in json.dumps(kwargs)


@in_a_loop
async def test_a_trigger_that_an_older_version_has_stored_still_works(account: Simulator) -> None:
    account.top_up(40)
    assert await fire(BalanceTrigger(min_credits=40)) == {"status": "success", "credits": 52.5}


@in_a_loop
async def test_a_gate_fires_one_event_when_there_are_enough_credits(account: Simulator) -> None:
    task = asyncio.create_task(fire(gate(min_credits=" 40 ")))
    await until(lambda: account.count() >= 3)
    account.top_up(40)
    assert await task == {"status": "success", "credits": 52.5}
    assert await fire(gate(organization=" org-b ", names_organization=True)) == {
        "status": "success",
        "credits": 60.0,
    }


@in_a_loop
async def test_a_gate_ends_on_time_and_says_the_last_balance_and_the_last_error(account: Simulator) -> None:
    account.fail(body=b'{"credits": 12.5}')
    account.fail(status=503, times=None)
    event = await fire(gate(end_time=time.time() + 0.5))
    assert event["status"] == "timeout"
    assert f"{TOLD}. Last error, at 20" in event["message"]
    assert "503 service_unavailable" in event["message"]
    assert account.count() >= 2


@in_a_loop
async def test_a_gate_whose_time_is_over_looks_once_all_the_same(account: Simulator) -> None:
    event = await fire(gate(end_time=1.0))
    assert event["status"] == "timeout"
    assert TOLD in event["message"]
    assert account.count() == 1
    account.top_up(40)
    assert await fire(gate(end_time=1.0)) == {"status": "success", "credits": 52.5}


@in_a_loop
async def test_a_gate_ends_on_time_where_no_request_may_be_made_before(account: Simulator) -> None:
    account.fail(status=429, retry_after=600)
    limited = asyncio.create_task(fire(gate(organization="org-b")))
    await until(account.count)
    await until(lambda: pollers()[CONNECTION].is_paused)
    try:
        async with asyncio.timeout(10):
            event = await fire(gate(end_time=time.time() + 0.5))
        assert event["status"] == "timeout"
        assert account.count() == 1
    finally:
        limited.cancel()


@in_a_loop
async def test_a_gate_without_an_end_takes_the_one_that_the_triggerer_gives(account: Simulator) -> None:
    trigger = gate(timeout=0.5, deferral_limit=BACKSTOP + 0.5)
    end = datetime.now(UTC) + timedelta(seconds=BACKSTOP + 0.5)
    if AIRFLOW_V_3_0_PLUS:
        trigger.timeout_after = end  # jobs/triggerer_job_runner.py, create_triggers
    else:
        # All that 2.11 has: the task instance's own column.
        trigger.task_instance = SimpleNamespace(trigger_timeout=end)  # type: ignore[unused-ignore,assignment]
    async with asyncio.timeout(10):
        event = await fire(trigger)
    assert event["status"] == "timeout"
    assert TOLD in event["message"]


@pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="this Airflow starts no task in the triggerer")
@in_a_loop
async def test_an_execution_timeout_does_not_end_a_wait_a_minute_early(account: Simulator) -> None:
    sensor = BalanceSensor(
        task_id="gate",
        min_credits=40,
        poke_interval=0.1,
        timeout=600,
        execution_timeout=timedelta(seconds=30),
        start_from_trigger=True,
    )
    assert sensor.start_trigger_args is not None
    trigger = BalanceTrigger(**(sensor.start_trigger_args.trigger_kwargs or {}))
    # The earlier of the two, as models/taskinstance.py defer_task has it.
    trigger.timeout_after = datetime.now(UTC) + timedelta(seconds=30)
    task = asyncio.create_task(fire(trigger))
    await until(lambda: account.count() >= 4 or task.done())
    account.top_up(40)
    assert await task == {"status": "success", "credits": 52.5}


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"min_credits": "forty"}, "min_credits is 'forty'"),
        ({"min_credits": None}, "min_credits is None"),
        ({"organization": "or g"}, "organization is 'or g'"),
        (
            {"organization": None, "names_organization": True},
            "organization is set in the DAG, but became None",
        ),
    ],
    ids=str,
)
@in_a_loop
async def test_a_parameter_that_rendered_to_nonsense_fails_and_asks_nothing(
    account: Simulator, kwargs: dict[str, Any], words: str
) -> None:
    event = await fire(gate(**kwargs))
    assert event["status"] == "failed"
    assert event["kind"] == "StabilityParameterError"
    assert words in event["message"]
    assert account.count() == 0


@in_a_loop
async def test_a_refused_key_is_one_request_and_an_event_for_each_gate_without_the_key(
    account: Simulator,
) -> None:
    account.fail(status=401, body=f'{{"id": "1", "name": "no", "message": "bad {KEY}"}}', times=None)
    events = await asyncio.gather(*(fire(gate()) for _ in range(200)))
    assert {event["kind"] for event in events} == {"AuthenticationError"}
    assert KEY not in str(events)
    assert account.count() == 1


@in_a_loop
async def test_nothing_escapes_a_gate(account: Simulator, mocker: Any) -> None:
    mocker.patch("airflow_provider_stability.triggers.balance.join", side_effect=ZeroDivisionError(KEY))
    event = await fire(gate())
    assert event["status"] == "failed"
    assert "ZeroDivisionError" in event["message"]
    assert KEY not in str(event)


@in_a_loop
async def test_cancelled_gates_leave_no_poll_behind(account: Simulator) -> None:
    tasks = [asyncio.create_task(fire(gate())) for _ in range(100)]
    await until(lambda: account.count() >= 2)
    for task in tasks[1:]:
        task.cancel()
    polls = account.count()
    await until(lambda: account.count() >= polls + 2)  # the first is not disturbed
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert polling._registries[asyncio.get_running_loop()].pollers == {}
    await until(lambda: len(asyncio.all_tasks()) == 1)


def test_failing_gates_costs_linear_time(account: Simulator) -> None:
    account.fail(status=401, times=None)

    async def fail(number: int) -> None:
        events = await asyncio.gather(*(fire(gate()) for _ in range(number)))
        assert {event["status"] for event in events} == {"failed"}

    def cost(number: int) -> float:
        began = time.process_time()
        asyncio.run(fail(number))
        return time.process_time() - began

    cost(10)  # what is imported at the first
    few = min(cost(500) for _ in range(3))
    assert min(cost(2000) for _ in range(3)) < 10 * few


@in_a_loop
async def test_a_gate_says_what_is_new_and_nothing_twice(
    account: Simulator, lines: list[tuple[str | None, str]]
) -> None:
    task = asyncio.create_task(fire(gate(poke_interval=0.05), "a"))
    await until(lambda: account.count() >= 10)
    assert lines == [("a", TOLD)]
    account.fail(status=503, times=8)
    await until(lambda: len(lines) == 2 and account.count() >= 15)
    await until(lambda: len(lines) == 3)
    account.top_up(40)
    await task
    assert [name for name, _ in lines] == ["a"] * 3  # that it is open, says who ends the task
    assert "Still waiting; could not read the balance: GET /v1/user/balance: 503" in lines[1][1]
    assert lines[2][1] == TOLD


@in_a_loop
async def test_a_gate_says_now_and_then_that_nothing_is_new(
    account: Simulator, lines: list[tuple[str | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.4)
    task = asyncio.create_task(fire(gate(poke_interval=0.02)))
    await until(lambda: len(lines) >= 4)
    task.cancel()
    assert [line for _, line in lines[:3]] == [TOLD, *[f"{TOLD} (still waiting)"] * 2]
    assert account.count() > 2 * len(lines)


@in_a_loop
async def test_a_balance_that_goes_up_and_down_is_a_line_now_and_then(
    account: Simulator, lines: list[tuple[str | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(fire(gate(poke_interval=0.02)))
    for credit in range(10):
        account.set_credits(credit)
        polls = account.count()
        await until(lambda polls=polls: account.count() >= polls + 2)  # type: ignore[misc]
    assert len(lines) == 1
    monkeypatch.setattr(streams, "LINE_EVERY", 0.0)
    await until(lambda: len(lines) >= 2)
    assert lines[1][1] == "9 credits, need 40, short 31"
    task.cancel()


@in_a_loop
async def test_each_gate_writes_into_its_own_log(
    account: Simulator, lines: list[tuple[str | None, str]]
) -> None:
    tasks = [asyncio.create_task(fire(gate(min_credits=need), f"gate {need}")) for need in range(40, 90)]
    await until(lambda: len(lines) == 50)
    late = asyncio.create_task(fire(gate(min_credits=30, poke_interval=60), "late"))
    await until(lambda: len(lines) == 51)
    assert all(line.startswith(f"12.5 credits, need {name[5:]}") for name, line in lines[:50] if name)
    assert lines[50] == ("late", "12.5 credits, need 30, short 17.5")
    account.top_up(100)
    await asyncio.gather(*tasks, late)
    assert len({name for name, _ in lines}) == len(lines) == 51


@in_a_loop
async def test_a_poll_is_one_sample_however_many_gates_wait(
    account: Simulator, stats: list[tuple[str, str, dict[str, str]]]
) -> None:
    account.fail(status=503)
    tasks = [asyncio.create_task(fire(gate())) for _ in range(200)]
    await until(lambda: account.count() >= 5)
    account.top_up(40)
    await asyncio.gather(*tasks)
    tags = {"connection": "stability_default", "organization": "default"}
    assert stats[:2] == [
        ("incr", "stability.polls", tags),
        ("incr", "stability.errors", {**tags, "error": "ServerError"}),
    ]
    assert stats[2:4] == [("incr", "stability.polls", tags), ("gauge 12.5", "stability.credits", tags)]
    assert stats[-1] == ("gauge 52.5", "stability.credits", tags)
    assert len(stats) == 2 * account.count()


def test_the_organization_of_a_connection_is_the_tag_in_every_mode(
    account: Simulator, stats: list[tuple[str, str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(organization="org-b"))
    asyncio.run(fire(gate()))
    in_triggerer = list(stats)
    stats.clear()
    assert in_triggerer[0][2]["organization"] == "org-b"
    assert BalanceSensor(task_id="gate", min_credits=40).execute({}) == 60.0
    assert stats == in_triggerer


@in_a_loop
async def test_metrics_that_fail_do_not_fail_a_gate(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_stability.metrics.Stats", None)
    account.top_up(40)
    assert await fire(gate()) == {"status": "success", "credits": 52.5}
