"""The event when a balance crosses a threshold: the detector, and the trigger against the simulator."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_stability.exceptions import StabilityParameterError
from airflow_provider_stability.gate.crossing import CrossingDetector
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.triggers import crossing
from airflow_provider_stability.triggers.balance import BalanceTrigger
from airflow_provider_stability.triggers.crossing import BalanceCrossingTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.triggers.base import BaseTrigger

CONNECTION = "AIRFLOW_CONN_STABILITY_DEFAULT"
KEY = "sk-CanaryKey0123456789"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=100, api_key=KEY) as simulator:
        monkeypatch.setenv(CONNECTION, simulator.connection(timeout=5))
        yield simulator


def crossings(direction: str, balances: list[float], threshold: float = 100, band: float = 20) -> list[float]:
    detector = CrossingDetector(threshold, direction, band)
    return [each for each in balances if detector.has_crossed(each)]


@pytest.mark.parametrize(
    ("direction", "balances", "fired"),
    [
        ("below", [150, 120, 99.9, 50, 10], [99.9]),
        ("below", [150, 100, 99.9], [99.9]),
        ("below", [50, 40], []),  # the first balance is no crossing
        ("below", [50, 119, 90], []),  # not back by the band
        ("below", [150, 99, 119, 98, 120, 97], [99, 97]),
        ("above", [50, 100, 150], [100]),
        ("above", [150, 160], []),
        ("above", [50, 100, 81, 101, 80, 100.5], [100, 100.5]),
        ("above", [-5, 1000], [1000]),
    ],
)
def test_a_crossing_counts_once_until_the_balance_has_come_back(
    direction: str, balances: list[float], fired: list[float]
) -> None:
    assert crossings(direction, balances) == fired


@pytest.mark.parametrize("direction", ["below", "above"])
def test_without_a_band_each_crossing_counts(direction: str) -> None:
    trembling = [101.0, 99.0] * 3
    expected = [99.0] * 3 if direction == "below" else [101.0] * 2
    assert crossings(direction, trembling, band=0) == expected


def test_a_detector_that_is_told_its_state_sees_a_crossing_that_nobody_watched() -> None:
    detector = CrossingDetector(100, "below", 0)
    detector.is_armed = True
    assert detector.has_crossed(50)
    again = CrossingDetector(100, "below", 0)
    again.is_armed = detector.is_armed
    assert not again.has_crossed(50)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"direction": "sideways"}, "direction is 'sideways'; allowed is below or above"),
        ({"threshold": -1}, "threshold is -1; allowed"),
        ({"threshold": "many"}, "threshold is 'many'"),
        ({"rearm_band": float("inf")}, "rearm_band is inf"),
        ({"poke_interval": 0}, "poke_interval is 0"),
        ({"organization": "org b"}, "organization is 'org b'"),
    ],
)
def test_a_wrong_parameter_is_refused_when_the_dag_is_parsed(parameters: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {"threshold": 100, "direction": "below"}
    with pytest.raises(StabilityParameterError, match=named):
        BalanceCrossingTrigger(**(given | parameters))


def trigger(**kwargs: Any) -> BalanceCrossingTrigger:
    given: dict[str, Any] = {"threshold": 50, "direction": "below", "poke_interval": 0.05}
    return BalanceCrossingTrigger(**(given | kwargs))


def test_the_trigger_is_made_again_from_plain_json_without_a_secret() -> None:
    path, kwargs = trigger(organization="org-b", rearm_band=5).serialize()
    assert path == "airflow_provider_stability.triggers.crossing.BalanceCrossingTrigger"
    assert BalanceCrossingTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, kwargs)
    assert KEY not in json.dumps(kwargs)


class Store:
    """Takes the place of Airflow's asset state store, which only a triggerer of 3.3 has."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


def watch(
    account: Simulator, watching: BalanceCrossingTrigger, steps: list[Callable[[], object]]
) -> list[dict[str, Any]]:
    """Take the steps, two polls apart, and return the events that came until two polls after the last."""
    events: list[dict[str, Any]] = []

    async def collect() -> None:
        async for event in watching.run():
            events.append(event.payload)  # noqa: PERF401  # it never ends, and what came so far counts

    async def polls(count: int) -> None:
        await asyncio.to_thread(account.wait_for_requests, account.count() + count, timeout=30)

    async def main() -> None:
        task = asyncio.create_task(collect())
        await polls(2)
        for step in steps:
            step()
            await polls(2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert polling._registries[asyncio.get_running_loop()].pollers == {}

    asyncio.run(main())
    return events


def test_the_trigger_fires_once_when_the_balance_falls_below(account: Simulator) -> None:
    events = watch(
        account, trigger(), [lambda: account.set_credits(60), lambda: account.set_credits(40), lambda: None]
    )
    assert events == [{"direction": "below", "threshold": 50, "credits": 40.0, "organization": None}]


def test_the_trigger_fires_once_when_a_top_up_comes(account: Simulator) -> None:
    events = watch(
        account,
        trigger(threshold=500, direction="above", rearm_band=100),
        [lambda: account.top_up(450), lambda: account.set_credits(450), lambda: account.set_credits(600)],
    )
    assert [event["credits"] for event in events] == [550.0]


def test_errors_neither_fire_nor_end_it(account: Simulator) -> None:
    def fail() -> None:
        account.fail(status=503)
        account.fail(status=401)
        account.fail(body=b"<html>")

    events = watch(account, trigger(), [fail, lambda: None, lambda: None, lambda: account.set_credits(10)])
    assert [event["credits"] for event in events] == [10.0]


def watch_with(store: Store, account: Simulator, steps: list[Callable[[], object]]) -> list[float]:
    watching = trigger()
    watching.asset_state_store = store  # type: ignore[assignment]  # what a triggerer of 3.3 does
    return [event["credits"] for event in watch(account, watching, steps)]


def test_a_restart_neither_invents_nor_loses_a_crossing_where_state_is_kept(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossing, "_SETTLE", 0.0)
    store = Store()
    assert watch_with(store, account, [lambda: None]) == []
    account.set_credits(40)  # while nobody watches
    assert watch_with(store, account, [lambda: None]) == [40.0]
    assert watch_with(store, account, [lambda: None]) == []  # told already
    account.set_credits(70)
    assert watch_with(store, account, [lambda: account.set_credits(30)]) == [30.0]


def test_a_triggerer_that_dies_before_it_has_stored_an_event_repeats_it(account: Simulator) -> None:
    store = Store()
    assert watch_with(store, account, [lambda: account.set_credits(40)]) == [40.0]
    assert watch_with(store, account, [lambda: None]) == [40.0]


def test_a_restart_without_state_invents_no_crossing(account: Simulator) -> None:
    assert watch(account, trigger(), [lambda: None]) == []
    account.set_credits(40)
    assert watch(account, trigger(), [lambda: None]) == []


def test_a_state_that_could_not_be_stored_is_stored_at_a_later_poll(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossing, "_SETTLE", 0.0)

    class Failing(Store):
        failures = 0

        async def aset(self, key: str, value: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("no API server")
            await super().aset(key, value)

    store = Failing()

    def cross() -> None:
        store.failures = 2
        account.set_credits(40)

    assert watch_with(store, account, [cross, lambda: None, lambda: None]) == [40.0]
    assert store.failures == 0
    assert watch_with(store, account, [lambda: None]) == []


async def first_event(watching: BaseTrigger) -> object:
    return await anext(aiter(watching.run()))


def test_gates_and_watchers_share_one_poll(account: Simulator) -> None:
    async def main() -> None:
        gates = [BalanceTrigger(min_credits=1000, poke_interval=0.2) for _ in range(50)]
        watchers = [trigger(threshold=number, poke_interval=0.2) for number in range(1, 20)]
        tasks = [asyncio.create_task(first_event(each)) for each in [*gates, *watchers]]
        await asyncio.to_thread(account.wait_for_requests, 5, timeout=30)
        first, *_, last = account.requests
        assert account.count() <= (last.at - first.at) / 0.2 + 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
