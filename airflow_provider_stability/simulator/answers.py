"""Answers as the service words them: the bodies of its errors, and what a fault makes of an answer."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.fault import Fault

JSON = "application/json"
ALPHA = "v1alpha"

SERVER_FAULTS = 500
"""From here on a status says that the service is at fault."""

# Names and messages come from the examples of the specification where it has one. It has none for 402, 405
# and 429, nor for what a gateway in between says: those are named in the same manner.
_ERRORS = {
    400: ("bad_request", "the request is not valid"),
    401: ("unauthorized", "missing authorization header"),
    402: ("insufficient_balance", "Your organization does not have enough balance to request this action"),
    403: ("permission_denied", "You do not have permission to access this resource"),
    404: ("not_found", "The requested resource was not found"),
    405: ("method_not_allowed", "The method is not allowed for this resource"),
    500: ("server_error", "An unexpected server error occurred, please try again."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer before it is put on the wire.

    :param headers: all but Content-Length, Date and Connection, which the server adds.
    :param credits: the balance that the body tells, if that is what it does.
    """

    status: int = 200
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    credits: float | None = None


def as_json(value: object, status: int = 200) -> Answer:
    """Return ``value`` as a JSON answer."""
    return Answer(status=status, body=json.dumps(value).encode())


def error(version: str, status: int, message: str | None = None, name: str | None = None) -> Answer:
    """Return an error as that version of the API shapes it.

    :param version: ``v1`` or ``v1alpha``. The latter's bodies say more, and its specification gives them the
        media type of the framework it was made with.
    :param message: for a person; without it the usual one of the status.
    :param name: short name of the class of errors; without it the usual one of the status.
    """
    if status in _ERRORS:
        usual, sentence = _ERRORS[status]
    else:
        phrase = _phrase(status)
        usual, sentence = phrase.lower().replace(" ", "_").replace("-", "_"), phrase
    body: dict[str, object] = {
        "id": str(uuid.uuid4()),
        "name": name or usual,
        "message": message or sentence,
    }
    if version != ALPHA:
        return as_json(body, status)
    body |= {
        "fault": status >= SERVER_FAULTS,
        "temporary": status in (408, 429, 502, 503, 504),
        "timeout": status in (408, 504),
    }
    return replace(as_json(body, status), content_type="application/vnd.goa.error")


def with_fault(answer: Answer, fault: Fault) -> Answer:
    """Return the answer with the status, body and headers the fault wants."""
    if fault.payload is not None:
        answer = Answer(status=fault.status or 200, body=fault.payload)
    if fault.content_type is not None:
        answer = replace(answer, content_type=fault.content_type)
    headers = dict(answer.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    told = None if fault.cut_body else answer.credits
    return replace(answer, headers=headers | (fault.headers or {}), credits=told)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"  # 299 and its like have no phrase, and clients have to stand them too
