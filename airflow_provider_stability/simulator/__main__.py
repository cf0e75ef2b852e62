"""The simulator as a program: ``python -m airflow_provider_stability.simulator``."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.simulator import DEFAULT_KEY, Simulator
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.simulator.recorded import RecordedRequest

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Run the simulator until SIGINT or SIGTERM, and return the exit code.

    :param arguments: the command line, without the program's name.
    """
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    organizations = options.pop("organization")
    for name, count in Counter(name for name, _ in organizations).items():
        if count > 1:
            parser.error(f"argument --organization: {name!r} is given {count} times; it must be given once")
    # Blocked before any thread is started, and thus in all threads: signals stay pending until sigwait. A
    # handler could interrupt the main thread anywhere.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    simulator = Simulator(
        **options,
        organizations=dict(organizations),
        on_answer=lambda request: _write(_log_line(simulator, request)),
    )
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(simulator)
        except OSError as error:
            port = options["port"]
            reason = f"port is {port} ({error.strerror}); it must be a free port, or 0 for any"
            parser.error(f"argument --port: {reason}")
        _write(_banner(simulator))
        signal.sigwait(_SIGNALS)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_stability.simulator",
        description="Run a simulated Stability AI API on this machine until Ctrl-C.",
    )
    add = parser.add_argument
    add(
        "--port",
        type=partial(_whole, "port", low=0, high=65535),
        default=0,
        help="port to listen on; default %(default)s, any free port",
    )
    add(
        "--credits",
        type=partial(_number, "credits"),
        default=10.0,
        help="credits of the default organization; default %(default)g",
    )
    add(
        "--organization",
        type=_organization,
        action="append",
        default=[],
        metavar="ID=CREDITS",
        help="an additional organization and its credits, such as org-b=25; may be repeated",
    )
    add("--api-key", type=_key, default=DEFAULT_KEY, help="the valid API key; default %(default)s")
    add(
        "--rate-limit",
        type=partial(_whole, "rate limit", low=1),
        default=150,
        help="requests that one key may send within the rate window; default %(default)s",
    )
    add(
        "--rate-window",
        type=partial(_number, "rate window", above=0),
        default=10.0,
        help="length of the rate window in seconds; default %(default)g",
    )
    add(
        "--rate-penalty",
        type=partial(_number, "rate penalty", above=0),
        default=60.0,
        help="seconds for which a key that exceeds the limit gets 429; default %(default)g",
    )
    add(
        "--cost-per-image",
        type=partial(_number, "cost per image", low=0),
        default=1.0,
        help="credits that one generated image costs; default %(default)g",
    )
    return parser


def _whole(name: str, value: str, **limits: int) -> int:
    number = int(value) if value.isascii() and value.isdigit() else value
    with _argument_error():
        return checks.whole(name, number, **limits)


def _number(name: str, value: str, **limits: float) -> float:
    number: float | str = value
    with contextlib.suppress(ValueError):
        number = float(value)
    with _argument_error():
        return checks.number(name, number, **limits)


def _organization(value: str) -> tuple[str, float]:
    name, equals, balance = value.rpartition("=")
    if not (equals and name and name.isprintable() and name.isascii()) or name == DEFAULT_ORGANIZATION:
        raise argparse.ArgumentTypeError(
            f"organization is {value!r}; it must be ID=CREDITS, such as org-b=25, with an id other than "
            f"{DEFAULT_ORGANIZATION}"
        )
    return name, _number(f"balance of organization {name!r}", balance)


def _key(value: str) -> str:
    with _argument_error():
        return checks.key(value)


@contextlib.contextmanager
def _argument_error() -> Iterator[None]:
    """Turn the error of a check into one that argparse prints."""
    try:
        yield
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _banner(simulator: Simulator) -> str:
    """Return the instructions that are printed at the start; they show no key but the default one."""
    connection = json.loads(simulator.connection())
    note = ""
    if simulator.api_key != DEFAULT_KEY:
        connection["password"] = "THE-API-KEY"  # noqa: S105 - a placeholder for the key
        note = "  (replace THE-API-KEY with the value of --api-key)\n"
    top_up = rf"""r.urlopen('{simulator.base_url}/_simulator/top-up', b'{{\"credits\": 30}}')"""
    return (
        f"Stability AI simulator at {simulator.base_url}\n"
        "Use it in Airflow:\n"
        f"  export AIRFLOW_CONN_STABILITY_DEFAULT={shlex.quote(json.dumps(connection))}\n"
        f"{note}"
        "Add credits:\n"
        f'  python -c "import urllib.request as r; {top_up}"\n'
        "Stop it with Ctrl-C. Requests:\n"
    )


def _log_line(simulator: Simulator, request: RecordedRequest) -> str:
    """Return the log line for a request."""
    organization = request.organization or DEFAULT_ORGANIZATION
    try:
        balance = f"{simulator.credits(organization):.12g}"
    except ValueError:
        balance = "-"
    status = request.status or "reset"
    line = f"{request.method} {request.path} organization={organization} status={status} credits={balance}"
    # The client's input may contain control characters, or the key in the wrong place.
    return "".join(c if " " <= c <= "~" else "?" for c in line).replace(simulator.api_key, "***") + "\n"


def _write(text: str) -> None:
    # In one write, since many threads log requests. A reader that exits early, as `head` does, must not stop
    # the simulator.
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
