"""What the gates in the triggerer tell Airflow's metrics; what of it arrives, the real Airflow shows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from support.gates import fire, gate, trigger
from support.polling_gates import in_a_loop, until

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator

OPENED = {"status": "success", "credits": 52.5}


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Return what the package tells Airflow's metrics: names, with tags."""
    found: list[tuple[str, dict[str, str]]] = []
    recorder = SimpleNamespace(
        incr=lambda name, tags: found.append((name, tags)),
        gauge=lambda name, value, tags: found.append((f"{name} {value}", tags)),
    )
    monkeypatch.setattr("airflow_provider_stability.metrics.Stats", recorder)
    return found


@in_a_loop
async def test_a_poll_is_one_sample_in_the_metrics_however_many_gates_wait(
    account: Simulator, samples: list[tuple[str, dict[str, str]]]
) -> None:
    account.fail(status=503)
    tasks = [asyncio.create_task(fire(trigger())) for _ in range(200)]
    await until(lambda: account.count() >= 3)
    account.top_up(40)
    await asyncio.gather(*tasks)
    tags = {"connection": "stability_default", "organization": "default"}
    assert samples[:2] == [
        ("stability.polls", tags),
        ("stability.errors", {**tags, "error": "ServerError"}),
    ]
    assert samples[2:4] == [("stability.polls", tags), ("stability.credits 12.5", tags)]
    assert samples[-1] == ("stability.credits 52.5", tags)
    assert len(samples) == 2 * account.count()


def test_a_sample_has_the_connection_s_organization_as_a_tag_in_every_mode(
    account: Simulator, samples: list[tuple[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(organization="org-b"))
    asyncio.run(fire(trigger()))
    in_triggerer = list(samples)
    samples.clear()
    assert in_triggerer[0][1]["organization"] == "org-b"
    assert gate().execute({}) == 60.0
    assert samples == in_triggerer


@in_a_loop
async def test_metrics_that_fail_do_not_fail_a_gate(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_stability.metrics.Stats", None)
    account.top_up(40)
    assert await fire(trigger()) == OPENED
