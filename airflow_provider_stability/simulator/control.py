"""The control endpoints under /_simulator/, for a simulator that runs as a separate program.

They need no key, since the simulator is bound to loopback. No answer of theirs contains the key.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.answers import Answer, as_json, error
from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import State

PREFIX = "/_simulator/"

_FAULT_FIELDS = tuple(each.name for each in dataclasses.fields(Fault))
_METHODS = {"top-up": "POST", "fail": "POST", "heal": "POST", "state": "GET"}


def answer(state: State, request: RecordedRequest) -> Answer:
    """Carry out a control request and return the answer; 400 with a message if its body is invalid."""
    action = request.path.removeprefix(PREFIX)
    if action not in _METHODS:
        allowed = ", ".join(PREFIX + each for each in _METHODS)
        return error("v1", 404, f"the path is {request.path!r}; it must be one of {allowed}")
    if request.method != _METHODS[action]:
        return dataclasses.replace(error("v1", 405), headers={"Allow": _METHODS[action]})
    try:
        return as_json(_carry_out(state, action, request.body))
    except ValueError as invalid:
        return error("v1", 400, str(invalid))


def _carry_out(state: State, action: str, body: bytes) -> dict[str, object]:
    if action == "top-up":
        return _top_up(state, body)
    if action == "fail":
        state.add_fault(Fault(**_read(body, _FAULT_FIELDS)))
        return {"armed": True}
    if action == "heal":
        state.heal()
        return {"healed": True}
    return {"credits": state.balances(), "requests": state.paths()}


def _top_up(state: State, body: bytes) -> dict[str, object]:
    fields = _read(body, ("credits", "organization"))
    if "credits" not in fields:
        raise ValueError("credits is missing; it must be a finite number above 0")
    organization = fields.get("organization")
    checks.of_type("organization", organization, (str, type(None)), "an id, or null for the default one")
    balance = state.top_up(fields["credits"], organization)
    return {"organization": organization or DEFAULT_ORGANIZATION, "credits": balance}


def _read(body: bytes, allowed: tuple[str, ...]) -> dict[str, Any]:
    names = ", ".join(allowed)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"the body is not JSON; it must be a JSON object with {names}") from None
    checks.of_type("the body", content, dict, f"a JSON object with {names}")
    for name in content:
        if name not in allowed:
            raise ValueError(f"a field of the body is {name!r}; it must be one of {names}")
    return dict(content)
