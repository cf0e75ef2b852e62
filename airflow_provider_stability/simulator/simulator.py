"""``Simulator``, what people use: a ``State`` and the ``Server`` that serves it, under one roof."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Self

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.server import Server
from airflow_provider_stability.simulator.state import State

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from airflow_provider_stability.simulator.recorded import RecordedRequest

DEFAULT_KEY = "sk-simulator"
"""The key a simulator lets in unless told otherwise; it opens nothing else, so it is no secret."""

_PICTURE = "https://api.stability.ai/example.png"


class Simulator:
    """A Stability AI API of one's own, on loopback, for as long as the ``with`` block lasts.

    It answers as the OpenAPI documents of v1 and v1alpha say: account, balance, list of engines, and in v1
    also text-to-image, which takes credits. Balances and requests stay readable after the block. All methods
    may be called from any thread.

    :param credits: credits of the default organization, ``org-default``.
    :param organizations: further organizations of the account, with their credits.
    :param api_key: the key it lets in.
    :param port: 0 for any free one.
    :param host: a loopback address or ``localhost``.
    :param rate_limit: requests that one key may send in ``rate_window`` seconds, at least 1. One more, and
        the key gets 429 for ``rate_penalty`` seconds. The defaults are those of the live service.
    :param cost_per_image: credits that one generated image takes, 0 or more.
    :param ssl_context: a server side context, to serve https.
    :param email: of the account.
    :param profile_picture: URL in the account; None for an account without one.
    :param on_answer: called with each request once its answer is decided, in the thread of its connection.
    :raises ValueError: for a value outside of these, naming it and what is allowed.
    """

    def __init__(
        self,
        *,
        credits: float = 10.0,  # noqa: A002 - the service's own word
        organizations: Mapping[str, float] | None = None,
        api_key: str = DEFAULT_KEY,
        port: int = 0,
        host: str = "127.0.0.1",
        rate_limit: int = 150,
        rate_window: float = 10.0,
        rate_penalty: float = 60.0,
        cost_per_image: float = 1.0,
        ssl_context: ssl.SSLContext | None = None,
        email: str = "ada@example.com",
        profile_picture: str | None = _PICTURE,
        on_answer: Callable[[RecordedRequest], None] | None = None,
    ) -> None:
        self._state = State(
            credits=credits,
            organizations=organizations,
            api_key=api_key,
            rate_limit=rate_limit,
            rate_window=rate_window,
            rate_penalty=rate_penalty,
            cost_per_image=cost_per_image,
            email=email,
            profile_picture=profile_picture,
        )
        self._host = host
        self._address = _loopback(host)
        self._wanted_port = checks.whole("port", port, low=0, high=65535)
        self._port: int | None = None
        self._ssl_context = ssl_context
        self._on_answer = on_answer
        self._server: Server | None = None

    def __enter__(self) -> Self:
        """Start to serve; the simulator can be reached as soon as this returns.

        :raises OSError: if the port is taken.
        :raises RuntimeError: if it serves already.
        """
        if self._server is not None:
            raise RuntimeError("this simulator serves already")
        self._server = Server(
            self._state, self._address, self._wanted_port, self._ssl_context, self._on_answer
        )
        self._port = self._server.server_port
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: cut each connection, also one whose answer is held back, and leave no thread behind."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def port(self) -> int:
        """The port it serves on; after the block, the one it served on.

        :raises RuntimeError: before the block, when there is none yet.
        """
        if self._port is None:
            raise RuntimeError("this simulator has no port yet: use it in a with statement")
        return self._port

    @property
    def base_url(self) -> str:
        """Where it serves, such as ``http://127.0.0.1:40000``: what to set as the host of a connection."""
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def api_key(self) -> str:
        """The key it lets in."""
        return self._state.api_key

    def connection(self, **extra: object) -> str:
        """Return the JSON of an Airflow connection to it, to set as ``AIRFLOW_CONN_<ID>``.

        :param extra: what the connection's extra field holds.
        """
        return json.dumps(
            {"conn_type": "stability", "host": self.base_url, "password": self.api_key, "extra": extra}
        )

    def credits(self, organization: str | None = None) -> float:
        """Return the credits of an organization, of the default one without a name.

        :raises ValueError: if there is no such organization; so do the two methods below.
        """
        return self._state.credits(organization)

    def set_credits(self, value: float, organization: str | None = None) -> None:
        """Set the credits of an organization to ``value``, any finite number; below 0 is allowed."""
        self._state.set_credits(value, organization)

    def top_up(self, amount: float, organization: str | None = None) -> None:
        """Add ``amount``, a finite number above 0, to the credits of an organization."""
        self._state.top_up(amount, organization)

    def rotate_key(self, new: str) -> None:
        """Let in ``new`` from now on and refuse the key before it."""
        self._state.rotate_key(new)

    def fail(
        self,
        status: int | None = None,
        *,
        retry_after: str | float | None = None,
        delay: float | None = None,
        reset: bool = False,
        cut_body: bool = False,
        body: bytes | str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        drip: float | None = None,
        times: int | None = 1,
        path: str | None = None,
        organization: str | None = None,
    ) -> Fault:
        """Let matching requests go wrong; ``Fault`` says what each parameter does. Return the fault.

        Of several that match, the one added first strikes until it is used up. Requests that are hit are
        still recorded and counted against the rate limit; a fault with a status or a body hides a time-out.
        """
        fault = Fault(
            status=status,
            retry_after=retry_after,
            delay=delay,
            reset=reset,
            cut_body=cut_body,
            body=body,
            content_type=content_type,
            headers=None if headers is None else dict(headers),
            drip=drip,
            times=times,
            path=path,
            organization=organization,
        )
        self._state.arm(fault)
        return fault

    def heal(self) -> None:
        """Drop all faults and the time-out of the rate limit; what is held back already stays so."""
        self._state.heal()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far in the order they came, a copy; those of /_simulator/ are left out."""
        return self._state.requests()

    def count(self, path: str | None = None, organization: str | None = None) -> int:
        """Return how many requests came.

        :param path: only those of exactly this path, such as ``/v1/user/balance``.
        :param organization: only those of this organization; requests that name none are the default's.
        """
        return self._state.count(path, organization)

    def wait_for_requests(self, count: int, timeout: float, path: str | None = None) -> None:
        """Return as soon as ``count`` requests have come, answered or not.

        :param timeout: seconds to wait at most.
        :param path: count only requests of exactly this path.
        :raises TimeoutError: if fewer came; it says how many.
        """
        self._state.wait_for_requests(count, timeout, path)

    def reset_requests(self) -> None:
        """Forget the requests so far; the rate limit still counts them."""
        self._state.reset_requests()


def _loopback(host: str) -> str:
    """Return the address to bind to; only this machine may reach a service whose control has no key."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"host must be a loopback address: 127.0.0.1, ::1 or localhost, not {host!r}")
