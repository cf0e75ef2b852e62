"""``Simulator``, the public class: a ``State`` and the ``Server`` that serves it."""

from __future__ import annotations

import ipaddress
import json
import time
from typing import TYPE_CHECKING, Self

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.fault import Fault
from airflow_provider_stability.simulator.server import Server
from airflow_provider_stability.simulator.state import State

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from airflow_provider_stability.simulator.clock import Clock
    from airflow_provider_stability.simulator.recorded import RecordedRequest

DEFAULT_KEY = "sk-simulator"
"""The default key. It is valid for simulators only, so it is not a secret."""

_PROFILE_PICTURE = "https://api.stability.ai/example.png"


class Simulator:
    """A simulated Stability AI API on loopback, running for the duration of a ``with`` block.

    It follows the OpenAPI documents of v1 and v1alpha: account, balance, list of engines, and in v1 also
    text-to-image, which costs credits. Balances and requests can still be read after the block. All methods
    are thread-safe.

    :param credits: credits of the default organization, ``org-default``; any finite number.
    :param organizations: additional organizations of the account, with their credits.
    :param api_key: the valid key: printable ASCII without whitespace.
    :param port: 0 to 65535; 0 for any free port.
    :param host: a loopback address or ``localhost``.
    :param rate_limit: how many requests one key may send in ``rate_window`` seconds, 1 or more. If it sends
        more, it gets 429 for ``rate_penalty`` seconds. The defaults are those of the live service.
    :param rate_window: in seconds, above 0.
    :param rate_penalty: in seconds, above 0.
    :param cost_per_image: credits that one generated image costs, 0 or more.
    :param ssl_context: a server-side context, to serve https.
    :param email: email address of the account.
    :param profile_picture: URL of the account's picture; None to leave the field out, as the specification
        allows.
    :param on_answer: called with each request in the thread of its connection, before its answer is sent.
    :param clock: the source of time for the rate limit and the recorded requests. Delays of faults take real
        time.
    :raises ValueError: if a value is out of range.
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
        profile_picture: str | None = _PROFILE_PICTURE,
        on_answer: Callable[[RecordedRequest], None] | None = None,
        clock: Clock = time,
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
            clock=clock,
        )
        self._host = host
        self._address = _loopback(host)
        self._requested_port = checks.whole("port", port, low=0, high=65535)
        self._port: int | None = None
        self._ssl_context = ssl_context
        self._on_answer = on_answer
        self._server: Server | None = None

    def __enter__(self) -> Self:
        """Start the simulator; it accepts requests when this returns.

        :raises OSError: if the port is in use.
        :raises RuntimeError: if it is already running.
        """
        if self._server is not None:
            raise RuntimeError("the simulator is already running")
        self._server = Server(
            self._state, self._address, self._requested_port, self._ssl_context, self._on_answer
        )
        self._port = self._server.server_port
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: close all connections, even those with a delayed answer, and end all threads."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def port(self) -> int:
        """The port; it can still be read after the block.

        :raises RuntimeError: if the simulator has not been started.
        """
        if self._port is None:
            raise RuntimeError("the simulator has no port yet; start it in a with statement")
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:40000``: the host of a connection to it."""
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def api_key(self) -> str:
        """The valid key."""
        return self._state.api_key

    def connection(self, **extra: object) -> str:
        """Return an Airflow connection to the simulator as JSON, to set as ``AIRFLOW_CONN_<ID>``.

        :param extra: the connection's extra field.
        """
        return json.dumps(
            {"conn_type": "stability", "host": self.base_url, "password": self.api_key, "extra": extra}
        )

    def credits(self, organization: str | None = None) -> float:
        """Return the credits of an organization.

        :param organization: its id; None for the default one.
        :raises ValueError: if there is no such organization, as ``set_credits`` and ``top_up`` do.
        """
        return self._state.credits(organization)

    def set_credits(self, value: float, organization: str | None = None) -> None:
        """Set the credits of an organization to ``value``, any finite number; below 0 is allowed."""
        self._state.set_credits(value, organization)

    def top_up(self, amount: float, organization: str | None = None) -> None:
        """Add ``amount``, a finite number above 0, to the credits of an organization."""
        self._state.top_up(amount, organization)

    def rotate_key(self, new: str) -> None:
        """Replace the valid key with ``new``; the old one is refused from now on."""
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
        """Make matching requests fail; ``Fault`` documents the parameters. Return the fault.

        If several faults match, the one added first applies until it is used up. Affected requests are still
        recorded and counted against the rate limit; a fault with a status or a body replaces a 429.

        :raises ValueError: if a value is out of range, no effect is set, or there is no such organization.
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
        self._state.add_fault(fault)
        return fault

    def heal(self) -> None:
        """Remove all faults, and reset the rate limit. Answers that are already delayed stay delayed."""
        self._state.heal()

    @property
    def requests(self) -> list[RecordedRequest]:
        """A copy of the requests so far, in the order of arrival, without those to ``/_simulator/``."""
        return self._state.requests()

    def count(self, path: str | None = None, organization: str | None = None) -> int:
        """Return the number of requests.

        :param path: count only requests of exactly this path, such as ``/v1/user/balance``.
        :param organization: count only requests of this organization. Requests without the header belong to
            the default one.
        """
        return self._state.count(path, organization)

    def wait_for_requests(self, count: int, timeout: float, path: str | None = None) -> None:
        """Wait until ``count`` requests have arrived, answered or not.

        :param timeout: how long to wait at most, in seconds.
        :param path: count only requests of exactly this path.
        :raises TimeoutError: if fewer arrived; its message says how many.
        """
        self._state.wait_for_requests(count, timeout, path)

    def reset_requests(self) -> None:
        """Remove the recorded requests; the rate limit still counts them."""
        self._state.reset_requests()


def _loopback(host: str) -> str:
    """Return the address to bind to. It must be loopback, since the control endpoints need no key."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"host is {host!r}; it must be a loopback address, such as 127.0.0.1, ::1 or localhost")
