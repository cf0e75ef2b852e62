"""What a fault is: which requests it matches and what it does to their answers."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_stability.simulator import checks

LONGEST = 86400.0
"""The longest delay or drip, in seconds: beyond a day it is a typing mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something to go wrong with the next matching requests.

    Everything that is left out stays as the service would have it: a fault with only ``delay`` answers late,
    but correctly.

    :param status: status to answer with, 200 to 599; the body is an error body of the service unless ``body``
        is given.
    :param retry_after: value of the Retry-After header, sent exactly as given.
    :param delay: seconds to wait before the answer, 0 to 86400.
    :param reset: cut the connection with a TCP reset once the request is read.
    :param cut_body: promise the whole body in Content-Length, send half of it, close.
    :param body: body to answer with instead; with a status of 200 unless ``status`` is given.
    :param content_type: Content-Type of the answer; application/json where ``body`` is given.
    :param headers: further headers; one that the answer has already is replaced.
    :param drip: seconds between single bytes of the whole response, 0 to 86400.
    :param times: how many requests it hits, at least 1; None for all of them until ``heal()``.
    :param path: only requests of exactly this path, such as ``/v1/user/balance``.
    :param organization: only requests of this organization; requests without the header are the default's.
    :raises ValueError: for a value outside of these, or where nothing at all would go wrong.
    """

    status: int | None = None
    retry_after: str | float | None = None
    delay: float | None = None
    reset: bool = False
    cut_body: bool = False
    body: bytes | str | None = None
    content_type: str | None = None
    headers: dict[str, str] | None = None
    drip: float | None = None
    times: int | None = 1
    path: str | None = None
    organization: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could only be a mistake; values also come from JSON, so types are looked at too."""
        for name in ("reset", "cut_body"):
            checks.of_kind(name, getattr(self, name), bool, "true or false")
        if self.status is not None:
            checks.whole("status", self.status, low=200, high=599)
        if self.times is not None:
            checks.whole("times", self.times, low=1)
        for name in ("delay", "drip"):
            if (seconds := getattr(self, name)) is not None and checks.number(name, seconds, low=0) > LONGEST:
                raise ValueError(f"{name} must be at most {LONGEST:g} seconds, not {seconds!r}")
        if self.path is not None and checks.text("path", self.path, example="/v1/user/balance")[0] != "/":
            raise ValueError(f"path must begin with a slash, such as '/v1/user/balance', not {self.path!r}")
        if self.organization is not None:
            checks.text("organization", self.organization, example="org-b")
        self._check_answer()

    def _check_answer(self) -> None:
        if self.body is not None:
            checks.of_kind("body", self.body, (bytes, str), "text or bytes")
        if self.cut_body and self.body is not None and not self.body:
            raise ValueError("body must not be empty with cut_body: there would be nothing to cut")
        if self.content_type is not None:
            checks.text("content_type", self.content_type, example="text/html")
        if isinstance(self.retry_after, str):
            checks.text("retry_after", self.retry_after, example="30")
        elif self.retry_after is not None:
            checks.number("retry_after", self.retry_after)
        if self.headers is not None:
            checks.of_kind("headers", self.headers, dict, "names with their values")
        for name, value in (self.headers or {}).items():
            checks.text("a name in headers", name, example="X-Request-Id")
            checks.text(f"headers[{name!r}]", value, example="42")
        effects = (self.status, self.retry_after, self.delay, self.body, self.content_type, self.drip)
        if not (self.reset or self.cut_body or self.headers) and all(effect is None for effect in effects):
            raise ValueError(
                "a fault needs something to go wrong: one of status, retry_after, delay, reset, cut_body, "
                "body, content_type, headers, drip"
            )

    @property
    def payload(self) -> bytes | None:
        """The body to answer with as bytes, text in UTF-8; None when the service's own is to be sent."""
        return self.body.encode() if isinstance(self.body, str) else self.body
