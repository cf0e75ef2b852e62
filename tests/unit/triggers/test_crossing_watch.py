"""What a watcher says, remembers and recalls; against the simulator, in real event loops."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.log_lines import level_and_text, lines_of
from support.polling_gates import in_a_loop, until
from support.watchers import Store, polls, watcher, watching

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers import crossing
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=100, organizations={"org-b": 20.0}, rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        monkeypatch.setattr(crossing, "_SETTLE", 0.0)
        monkeypatch.setattr(crossing, "_RETRY_DELAYS", (0, 0), raising=False)
        yield simulator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Return the log lines of the watchers, each with its level."""
    with lines_of(BalanceCrossingTrigger, monkeypatch, level_and_text) as found:
        yield found


@pytest.mark.parametrize("poke_interval", [0, -1, math.inf, math.nan], ids=str)
def test_an_interval_that_is_no_time_is_refused(poke_interval: float) -> None:
    with pytest.raises(StabilityParameterError) as refused:
        watcher(poke_interval=poke_interval)
    assert str(refused.value) == f"poke_interval is {poke_interval!r}; allowed are seconds above 0"
    assert watcher(poke_interval=0.5).poke_interval == 0.5
    assert BalanceCrossingTrigger(threshold=50, direction="below").poke_interval == 60.0


@in_a_loop
async def test_the_balance_watched_is_that_of_the_organization(
    account: Simulator, lines: list[tuple[str, str]]
) -> None:
    async with watching(watcher(organization="org-b", direction="above", threshold=37.5)) as events:
        await polls(account)
        account.top_up(30, "org-b")
        await until(lambda: events)
    expected = {"direction": "above", "threshold": 37.5, "credits": 50.0, "organization": "org-b"}
    assert events == [expected]
    assert account.count() == account.count(organization="org-b")
    assert lines == [("INFO", "50 credits: crossed 37.5 to above")]


@in_a_loop
async def test_an_error_is_said_once_for_as_long_as_it_is_the_same(
    account: Simulator, lines: list[tuple[str, str]]
) -> None:
    async with watching(watcher()) as events:
        await polls(account)
        account.fail(status=503, times=4)
        await polls(account, 6)
        account.fail(body="<html>", times=3)
        await polls(account, 5)
        account.fail(status=503, times=2)
        await polls(account, 4)
    assert [level for level, _ in lines] == ["WARNING"] * 3
    said = [line.removeprefix("Watching on, balance unknown: GET /v1/user/balance: ") for _, line in lines]
    assert [each[:20] for each in said] == [
        "503 service_unavaila",
        "the response (applic",
        "503 service_unavaila",
    ]
    assert events == []


@in_a_loop
async def test_a_refused_key_is_said_with_what_to_do_and_watched_on(
    account: Simulator, lines: list[tuple[str, str]]
) -> None:
    account.fail(status=403)
    async with watching(watcher()) as events:
        await until(lambda: account.count() >= 1 and lines)
        assert lines[0][0] == "ERROR"
        assert re.match(r"Watching on: GET /v1/user/balance: 403 .*\. Check `organization`, and", lines[0][1])
        assert events == []


@in_a_loop
async def test_what_a_watcher_knows_is_kept_when_it_changes_and_only_then(account: Simulator) -> None:
    store = Store()
    async with watching(watcher(store)) as events:
        await polls(account)
        assert store.sets == [True]
        account.set_credits(10)
        await until(lambda: store.sets == [True, False])
        await polls(account)
        account.set_credits(60)
        await until(lambda: store.sets == [True, False, True])
        account.set_credits(20)
        await until(lambda: len(store.sets) == 4)
        assert [each["credits"] for each in events] == [10.0, 20.0]
    (key,) = store.kept
    assert re.fullmatch(r"stability_[0-9a-f]{16}", key)


@in_a_loop
async def test_watchers_of_other_thresholds_do_not_share_what_they_know(account: Simulator) -> None:
    store = Store()
    others: list[dict[str, Any]] = [
        {},
        {"threshold": 40},
        {"direction": "above"},
        {"organization": "org-b"},
    ]
    for number, kwargs in enumerate(others, start=1):
        async with watching(watcher(store, **kwargs)):
            await until(lambda number=number: len(store.kept) == number)  # type: ignore[misc]


@pytest.mark.parametrize("kept", [None, True, "armed", [], {}], ids=repr)
@in_a_loop
async def test_a_memory_that_is_none_is_as_if_there_were_none(account: Simulator, kept: Any) -> None:
    store = Store()
    trigger = watcher(store)
    store.kept[trigger._key] = kept
    account.set_credits(10)
    async with watching(trigger) as events:
        await until(lambda: store.sets == [False])
        assert events == []


@in_a_loop
async def test_a_memory_that_fails_is_said_and_watched_without(
    account: Simulator, lines: list[tuple[str, str]]
) -> None:
    async with watching(watcher(Store(RuntimeError("no API server")))) as events:
        not_noted = ("WARNING", "A restart will not know of this crossing: no API server")
        await until(lambda: not_noted in lines)
        account.set_credits(10)
        await until(lambda: events)
        await until(lambda: lines.count(not_noted) == 2)
    assert lines[0] == ("WARNING", "What was known before the restart cannot be read: no API server")
    assert ("INFO", "10 credits: crossed 50 to below") in lines


@in_a_loop
async def test_a_watcher_that_is_ended_before_its_event_was_stored_notes_nothing(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossing, "_SETTLE", 600.0)
    store = Store()
    async with watching(watcher(store)) as events:
        await until(lambda: store.sets == [True])
        account.set_credits(10)
        await until(lambda: events)
        await polls(account)
        account.set_credits(60)
        await polls(account)
        account.set_credits(10)
        await until(lambda: len(events) == 2)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert store.sets == [True]


@in_a_loop
async def test_an_event_is_noted_soon_after_it_and_not_with_the_next_poll(account: Simulator) -> None:
    store = Store()
    async with watching(watcher(store)):
        await until(lambda: store.sets == [True])
    account.set_credits(10)
    before = account.count()
    async with watching(watcher(store, poke_interval=600)) as events:
        await until(lambda: store.sets == [True, False])
    assert len(events) == account.count() - before == 1


@in_a_loop
async def test_a_watcher_without_a_store_fires_all_the_same(account: Simulator) -> None:
    trigger = watcher()
    if hasattr(trigger, "asset_state_store"):
        trigger.asset_state_store = None
    async with watching(trigger) as events:
        await polls(account)
        account.set_credits(10)
        await until(lambda: events)
