"""Where a watcher keeps its state, how it recalls it, and which parameters it refuses."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from support.polling_gates import in_a_loop, until
from support.watchers import Store, polls, watcher, watching

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.crossing import CrossingDetector
from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers import crossing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=100, rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5))
        monkeypatch.setattr(crossing, "_SETTLE", 0.0)
        monkeypatch.setattr(crossing, "_RETRY_DELAYS", (0, 0))
        yield simulator


class Forgetful(Store):
    """A store that cannot be read at the first few looks, as while Airflow starts."""

    failures = 0

    async def aget(self, key: str) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError("no API server")
        return await super().aget(key)


def key(**kwargs: Any) -> str:
    return watcher(**({"threshold": 40} | kwargs))._key


@pytest.mark.parametrize(
    "kwargs",
    [{"threshold": 40.0}, {"threshold": Decimal(40)}, {"rearm_band": 0}, {"poke_interval": 7}],
    ids=str,
)
def test_the_state_is_found_again_by_what_means_the_same(kwargs: dict[str, Any]) -> None:
    assert key(**kwargs) == key()


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
async def test_a_watcher_whose_interval_was_changed_neither_repeats_nor_loses_a_crossing(
    account: Simulator,
) -> None:
    store = Store()
    async with watching(watcher(store)) as events:
        await polls(account)
        account.set_credits(40)
        await until(lambda: events and False in store.sets)
    async with watching(watcher(store, poke_interval=0.06, threshold=50.0)) as events:
        await polls(account)
        assert events == []
        account.set_credits(70)
        await until(lambda: store.sets[-1] is True)
    account.set_credits(30)
    async with watching(watcher(store, poke_interval=0.07)) as events:
        await until(lambda: events)
        assert [each["credits"] for each in events] == [30.0]


@pytest.mark.parametrize("failures", [1, 2])
@in_a_loop
async def test_a_state_that_cannot_be_read_at_first_is_read_again(account: Simulator, failures: int) -> None:
    store = Forgetful()
    async with watching(watcher(store)):
        await until(lambda: store.sets == [True])
    account.set_credits(40)  # while nobody watches
    store.failures = failures
    async with watching(watcher(store)) as events:
        await until(lambda: events)
        assert [each["credits"] for each in events] == [40.0]


@in_a_loop
async def test_a_state_that_cannot_be_read_at_all_leaves_a_watcher_without_a_memory(
    account: Simulator,
) -> None:
    store = Forgetful()
    store.failures = 3
    account.set_credits(40)
    async with watching(watcher(store)) as events:
        await polls(account)
        assert (events, store.failures) == ([], 0)
        account.set_credits(70)
        await polls(account)
        account.set_credits(40)
        await until(lambda: events)


def test_a_band_that_no_balance_could_come_back_by_is_refused() -> None:
    said = re.escape(
        "rearm_band is 41; allowed with direction 'above' is at most the threshold, 40: "
        "the balance would have to fall below 0 before the next event"
    )
    with pytest.raises(StabilityParameterError, match=said):
        watcher(direction="above", threshold=40, rearm_band=41)
    assert watcher(direction="above", threshold=40, rearm_band=40).rearm_band == 40
    assert watcher(direction="below", threshold=40, rearm_band=41).rearm_band == 41


def test_a_band_of_the_whole_threshold_is_come_back_by_at_nothing() -> None:
    detector = CrossingDetector(40, "above", 40)
    assert [detector.has_crossed(each) for each in (10, 50, 1, 50, 0, 50)] == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("value", [None, 7, "", " "], ids=repr)
def test_what_is_no_connection_id_is_refused_when_the_dag_is_parsed(value: Any) -> None:
    with pytest.raises(StabilityParameterError) as refused:
        watcher(stability_conn_id=value)
    assert str(refused.value) == f"stability_conn_id is {value!r}; it must be the id of a connection"
