"""One poll for any number of gates: what the triggers of a process share.

An event loop has a ``Poller`` per connection, and that a ``BalancePoll`` per organization. Polls of the same
credits share their answers (``SharedKey``), however they are named. The rate limit is the API key's.

Airflow's own shared streams (``airflow/triggers/shared_stream.py``) exist from 3.3 on only, keep no answer
for gates that come later, wake every member at each poll, and raise one exception in all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow_provider_stability.polling.poller import Poller
from airflow_provider_stability.polling.rate_limiter import RateLimiter
from airflow_provider_stability.polling.shared_key import SharedKey
from airflow_provider_stability.polling.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow_provider_stability.connection.settings import Settings
    from airflow_provider_stability.polling.subscription import Subscription

__all__ = ["Registry", "registries", "subscribe"]


def subscribe(
    connection_id: str, organization: str | None, needed: float, interval: float, *, is_watcher: bool = False
) -> Subscription:
    """Wait together with every other gate in this event loop that waits for the same credits.

    :param connection_id: the Airflow connection.
    :param organization: whose credits; None for the connection's.
    :param needed: the credits that are enough.
    :param interval: seconds between two polls, at most.
    :param is_watcher: whether to be notified of every poll, whatever the balance.
    :returns: the subscription; its ``cancel`` must be called in the end.
    """
    registry = registries.setdefault(asyncio.get_running_loop(), Registry())
    poll = registry.poller(connection_id).poll(organization)
    return poll.subscribe(needed, interval, is_watcher=is_watcher)


class Registry:
    """The pollers of an event loop."""

    def __init__(self, timing: Timing | None = None) -> None:
        self._timing = timing or Timing()
        self.pollers: dict[str, Poller] = {}
        # For as long as the event loop: a triggerer sees few keys, and to forget one would exceed its limit.
        self._limiters: dict[str, RateLimiter] = {}
        self._keys: WeakValueDictionary[Hashable, SharedKey] = WeakValueDictionary()  # held by pollers

    def poller(self, connection_id: str) -> Poller:
        """Return the poller of a connection."""
        if connection_id not in self.pollers:
            self.pollers[connection_id] = Poller(
                connection_id, self._timing, shared_key=self._shared_key, on_empty=self.pollers.__delitem__
            )
        return self.pollers[connection_id]

    def _shared_key(self, settings: Settings) -> SharedKey:
        limiter = self._limiters.setdefault(settings.credential, RateLimiter(self._timing))
        return self._keys.setdefault(settings.route, SharedKey(self._timing, limiter))


registries: WeakKeyDictionary[asyncio.AbstractEventLoop, Registry] = WeakKeyDictionary()
"""By event loop: tests, ``dag.test()`` and forks each bring their own. A registry goes with its loop."""
