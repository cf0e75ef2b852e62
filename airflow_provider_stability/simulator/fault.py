"""Faults: which requests one matches, and what it does to their answers."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_stability.simulator import checks

MAX_SECONDS = 86400.0
"""The longest delay or drip. More than a day is a typing error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next matching requests.

    Whatever is not set stays as the service would answer: a fault with only ``delay`` answers late, but
    correctly.

    :param status: status of the answer, 200 to 599. The body is the service's error body, unless ``body`` is
        set.
    :param retry_after: value of the Retry-After header, sent exactly as given.
    :param delay: seconds to wait before the answer, 0 to 86400.
    :param reset: reset the TCP connection once the request has been read.
    :param cut_body: announce the whole body in Content-Length, send half of it, and close.
    :param body: body of the answer; its status is 200, unless ``status`` is set.
    :param content_type: Content-Type of the answer; application/json if ``body`` is set.
    :param headers: additional headers; each replaces the answer's own header of that name.
    :param drip: seconds between the single bytes of the whole response, 0 to 86400.
    :param times: how many requests are affected, 1 or more; None for all of them until ``heal()``.
    :param path: affect only requests of exactly this path, such as ``/v1/user/balance``.
    :param organization: affect only requests of this organization. Requests without the header belong to the
        default one.
    :raises ValueError: if a value is out of range, or no effect is set.
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
        """Check values and types, since values also come from JSON."""
        for name in ("reset", "cut_body"):
            checks.of_type(name, getattr(self, name), bool, "true or false")
        if self.status is not None:
            checks.whole("status", self.status, low=200, high=599)
        if self.times is not None:
            checks.whole("times", self.times, low=1)
        for name in ("delay", "drip"):
            if (seconds := getattr(self, name)) is not None:
                checks.number(name, seconds, low=0, high=MAX_SECONDS)
        if self.path is not None and checks.text("path", self.path, example="/v1/user/balance")[0] != "/":
            raise ValueError(f"path is {self.path!r}; it must start with a slash, such as '/v1/user/balance'")
        if self.organization is not None:
            checks.text("organization", self.organization, example="org-b")
        self._check_answer()

    def _check_answer(self) -> None:
        if self.body is not None:
            checks.of_type("body", self.body, (bytes, str), "text or bytes")
        if self.cut_body and self.body is not None and not self.body:
            raise ValueError(f"body is {self.body!r}; it must be one byte or more if cut_body is set")
        if self.content_type is not None:
            checks.text("content_type", self.content_type, example="text/html")
        if isinstance(self.retry_after, str):
            checks.text("retry_after", self.retry_after, example="30")
        elif self.retry_after is not None:
            checks.number("retry_after", self.retry_after)
        if self.headers is not None:
            checks.of_type("headers", self.headers, dict, "an object of names and values")
        for name, value in (self.headers or {}).items():
            checks.text("a header name", name, example="X-Request-Id")
            checks.text(f"headers[{name!r}]", value, example="42")
        effects = (self.status, self.retry_after, self.delay, self.body, self.content_type, self.drip)
        if not (self.reset or self.cut_body or self.headers) and all(effect is None for effect in effects):
            raise ValueError(
                "the fault is without effect; it must be given at least one of status, retry_after, delay, "
                "reset, cut_body, body, content_type, headers, drip"
            )

    @property
    def payload(self) -> bytes | None:
        """The body of the answer as bytes, text in UTF-8; None to send the service's own."""
        return self.body.encode() if isinstance(self.body, str) else self.body
