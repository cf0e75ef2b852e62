"""The service of a soak: a simulator whose balances change, and which goes wrong, both at random."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_stability.simulator import Simulator
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION
from support.soak.record import request_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from support.soak.plan import Plan
    from support.soak.record import Record

__all__ = ["Chaos", "Service"]

_FOR_EVER: Final = 600.0  # seconds that no client waits
_HTML: Final = "<html><title>Sign in</title></html>"
_WRONG_BODIES: Final = (
    b"",
    b"{}",
    b"[]",
    b"credits",
    b'{"credits": "1000"}',
    b'{"credits": true}',
    b'{"credits": null}',
    b'{"credits": NaN}',
    b'{"credits": Infinity}',
    b'{"credits": [1000]}',
    b'{"Credits": 1000}',
    b'{"credits": 10',
)
_LONG_PAUSE_AT: Final = 0.5  # of the time that a soak takes
_LONG_PAUSE_FROM: Final = 600.0  # seconds that a soak must take for a pause of a minute in it


class Service:
    """A simulator that can go away, and come back on the same port as if nothing had been.

    :param record: where its requests go.
    """

    def __init__(self, plan: Plan, record: Record) -> None:
        self.balances = dict.fromkeys([DEFAULT_ORGANIZATION, *plan.names], 10.0)
        self._limit = plan.limit
        self._record = record
        self._keys = (f"sk-soak-{number:04}" for number in itertools.count(1))
        self.key = next(self._keys)
        self._port = 0
        self.simulator: Simulator | None = None
        self._gone_at = 0.0

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and keep the requests."""
        if self.simulator is not None:
            self.stop()

    @property
    def connection(self) -> str:
        """The connection to it, with the key of the moment."""
        assert self.simulator is not None
        return self.simulator.connection(timeout=self._limit)

    def start(self) -> None:
        """Come, or come back."""
        others = {name: value for name, value in self.balances.items() if name != DEFAULT_ORGANIZATION}
        simulator = Simulator(
            credits=self.balances[DEFAULT_ORGANIZATION],
            organizations=others,
            api_key=self.key,
            port=self._port,
        )
        simulator.__enter__()
        self.simulator, self._port = simulator, simulator.port
        if self._gone_at:
            self._record.outages.append((self._gone_at, time.time()))

    def stop(self) -> None:
        """Go away: who connects now is refused."""
        assert self.simulator is not None
        self._gone_at = time.time()
        self.simulator.__exit__(None, None, None)
        self._record.requests += [request_of(each) for each in self.simulator.requests]
        self.simulator = None

    def set_credits(self, organization: str, value: float) -> None:
        """Change a balance."""
        self.balances[organization] = value
        if self.simulator is not None:
            self.simulator.set_credits(value, organization)

    def rotate_key(self) -> None:
        """Take another key from now on."""
        assert self.simulator is not None
        self.key = next(self._keys)
        self.simulator.rotate_key(self.key)


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    act: Callable[[], object]


class Chaos:
    """What happens to a service, one thing after the other, chosen by the seed.

    :param reconnect: called with the connection when it has another key.
    """

    def __init__(self, plan: Plan, service: Service, reconnect: Callable[[str], None]) -> None:
        self._plan = plan
        self._service = service
        # One for each, so that neither depends on when the other has its turn.
        self._random, self._changes = random.Random(plan.seed), random.Random(plan.seed)  # noqa: S311
        self._reconnect = reconnect
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._deck: list[Callable[[], float]] = []
        self._is_over = False
        self.done: list[str] = []

    def begin(self) -> None:
        """Plan the first of everything."""
        self._later(0.0, self._change)
        self._later(self._plan.fault_every, self._strike)
        for part in self._plan.refuse_all_at:
            self._later(part * self._plan.seconds, lambda: self._fail("401 for all", status=401))
        if self._plan.seconds >= _LONG_PAUSE_FROM:
            at = _LONG_PAUSE_AT * self._plan.seconds
            self._later(at, lambda: self._fail("429 for a minute", status=429))

    def run(self, seconds: float) -> None:
        """Do what is due, for so long."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            while self._due and self._due[0].at <= now:
                heapq.heappop(self._due).act()
            following = min(until, self._due[0].at if self._due else until)
            time.sleep(max(0.0, following - time.monotonic()))

    def end(self) -> None:
        """Bring the service back if it is away, and do no more."""
        self._is_over = True
        if self._service.simulator is None:
            self._service.start()
        else:
            self._service.simulator.heal()

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + seconds, next(self._numbers), act))

    def _change(self) -> None:
        """Spend, mostly; top up now and then."""
        chance = self._changes
        name = chance.choice(list(self._service.balances))
        dice = chance.random()
        if dice < 0.7:
            value = self._service.balances[name] - chance.uniform(0, 12)
        elif dice < 0.9:
            value = self._service.balances[name] + chance.uniform(0, 15)
        else:
            value = chance.uniform(20, 100)
        # So many digits that two organizations, or two moments, do not have the same by chance.
        self._service.set_credits(name, round(max(value, -5.0 + chance.random()), 6))
        self._later(chance.expovariate(1 / self._plan.change_every), self._change)

    def _strike(self) -> None:
        lasts = 0.0
        if self._service.simulator is not None:
            if not self._deck:
                self._deck = self._new_deck()
            lasts = self._deck.pop()()
        self._later(lasts + self._random.expovariate(1 / self._plan.fault_every), self._strike)

    def _new_deck(self) -> list[Callable[[], float]]:
        """Return one of each kind, some more often, in random order: none is left to chance alone."""
        chance, some = self._random, self._some
        outage = self._plan.outage

        def fail(name: str, **fault: Any) -> Callable[[], float]:
            return lambda: self._fail(name, **fault)

        deck = [
            fail("429", status=429, retry_after=chance.choice([1, 2, round(outage / 2, 1)]), **some()),
            fail("500", status=500, times=chance.randint(1, 3), **some()),
            fail("502 in HTML", status=502, body=_HTML, content_type="text/html", **some()),
            fail("503, Retry-After", status=503, retry_after=1, times=2, **some()),
            fail("reset", reset=True, times=chance.randint(1, 4), **some()),
            fail("cut", cut_body=True, times=chance.randint(1, 2), **some()),
            fail("HTML", body=_HTML, content_type="text/html", times=2, **some()),
            *(fail("wrong body", body=chance.choice(_WRONG_BODIES), **some()) for _ in range(4)),
            fail("redirect", status=302, headers={"Location": "http://127.0.0.1:9/"}, **some()),
            fail("late", delay=chance.uniform(0.1, 0.3) * self._plan.limit, times=3, **some()),
            fail("too late", delay=_FOR_EVER, times=chance.randint(1, 3), **some()),
            fail("dripping", drip=0.002, times=2, **some()),
            fail("403", status=403, organization=chance.choice(list(self._service.balances))),
            self._silence,
            self._go_away,
            self._rotate,
        ]
        chance.shuffle(deck)
        return deck

    def _some(self) -> dict[str, Any]:
        """Return whom a fault hits: the next request, or one organization."""
        if self._random.random() < 0.5:
            return {}
        return {"organization": self._random.choice(list(self._service.balances))}

    def _fail(self, name: str, **fault: Any) -> float:
        if self._service.simulator is not None:
            self.done.append(name)
            self._service.simulator.fail(**fault)
        return 0.0

    def _silence(self) -> float:
        """Be unreachable for some seconds."""
        lasts = self._random.uniform(self._plan.outage / 4, self._plan.outage)
        simulator = self._service.simulator
        assert simulator is not None
        self._fail("silence", delay=_FOR_EVER, times=None)
        self._later(lasts, simulator.heal)
        return lasts

    def _go_away(self) -> float:
        lasts = self._random.uniform(self._plan.outage / 8, self._plan.outage)
        self.done.append("away")
        self._service.stop()
        self._later(lasts, self._come_back)
        return lasts + 0.1

    def _come_back(self) -> None:
        if not self._is_over and self._service.simulator is None:
            self._service.start()

    def _rotate(self) -> float:
        self.done.append("key rotated")
        self._service.rotate_key()
        self._reconnect(self._service.connection)
        return 0.0
