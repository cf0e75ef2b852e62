"""What the service answers to a request, in both versions of its API; no sockets in here.

Facts come from the service's OpenAPI documents, v1 and v1alpha.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator.answers import ALPHA, Answer, as_json, error, with_fault
from airflow_provider_stability.simulator.generation import text_to_image
from airflow_provider_stability.simulator.models import ENGINES
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION, State

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import Arrival

_BEARER = "Bearer "
_GETS = ("user/account", "user/balance", "engines/list")


def version_of(path: str) -> str:
    """Return the API version a path belongs to; v1 where it belongs to none, that being the stable one."""
    return ALPHA if path.startswith(f"/{ALPHA}/") else "v1"


def shown_key(request: RecordedRequest) -> str | None:
    """Return the key that a request shows as its API version wants it; None if it shows none.

    v1 wants ``Bearer`` and the key, v1alpha the key alone, as the code samples of each have it.
    """
    authorization = request.headers.get("Authorization")
    if authorization is None or version_of(request.path) == ALPHA:
        return authorization
    return authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else None


def answer(state: State, request: RecordedRequest, arrival: Arrival) -> Answer:
    """Return the answer to a request, with what its fault makes of it."""
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
        return _too_many(state, version, retry_after)
    engine = _engine(request.path)
    resource = request.path.removeprefix(f"/{version}/")
    if engine is None and resource not in _GETS:
        return error(version, 404)
    allowed = "GET" if engine is None else "POST"
    if request.method != allowed:
        return replace(error(version, 405), headers={"Allow": allowed})
    if shown_key(request) != state.api_key:
        # The specification has a message for a missing header only, and says "missing or invalid" of both.
        absent = not request.headers.get("Authorization")
        return error(version, 401, None if absent else "API key missing or invalid")
    if resource == "user/account":
        return as_json(_account(state))  # not scoped: its specification has no Organization header
    return _scoped(state, request, resource, engine)


def _scoped(state: State, request: RecordedRequest, resource: str, engine: str | None) -> Answer:
    """Return the answer to a request whose Organization header counts."""
    version = version_of(request.path)
    if not state.is_member(request.organization):
        # The specification does not say what a foreign organization gets. Its 403, "you lack the necessary
        # permissions to perform this action", fits: the key is good, but not for that organization.
        return error(version, 403)
    if resource == "user/balance":
        available = state.credits(request.organization)
        return replace(as_json({"credits": available}), credits=available)
    if engine is None:
        # A bare list in v1, an object in v1alpha: the schemas of the two differ.
        return as_json({"engines": ENGINES} if version == ALPHA else ENGINES)
    return text_to_image(state, request, engine)


def _engine(path: str) -> str | None:
    """Return the engine of a text-to-image path; v1alpha's is not served, its users are long gone."""
    match path.split("/"):
        case ["", "v1", "generation", engine, "text-to-image"]:
            return engine
    return None


def _too_many(state: State, version: str, retry_after: int) -> Answer:
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
