"""When a watcher loads its state after a failure, and when it saves it after an event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support.polling_gates import VARIABLE, Account, in_virtual_time
from support.virtual_time import pass_time
from support.watchers import Store, watcher, watching

if TYPE_CHECKING:
    from collections.abc import Iterator


class TimedStore(Store):
    """A store that knows when it was used, and cannot be read for some time.

    :param works_at: from when on it can be read, in seconds since the loop began.
    """

    def __init__(self, works_at: float = 0.0) -> None:
        super().__init__()
        self.works_at = works_at
        self.got_at: list[float] = []
        self.set_at: list[float] = []

    async def aget(self, key: str) -> Any:
        self.got_at.append(asyncio.get_running_loop().time())
        if self.got_at[-1] < self.works_at:
            raise OSError("no API server")
        return await super().aget(key)

    async def aset(self, key: str, value: Any) -> None:
        self.set_at.append(asyncio.get_running_loop().time())
        await super().aset(key, value)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with Account() as simulator:
        simulator.set_credits(100)
        monkeypatch.setenv(VARIABLE, simulator.connection())
        yield simulator


@pytest.mark.parametrize(
    ("works_at", "expected"), [(0.0, [0]), (0.5, [0, 1]), (2.0, [0, 1, 5]), (60.0, [0, 1, 5])]
)
@in_virtual_time
async def test_a_state_is_loaded_at_once_after_one_and_after_four_more_seconds(
    account: Account, works_at: float, expected: list[float]
) -> None:
    store = TimedStore(works_at)
    async with watching(watcher(store, poke_interval=60)):
        await pass_time(30)
    assert store.got_at == expected
    assert account.times() == [expected[-1]]


@in_virtual_time
async def test_a_state_is_saved_five_seconds_after_an_event(account: Account) -> None:
    store = TimedStore()
    async with watching(watcher(store, poke_interval=60)) as events:
        await pass_time(1)
        account.set_credits(10)
        await pass_time(100)
        assert len(events) == 1
    assert store.set_at == [0, 65]
    assert store.sets == [True, False]


@in_virtual_time
async def test_a_watcher_that_ends_before_it_has_saved_does_not_save_later(account: Account) -> None:
    store = TimedStore()
    async with watching(watcher(store, poke_interval=60)) as events:
        await pass_time(1)
        account.set_credits(10)
        await pass_time(60)
        assert len(events) == 1
    await pass_time(100)
    assert store.set_at == [0]


@in_virtual_time
async def test_of_two_events_in_short_order_only_the_later_one_is_saved(account: Account) -> None:
    store = TimedStore()
    async with watching(watcher(store, poke_interval=1)) as events:
        await pass_time(0.5)
        for balance in (10, 60, 10):
            account.set_credits(balance)
            await pass_time(1)
        await pass_time(20)
        assert len(events) == 2
    assert store.set_at == [0, 8]
