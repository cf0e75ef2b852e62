"""Answers, the bodies of the service's errors, and how a fault changes an answer."""

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

SERVER_ERRORS = 500
"""The first status of a server error."""

# Names and messages are those of the specification's examples. It has none for 402, 405 and 429, nor for
# errors of a gateway: their names follow the same pattern.
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
    """An answer before it is sent.

    :param headers: all except Content-Length, Date and Connection, which the server adds.
    :param credits: the balance in the body, if it has one.
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
    """Return an error in the format of an API version.

    :param version: ``v1`` or ``v1alpha``, whose bodies have more fields and, by its specification, the media
        type of the framework that it was built with.
    :param message: text for people; by default that of the status.
    :param name: short name of the kind of error; by default that of the status.
    """
    if status in _ERRORS:
        default_name, default_message = _ERRORS[status]
    else:
        default_message = _phrase(status)
        default_name = default_message.lower().replace(" ", "_").replace("-", "_")
    body: dict[str, object] = {
        "id": str(uuid.uuid4()),
        "name": name or default_name,
        "message": message or default_message,
    }
    if version != ALPHA:
        return as_json(body, status)
    body |= {
        "fault": status >= SERVER_ERRORS,
        "temporary": status in (408, 429, 502, 503, 504),
        "timeout": status in (408, 504),
    }
    return replace(as_json(body, status), content_type="application/vnd.goa.error")


def with_fault(answer: Answer, fault: Fault) -> Answer:
    """Return the answer with the status, body and headers of the fault."""
    if fault.payload is not None:
        answer = Answer(status=fault.status or 200, body=fault.payload)
    if fault.content_type is not None:
        answer = replace(answer, content_type=fault.content_type)
    headers = dict(answer.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    credits_sent = None if fault.cut_body else answer.credits
    return replace(answer, headers=headers | (fault.headers or {}), credits=credits_sent)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"  # such as 299, which has no phrase
