"""How long a soak is, with how many gates, and how much goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHORT", "Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A soak.

    The defaults are those of the long one: as many requests as the published limit allows, nearly.

    :param seed: what is random follows from it; not the order in which threads get their turn.
    :param gates: how many wait at any time; one in twenty is a watcher.
    :param seconds: how long.
    :param organizations: on how many they wait.
    :param intervals: what their ``poke_interval`` is chosen from; at most the 5 s for which a sample is good.
    :param limit: the connection's ``timeout``.
    :param life: seconds after which a gate that has an end ends at the latest.
    :param comes_after: seconds until another gate takes the place of one that has ended, at most.
    :param recovers_after: the same for one that has failed.
    :param fault_every: seconds between two things that go wrong, on average.
    :param change_every: seconds between two changes of a balance, whosever.
    :param refuse_all_at: when the key is refused, as parts of the whole.
    :param outage: seconds that the service is away or silent, at most.
    :param warm_up: seconds until the memory counts.
    :param report_every: seconds between two lines.
    """

    seed: int
    gates: int = 2000
    seconds: float = 1200.0
    organizations: int = 25
    intervals: tuple[float, ...] = (2.0, 3.0, 5.0)
    limit: float = 3.0
    life: float = 180.0
    comes_after: float = 2.0
    recovers_after: float = 15.0
    fault_every: float = 2.5
    change_every: float = 0.25
    refuse_all_at: tuple[float, ...] = (0.35, 0.9)
    outage: float = 8.0
    warm_up: float = 180.0
    report_every: float = 60.0

    @property
    def names(self) -> list[str]:
        """The organizations besides the account's default one."""
        return [f"org-{number:02}" for number in range(1, self.organizations)]


SHORT = Plan(
    seed=20251120,
    gates=200,
    seconds=16.0,
    organizations=5,
    intervals=(0.5, 1.0),
    limit=2.0,
    life=10.0,
    comes_after=0.5,
    recovers_after=4.0,
    fault_every=0.6,
    change_every=0.1,
    refuse_all_at=(0.95,),
    outage=1.5,
    warm_up=5.0,
    report_every=5.0,
)
