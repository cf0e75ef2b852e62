"""Services other than one simulator: proxies, redirects, untrusted certificates, unreachable hosts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import trustme

from airflow_provider_stability.simulator import Simulator
from support.raw_server import raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.scenarios.stage import Service, Stage

__all__ = [
    "encrypted",
    "moved",
    "proxied",
    "redirecting",
    "refused",
    "silent",
    "unknown_host",
]

API: Final = "api.stability.example"
"""A name that only a proxy knows."""

_PATIENCE: Final = 10.0


@cache
def authority() -> trustme.CA:
    """Return a certificate authority that is not trusted by default."""
    return trustme.CA()


def https(*names: str) -> ssl.SSLContext:
    """Return what serves https under names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    return context


def refused() -> Service:
    """Return a port on which nothing listens."""

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        with socket.socket() as held:  # so that no other process takes it
            held.bind(("127.0.0.1", 0))
            stage.connect(f"http://127.0.0.1:{held.getsockname()[1]}")
            yield

    return serve


def unknown_host() -> Service:
    """Return a host name that does not resolve."""

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        stage.connect("https://nonexistent.invalid")
        yield

    return serve


def silent() -> Service:
    """Return a server that accepts connections and never responds."""

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            stage.connect(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.5)
            yield

    return serve


def encrypted() -> Service:
    """Return a service with an untrusted certificate."""

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        with Simulator(credits=52.5, api_key=stage.canary.key, ssl_context=https("127.0.0.1")) as running:
            stage.simulators.append(running)
            stage.connect(running.base_url)
            yield

    return serve


def redirecting(times: int | None, *, to_plain_http: bool = False) -> Service:
    """Return a service that sends gates elsewhere, to a host that would let them in.

    :param times: how often.
    :param to_plain_http: whether from https to http; else from one host to another.
    """

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            key = stage.canary.key
            context = https("127.0.0.1") if to_plain_http else None
            first = stack.enter_context(Simulator(credits=52.5, api_key=key, ssl_context=context))
            other = stack.enter_context(Simulator(credits=77.5, api_key=key, host="127.0.0.2"))
            first.fail(302, headers={"Location": f"{other.base_url}/v1/user/balance"}, times=times)
            stage.simulators.append(first)
            stage.strays.append(other.count)
            extra: dict[str, Any] = {}
            if to_plain_http:
                extra["verify"] = stack.enter_context(authority().cert_pem.tempfile())
            stage.connect(first.base_url, **extra)
            yield

    return serve


def moved() -> Service:
    """Return a service that refuses the key after a while, as the connection then names another one."""

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        key = stage.canary.key
        with Simulator(credits=52.5, api_key=key) as new:

            def move(_: object) -> None:
                if old.count() == 1:
                    old.rotate_key("sk-another")
                    stage.connect(new.base_url)

            with Simulator(credits=12.5, api_key=key, on_answer=move) as old:
                stage.simulators += [old, new]
                stage.connect(old.base_url)
                yield

    return serve


def proxied(scheme: str, *, answer: bytes | None = None) -> Service:
    """Return a service that only a proxy can reach.

    :param scheme: of the service; with https the proxy must not see the key.
    :param answer: the proxy's own response, instead of forwarding.
    """

    @contextmanager
    def serve(stage: Stage) -> Iterator[None]:
        context = https(API) if scheme == "https" else None
        with (
            Simulator(credits=52.5, api_key=stage.canary.key, ssl_context=context) as running,
            authority().cert_pem.tempfile() as trusted,
            proxy(running.port, answer, stage.tapped if scheme == "https" else []) as url,
        ):
            stage.simulators.append(running)
            # Its password is a secret, too.
            own = url.replace("//", f"//ada:{quote(stage.other.key, safe='')}@")
            stage.connect(f"{scheme}://{API}", proxy=own, verify=trusted, allow_http=scheme == "http")
            yield

    return serve


@contextmanager
def proxy(port: int, answer: bytes | None, seen: list[bytes]) -> Iterator[str]:
    """Run a proxy for one service.

    :param port: the service's.
    :param answer: its own response, instead of forwarding.
    :param seen: takes what was said to the proxy itself.
    """

    def pass_on(connection: socket.socket) -> None:
        head = connection.recv(65536)
        seen.append(head)
        if answer is not None:
            connection.sendall(answer)
            return
        with socket.create_connection(("127.0.0.1", port)) as service:
            if head.startswith(b"CONNECT "):
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                method, url, rest = head.split(b" ", 2)
                service.sendall(b" ".join([method, urlsplit(url).path, rest]))
            back = threading.Thread(target=pump, args=(service, connection), daemon=True)
            back.start()
            pump(connection, service)
            back.join(_PATIENCE)

    with raw_server(pass_on) as url:
        yield url


def pump(source: socket.socket, target: socket.socket) -> None:
    """Forward data until the source ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
