"""Where a watcher keeps its state, what it saves and when, and what a restart then finds."""

from __future__ import annotations

import re
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.triggers import crossing
from support.polling_gates import in_a_loop, until
from support.virtual_time import THREAD_NAME
from support.watchers import Store, polls, watcher, watching

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator
    from support.log_lines import Line

NOT_LOADED = "Could not read the state from before the restart: no API server"
NOT_SAVED = "Could not save the state; a restart would not know of it: no API server"


class FailingStore(Store):
    """A store that fails for some calls, as while Airflow starts."""

    def __init__(self) -> None:
        super().__init__()
        self.failing_gets = self.failing_sets = 0

    async def aget(self, key: str) -> Any:
        if self.failing_gets:
            self.failing_gets -= 1
            raise OSError("no API server")
        return await super().aget(key)

    async def aset(self, key: str, value: Any) -> None:
        if self.failing_sets:
            self.failing_sets -= 1
            raise OSError("no API server")
        await super().aset(key, value)


def key(**kwargs: Any) -> str:
    return watcher(**({"threshold": 40} | kwargs))._key


@pytest.mark.parametrize(
    "kwargs",
    [{"threshold": 40.0}, {"threshold": Decimal(40)}, {"rearm_band": 0}, {"poke_interval": 7}],
    ids=str,
)
def test_a_state_is_found_again_with_parameters_that_mean_the_same_crossing(kwargs: dict[str, Any]) -> None:
    assert key(**kwargs) == key()
    assert re.fullmatch(r"stability_[0-9a-f]{16}", key())


@pytest.mark.parametrize(
    "kwargs",
    [
        {"threshold": 41},
        {"direction": "above"},
        {"rearm_band": 5},
        {"organization": "org-b"},
        {"stability_conn_id": "other"},
    ],
    ids=str,
)
def test_another_crossing_has_another_state(kwargs: dict[str, Any]) -> None:
    assert key(**kwargs) != key()


@in_a_loop
async def test_a_state_is_saved_when_it_changes_and_only_then(watched: Simulator) -> None:
    store = Store()
    async with watching(watcher(store)) as events:
        await polls(watched)
        assert store.sets == [True]
        for number, balance in enumerate((10, 60, 20), start=2):
            watched.set_credits(balance)
            await until(lambda number=number: len(store.sets) == number)  # type: ignore[misc]
            await polls(watched)
    assert store.sets == [True, False, True, False]
    assert [each["credits"] for each in events] == [10.0, 20.0]


@in_a_loop
async def test_a_restart_neither_invents_nor_loses_a_crossing(watched: Simulator) -> None:
    store = Store()
    async with watching(watcher(store)):
        await until(lambda: store.sets == [True])
    watched.set_credits(40)  # while nobody watches
    async with watching(watcher(store, poke_interval=0.06)) as events:
        await until(lambda: False in store.sets)
    assert [each["credits"] for each in events] == [40.0]
    async with watching(watcher(store, poke_interval=0.07)) as events:
        await polls(watched)
        assert events == []  # that one has been told
        watched.set_credits(70)
        await until(lambda: store.sets[-1] is True)
        watched.set_credits(30)
        await until(lambda: events)
    assert [each["credits"] for each in events] == [30.0]


@in_a_loop
async def test_a_restart_without_a_store_invents_no_crossing(watched: Simulator) -> None:
    for balance in (100, 40):
        watched.set_credits(balance)
        async with watching(watcher()) as events:
            await polls(watched)
        assert events == []
        # The answer to a request that is still under way would be the first that the next watcher sees.
        await until(lambda: THREAD_NAME not in [each.name for each in threading.enumerate()])


@pytest.mark.parametrize("kept", [None, True, "armed", [], {}], ids=repr)
@in_a_loop
async def test_a_stored_value_that_is_no_state_counts_as_none(watched: Simulator, kept: Any) -> None:
    store = Store()
    watching_trigger = watcher(store)
    store.kept[watching_trigger._key] = kept
    watched.set_credits(10)
    async with watching(watching_trigger) as events:
        await until(lambda: store.sets == [False])
        assert events == []


@pytest.mark.parametrize("failures", [1, 2])
@in_a_loop
async def test_a_state_that_cannot_be_read_at_first_is_read_again(
    watched: Simulator, lines: list[Line], failures: int
) -> None:
    store = FailingStore()
    async with watching(watcher(store)):
        await until(lambda: store.sets == [True])
    watched.set_credits(40)  # while nobody watches
    store.failing_gets = failures
    async with watching(watcher(store)) as events:
        await until(lambda: events)
    assert [each["credits"] for each in events] == [40.0]
    assert lines[:-1] == [("WARNING", NOT_LOADED)] * failures


@in_a_loop
async def test_a_watcher_works_without_a_state_that_cannot_be_read(
    watched: Simulator, lines: list[Line]
) -> None:
    store = FailingStore()
    store.failing_gets = 3
    watched.set_credits(40)
    async with watching(watcher(store)) as events:
        await until(lambda: store.sets == [False])
        assert events == []
        watched.set_credits(70)
        await until(lambda: store.sets == [False, True])
        watched.set_credits(40)
        await until(lambda: events)
    assert lines[:3] == [("WARNING", NOT_LOADED)] * 3


@in_a_loop
async def test_a_state_that_cannot_be_saved_is_saved_at_a_later_poll(
    watched: Simulator, lines: list[Line]
) -> None:
    store = FailingStore()
    async with watching(watcher(store)) as events:
        await until(lambda: store.sets == [True])
        store.failing_sets = 2
        watched.set_credits(40)
        await until(lambda: store.sets == [True, False])
    assert len(events) == 1
    assert lines == [
        ("INFO", "40 credits: now below the threshold of 50"),
        ("WARNING", NOT_SAVED),
        ("WARNING", NOT_SAVED),
    ]


@in_a_loop
async def test_an_event_is_saved_soon_after_it_and_not_with_the_next_poll(watched: Simulator) -> None:
    store = Store()
    async with watching(watcher(store)):
        await until(lambda: store.sets == [True])
    watched.set_credits(10)
    requests = watched.count()
    # A watcher asks as soon as it comes, although the one before it has just had an answer.
    async with watching(watcher(store, poke_interval=600)) as events:
        await until(lambda: store.sets == [True, False])
    assert len(events) == watched.count() - requests == 1


@in_a_loop
async def test_a_watcher_that_ends_before_its_event_is_stored_saves_nothing_and_so_repeats_it(
    watched: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossing, "_SAVE_DELAY", 600.0)
    store = Store()
    async with watching(watcher(store)) as events:
        await until(lambda: store.sets == [True])
        watched.set_credits(10)
        await until(lambda: events)
        watched.set_credits(60)
        await polls(watched)
        watched.set_credits(10)
        await until(lambda: len(events) == 2)
    assert store.sets == [True]
    async with watching(watcher(store)) as events:
        await until(lambda: events)


@in_a_loop
async def test_a_watcher_fires_without_a_store(watched: Simulator) -> None:
    watching_trigger = watcher()
    if hasattr(watching_trigger, "asset_state_store"):
        watching_trigger.asset_state_store = None
    async with watching(watching_trigger) as events:
        await polls(watched)
        watched.set_credits(10)
        await until(lambda: events)
