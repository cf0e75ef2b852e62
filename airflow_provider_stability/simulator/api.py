"""The service's answers to requests, in both versions of its API. No sockets are involved.

The facts come from the service's OpenAPI documents, v1 and v1alpha.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator.answers import ALPHA, Answer, as_json, error, with_fault
from airflow_provider_stability.simulator.engines import ENGINES
from airflow_provider_stability.simulator.generation import text_to_image
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION, State

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import Arrival

_BEARER = "Bearer "
_RESOURCES = ("user/account", "user/balance", "engines/list")


def version_of(path: str) -> str:
    """Return the API version of a path; v1, the stable one, for a path without a version."""
    return ALPHA if path.startswith(f"/{ALPHA}/") else "v1"


def presented_key(request: RecordedRequest) -> str | None:
    """Return the key of a request, if it is sent in the way of its API version; None otherwise.

    According to their code samples, v1 takes ``Bearer`` and the key, v1alpha the bare key.
    """
    authorization = request.headers.get("Authorization")
    if authorization is None or version_of(request.path) == ALPHA:
        return authorization
    return authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else None


def answer(state: State, request: RecordedRequest, arrival: Arrival) -> Answer:
    """Return the answer to a request, changed by its fault, if any."""
    fault = arrival.fault
    if fault is None:
        return _normal(state, request, arrival.retry_after)
    if fault.payload is not None:
        return with_fault(Answer(body=b""), fault)
    if fault.status is not None:
        return with_fault(error(version_of(request.path), fault.status), fault)
    return with_fault(_normal(state, request, arrival.retry_after), fault)


def _normal(state: State, request: RecordedRequest, retry_after: int | None) -> Answer:
    version = version_of(request.path)
    if retry_after is not None:
        return _rate_limited(state, version, retry_after)
    engine = _engine(request.path)
    resource = request.path.removeprefix(f"/{version}/")
    if engine is None and resource not in _RESOURCES:
        return error(version, 404)
    allowed = "GET" if engine is None else "POST"
    if request.method != allowed:
        return replace(error(version, 405), headers={"Allow": allowed})
    if presented_key(request) != state.api_key:
        # The specification has a message for a missing header only; it describes both cases as "missing or
        # invalid".
        is_missing = not request.headers.get("Authorization")
        return error(version, 401, None if is_missing else "API key missing or invalid")
    if resource == "user/account":
        return as_json(_account(state))  # its specification has no Organization header
    return _for_organization(state, request, resource, engine)


def _for_organization(state: State, request: RecordedRequest, resource: str, engine: str | None) -> Answer:
    """Return the answer to a request that depends on its Organization header."""
    version = version_of(request.path)
    if not state.is_member(request.organization):
        # The specification does not cover an organization that the account is not a member of. Its 403, "you
        # lack the necessary permissions to perform this action", fits: the key is valid.
        return error(version, 403)
    if resource == "user/balance":
        balance = state.credits(request.organization)
        return replace(as_json({"credits": balance}), credits=balance)
    if engine is None:
        # The schemas differ: a list in v1, an object in v1alpha.
        return as_json({"engines": ENGINES} if version == ALPHA else ENGINES)
    return text_to_image(state, request, engine)


def _engine(path: str) -> str | None:
    """Return the engine in a text-to-image path; that of v1alpha is not simulated."""
    match path.split("/"):
        case ["", "v1", "generation", engine, "text-to-image"]:
            return engine
    return None


def _rate_limited(state: State, version: str, retry_after: int) -> Answer:
    message = (
        f"You have exceeded the rate limit of {state.rate_limit} requests within a {state.rate_window:g} "
        f"second period, and have been timed out for {state.rate_penalty:g} seconds."
    )
    limited = error(version, 429, message, "rate_limit_exceeded")
    return replace(limited, headers={"Retry-After": str(retry_after)})


def _account(state: State) -> dict[str, object]:
    account: dict[str, object] = {
        "id": "user-1234",
        "email": state.email,
        "organizations": [
            {
                "id": name,
                "name": f"Organization {name.removeprefix('org-')}",
                "role": "MEMBER",
                "is_default": name == DEFAULT_ORGANIZATION,
            }
            for name in state.balances()
        ],
    }
    if state.profile_picture is not None:
        account["profile_picture"] = state.profile_picture
    return account
