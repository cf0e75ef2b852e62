"""An event when a balance crosses a threshold: what it holds, what is logged, which errors end nothing."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger
from support.gates import trigger, use_timing
from support.polling_gates import in_a_loop, until
from support.watchers import polls, watcher, watching

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line


def test_a_watcher_is_made_again_from_plain_json() -> None:
    path, kwargs = watcher(organization="org-b", rearm_band=5).serialize()
    assert path == "airflow_provider_stability.triggers.crossing.BalanceCrossingTrigger"
    assert BalanceCrossingTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, kwargs)
    assert BalanceCrossingTrigger(threshold=40, direction="below").serialize()[1] == {
        "threshold": 40,
        "direction": "below",
        "rearm_band": 0.0,
        "organization": None,
        "stability_conn_id": "stability_default",
        "poke_interval": 60.0,
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"direction": "sideways"}, "direction is 'sideways'; "),
        ({"threshold": "many"}, "threshold is 'many'; "),
        ({"rearm_band": math.inf}, "rearm_band is inf; "),
        ({"organization": "org b"}, "organization is 'org b'; "),
        ({"stability_conn_id": ""}, "stability_conn_id is ''; "),
        ({"poke_interval": 0}, "poke_interval is 0; it must be a finite number of seconds above 0"),
        ({"poke_interval": -1}, "poke_interval is -1; it must be a finite number of seconds above 0"),
        ({"poke_interval": math.inf}, "poke_interval is inf; it must be a finite number of seconds above 0"),
        ({"poke_interval": math.nan}, "poke_interval is nan; it must be a finite number of seconds above 0"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_when_the_dag_is_parsed(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(StabilityParameterError, match=re.escape(message)):
        watcher(**wrong)


@in_a_loop
async def test_a_watcher_fires_once_when_the_balance_falls_below_the_threshold(
    watched: Simulator, lines: list[Line]
) -> None:
    async with watching(watcher()) as events:
        for balance in (60, 40, 30):
            await polls(watched)
            watched.set_credits(balance)
        await polls(watched)
    assert events == [{"direction": "below", "threshold": 50, "credits": 40.0, "organization": None}]
    assert lines == [("INFO", "40 credits: now below the threshold of 50")]


@in_a_loop
async def test_a_watcher_fires_once_when_a_top_up_comes(watched: Simulator, lines: list[Line]) -> None:
    async with watching(watcher(threshold=500, direction="above", rearm_band=100)) as events:
        for balance in (550, 450, 600):
            await polls(watched)
            watched.set_credits(balance)
        await polls(watched)
    assert [event["credits"] for event in events] == [550.0]
    assert lines == [("INFO", "550 credits: now above the threshold of 500")]


@in_a_loop
async def test_a_watcher_of_an_organization_watches_its_balance_only(watched: Simulator) -> None:
    async with watching(watcher(organization="org-b", direction="above", threshold=62.5)) as events:
        await polls(watched)
        watched.top_up(30, "org-b")
        await until(lambda: events)
    assert events == [{"direction": "above", "threshold": 62.5, "credits": 90.0, "organization": "org-b"}]
    assert watched.count() == watched.count(organization="org-b")


@in_a_loop
async def test_an_error_is_logged_once_for_as_long_as_it_is_of_the_same_kind(
    watched: Simulator, lines: list[Line]
) -> None:
    async with watching(watcher()) as events:
        await polls(watched)
        watched.fail(status=503, times=4)
        await polls(watched, 6)
        watched.fail(body="<html>", times=3)
        await polls(watched, 5)
        watched.fail(status=503, times=2)
        await polls(watched, 4)
        watched.set_credits(10)
        await until(lambda: events)
    warnings = [text for level, text in lines if level == "WARNING"]
    prefix = "Still watching; could not read the balance: GET /v1/user/balance: "
    assert [each.removeprefix(prefix)[:4] for each in warnings] == ["503 ", "the ", "503 "]
    assert [event["credits"] for event in events] == [10.0]


@in_a_loop
async def test_a_permanent_error_is_logged_with_what_to_do_and_does_not_end_a_watcher(
    watched: Simulator, lines: list[Line]
) -> None:
    async with watching(watcher()) as events:
        await polls(watched)
        watched.fail(status=403)
        await until(lambda: lines)
        await polls(watched)
        watched.set_credits(10)
        await until(lambda: events)
    assert lines[0].level == "ERROR"
    assert re.match(
        r"Still watching after an error: GET /v1/user/balance: 403 .*\. Check `organization`, and",
        lines[0].text,
    )


@in_a_loop
async def test_gates_and_watchers_share_one_poll(watched: Simulator) -> None:
    registry = use_timing(linger=0.0)
    gates = [trigger(min_credits=1000, poke_interval=600) for _ in range(50)]
    watchers = [watcher(threshold=number, poke_interval=600) for number in range(1, 20)]

    async def first(each: Any) -> object:
        return await anext(aiter(each.run()))

    tasks = [asyncio.create_task(first(each)) for each in [*gates, *watchers]]
    await until(watched.count)
    watched.set_credits(0)
    async with watching(watcher(poke_interval=0.02)):
        await until(lambda: all(task.done() for task in tasks[50:]))  # by answers that another one asked for
        assert list(registry.pollers) == ["stability_default"]
        assert not any(task.done() for task in tasks[:50])
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until(lambda: registry.pollers == {})
