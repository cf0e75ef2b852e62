"""The control endpoints under /_simulator/, for a simulator that runs as a program of its own.

They want no key: the simulator is bound to loopback only. Nothing they answer holds the key.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.answers import Answer, as_json, error
from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import State

PREFIX = "/_simulator/"

_FAULT_FIELDS = tuple(each.name for each in fields(Fault))
_METHODS = {"top-up": "POST", "fail": "POST", "heal": "POST", "state": "GET"}


def answer(state: State, request: RecordedRequest) -> Answer:
    """Carry out a control request and return the answer; 400 with a message that says what is allowed."""
    action = request.path.removeprefix(PREFIX)
    if action not in _METHODS:
        return error("v1", 404, f"{request.path} is not known; there are {', '.join(_METHODS)}")
    if request.method != _METHODS[action]:
        return replace(error("v1", 405), headers={"Allow": _METHODS[action]})
    try:
        return as_json(_carry_out(state, action, request.body))
    except ValueError as problem:
        return error("v1", 400, str(problem))


def _carry_out(state: State, action: str, body: bytes) -> dict[str, object]:
    if action == "top-up":
        return _top_up(state, body)
    if action == "fail":
        state.arm(Fault(**_read(body, _FAULT_FIELDS)))
        return {"armed": True}
    if action == "heal":
        state.heal()
        return {"healed": True}
    return {"credits": state.balances(), "requests": state.paths()}


def _top_up(state: State, body: bytes) -> dict[str, object]:
    wish = _read(body, ("credits", "organization"))
    if "credits" not in wish:
        raise ValueError("credits is missing: how many to add, a number above 0")
    organization = wish.get("organization")
    checks.of_kind("organization", organization, (str, type(None)), "the id of one, or null for the default")
    balance = state.top_up(wish["credits"], organization)
    return {"organization": organization or DEFAULT_ORGANIZATION, "credits": balance}


def _read(body: bytes, allowed: tuple[str, ...]) -> dict[str, Any]:
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"the body must be a JSON object with {', '.join(allowed)}") from None
    checks.of_kind("the body", wish, dict, f"a JSON object with {', '.join(allowed)}")
    for name in wish:
        if name not in allowed:
            raise ValueError(f"{name!r} is not known; allowed are {', '.join(allowed)}")
    return dict(wish)
