"""The triggers that the benchmark ``gates`` compares, each as a user would write it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.support.response_check import NEEDED
from benchmarks.support.service import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    Trigger = tuple[str, dict[str, Any]]
    """The path of its class and its arguments, as Airflow stores triggers."""

__all__ = ["CONTENDERS", "EVENT", "IDLE", "OURS", "SENSOR", "Contender", "connections"]

OURS: Final = "ours"
IDLE: Final = "nothing"
SENSOR: Final = "HttpSensorTrigger"
EVENT: Final = "HttpEventTrigger"


@dataclass(frozen=True)
class Contender:
    """A trigger that waits for credits.

    :param trigger: makes one from an organization and the seconds between two polls.
    :param is_limited: whether the service has its rate limit. It is lifted for the peers, which would
        otherwise spend their time in its penalty.
    :param waits_for_404: whether it cannot read a balance and opens at any answer but a 404, so that the
        service must answer 404 for it to wait.
    """

    trigger: Callable[[str | None, float], Trigger]
    is_limited: bool = False
    waits_for_404: bool = False


def _ours(organization: str | None, interval: float) -> Trigger:
    path = "airflow_provider_stability.triggers.balance.BalanceTrigger"
    return path, {"min_credits": NEEDED, "organization": organization, "poke_interval": interval}


def _idle(organization: str | None, interval: float) -> Trigger:  # noqa: ARG001  # the signature of the others
    return "benchmarks.support.idle.IdleTrigger", {}


def _sensor(organization: str | None, interval: float) -> Trigger:
    path = "airflow.providers.http.triggers.http.HttpSensorTrigger"
    return path, {"endpoint": "v1/user/balance", "headers": _headers(organization), "poke_interval": interval}


def _event(organization: str | None, interval: float) -> Trigger:
    path = "airflow.providers.http.triggers.http.HttpEventTrigger"
    return path, {
        "endpoint": "v1/user/balance",
        "headers": _headers(organization),
        "poll_interval": interval,
        "response_check_path": "benchmarks.support.response_check.has_enough",
    }


def _headers(organization: str | None) -> dict[str, str]:
    return {} if organization is None else {"Organization": organization}


CONTENDERS: Final = {
    OURS: Contender(_ours, is_limited=True),
    IDLE: Contender(_idle),
    SENSOR: Contender(_sensor, waits_for_404=True),
    EVENT: Contender(_event),
}


def connections(base_url: str) -> dict[str, str]:
    """Return the connections of all contenders, as environment variables.

    Reading them costs nothing. With connections in Airflow's database, each trigger of the peers would
    request its own from the triggerer.
    """
    return {
        "AIRFLOW_CONN_STABILITY_DEFAULT": json.dumps(
            {"conn_type": "stability", "host": base_url, "password": KEY}
        ),
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(
            {"conn_type": "http", "host": base_url, "extra": {"Authorization": f"Bearer {KEY}"}}
        ),
    }
