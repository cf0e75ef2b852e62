"""When the poller asks, tells and forgets, by clocks that stand where a test puts them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.polling_gates import CONNECTION, DEFAULT, are_failed, gates, in_a_loop, outcomes, until

from airflow_provider_stability.connection.loading import load_settings_async
from airflow_provider_stability.exceptions import AuthenticationError, PermissionDeniedError
from airflow_provider_stability.gate.outcome import Opened
from airflow_provider_stability.polling import balance_poll as streams
from airflow_provider_stability.polling import poller as polling
from airflow_provider_stability.polling.rate_limiter import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.simulator import Simulator


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (polling, streams):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the connections that were read, one after the other."""
    found: list[str] = []

    async def read(connection_id: str) -> Any:
        found.append(connection_id)
        return await load_settings_async(connection_id)

    monkeypatch.setattr(polling, "load_settings_async", read)
    return found


class Later:
    """What the poller has put off, and for how long; it happens when a test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put_off: list[tuple[float, Callable[[], object]]] = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def note(delay: float, callback: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
            if callback.__module__ != polling.__name__:
                return call_later(delay, callback, *args, **kwargs)
            self.put_off.append((delay, callback))
            return None

        monkeypatch.setattr(loop, "call_later", note)

    def delays(self) -> list[float]:
        return [delay for delay, _ in self.put_off]

    def happen(self) -> None:
        put_off, self.put_off = self.put_off, []
        for _, callback in put_off:
            callback()


def registry() -> Any:
    return polling._registries[asyncio.get_running_loop()]


async def polls(account: Simulator, number: int = 3) -> None:
    before = account.count()
    await until(lambda: account.count() >= before + number)


@pytest.mark.parametrize("organization", [None, "org-b"])
@in_a_loop
async def test_a_refusal_that_is_known_is_not_looked_into_again(
    account: Simulator, reads: list[str], organization: str | None
) -> None:
    account.fail(status=401 if organization is None else 403, times=None)
    with gates(organization=organization) as first:
        await until(lambda: all(outcomes(first)))
    assert reads == [CONNECTION] * 2  # the second time, as it might be another since
    with gates(organization=organization) as second:
        await until(lambda: all(outcomes(second)))
    assert outcomes(second) == outcomes(first)
    assert reads == [CONNECTION] * 3
    assert account.count() == 1


@in_a_loop
async def test_the_connection_is_read_again_when_that_is_a_minute_ago(
    account: Simulator, clock: Clock, reads: list[str]
) -> None:
    with gates(interval=0.05):
        await polls(account)
        clock.now += 59.5
        await polls(account)
        assert reads == [CONNECTION]
        clock.now += 0.5
        await polls(account)
        assert reads == [CONNECTION] * 2


@pytest.mark.parametrize(("age", "interval", "asked"), [(5, 60, 0), (5.5, 60, 1), (2, 2, 0), (2.5, 2, 1)])
@in_a_loop
async def test_a_sample_of_five_seconds_or_the_gates_interval_opens_it_and_no_older_one(
    account: Simulator, clock: Clock, age: float, interval: float, asked: int
) -> None:
    with gates(interval=60) as waiting:
        await until(lambda: waiting[0].latest.is_balance_known)
        before = account.count()
        clock.now += age
        with gates(needed=10, interval=interval) as joiner:
            assert outcomes(joiner) == [Opened(10.0) if not asked else None]
            await until(lambda: joiner[0].outcome)
        assert account.count() == before + asked


@in_a_loop
async def test_another_balance_is_told_of_after_a_minute_and_the_same_after_ten(
    account: Simulator, clock: Clock
) -> None:
    with gates(interval=0.05) as (gate,):
        await until(lambda: gate.told_credits == 10)
        assert gate.told_at == 100
        account.set_credits(11)
        for seconds in (1, 58.5):
            clock.now += seconds
            await polls(account)
            assert (gate.told_at, gate.told_credits) == (100, 10)
        clock.now += 0.5
        await until(lambda: gate.told_at == 160)
        assert gate.told_credits == 11
        clock.now += 599.5
        await polls(account)
        assert gate.told_at == 160
        clock.now += 0.5
        await until(lambda: gate.told_at == 760)


@in_a_loop
async def test_an_error_is_told_of_at_once_and_so_is_its_end(account: Simulator, clock: Clock) -> None:
    with gates(interval=0.05) as (gate,):
        await until(lambda: gate.told_state == "known")
        clock.now += 1
        account.fail(status=503, times=None)
        await until(lambda: gate.told_state == "ServerError")
        assert gate.told_at == 101
        clock.now += 1
        account.heal()
        await until(lambda: gate.told_state == "known")
        assert gate.told_at == 102


@in_a_loop
async def test_a_refused_key_is_asked_for_again_after_ten_seconds(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later(monkeypatch)
    account.fail(status=401, times=2)
    for _ in range(2):
        for organization in (None, "org-b"):
            with gates(needed=5, organization=organization) as refused:
                await until(lambda refused=refused: are_failed(refused, AuthenticationError))  # type: ignore[misc]
    assert account.count() == 1
    assert 10.0 in later.delays()
    later.happen()
    assert registry().verdicts == {}
    with gates() as refused:
        await until(lambda: are_failed(refused, AuthenticationError))
    assert account.count() == 2


@in_a_loop
async def test_an_organization_that_is_refused_is_asked_for_again_after_ten_seconds_and_others_at_once(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later(monkeypatch)
    account.fail(status=403, times=None, organization=DEFAULT)
    for _ in range(3):
        with gates() as refused:
            await until(lambda refused=refused: are_failed(refused, PermissionDeniedError))  # type: ignore[misc]
    assert account.count() == 1
    with gates(needed=5, organization="org-b") as other:
        await until(lambda: other[0].outcome)
        assert other[0].outcome == Opened(10.0)
    account.heal()
    later.happen()
    with gates(needed=5) as again:
        await until(lambda: again[0].outcome)
        assert again[0].outcome == Opened(10.0)


@in_a_loop
async def test_the_end_of_an_older_refusal_is_not_that_of_a_newer_one(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later(monkeypatch)
    account.fail(status=401, times=None)
    for key in (account.api_key, "sk-another-key"):
        connection = account.connection().replace(account.api_key, key)
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", connection)
        with gates() as refused:
            await until(lambda refused=refused: are_failed(refused, AuthenticationError))  # type: ignore[misc]
    assert account.count() == 2
    first, second = (
        callback for delay, callback in later.put_off if delay == 10 and "remember" in str(callback)
    )
    first()
    assert len(registry().verdicts) == 1
    second()
    assert registry().verdicts == {}


@in_a_loop
async def test_a_budget_is_kept_for_as_long_as_it_matters_and_found_by_those_who_come_meanwhile(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Later(monkeypatch)

    async def leave() -> weakref.ref[Budget]:
        with gates() as waiting:
            await until(lambda: waiting[0].latest.is_balance_known)
            return weakref.ref(registry().pollers[CONNECTION]._budget)

    async def come_again(kept: Budget) -> None:
        with gates():
            await until(lambda: registry().pollers[CONNECTION]._budget is kept)

    def pause(budget: Budget | None) -> None:
        assert budget is not None
        budget.pause(60)

    found = await leave()
    assert later.delays() == [10.0]
    pause(found())  # by the answer to the last request, when nobody waited any more
    later.happen()
    (delay,) = later.delays()
    assert 50 < delay <= 60
    await come_again(found() or Budget())
    assert account.count() == 1
    monkeypatch.setattr(Budget, "is_paused", False)
    later.happen()
    assert later.delays() == []
    await until(lambda: gc.collect() >= 0 and found() is None)
