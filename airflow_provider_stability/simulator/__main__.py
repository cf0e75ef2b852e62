"""The simulator as a program: ``python -m airflow_provider_stability.simulator``."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_stability.simulator import checks
from airflow_provider_stability.simulator.simulator import DEFAULT_KEY, Simulator
from airflow_provider_stability.simulator.state import DEFAULT_ORGANIZATION

if TYPE_CHECKING:
    from airflow_provider_stability.simulator.recorded import RecordedRequest

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code.

    :param arguments: of the command line, without the program's name.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    names = [name for name, _ in options.organization]
    for name in names:
        if names.count(name) > 1:
            parser.error(f"argument --organization: {name!r} is given more than once; once is allowed")
    # Blocked here, before any thread, and so in all threads: they wait until sigwait asks for them. A handler
    # would run in the midst of whatever the main thread is doing.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    simulator = Simulator(
        credits=options.credits,
        organizations=dict(options.organization),
        api_key=options.api_key,
        port=options.port,
        rate_limit=options.rate_limit,
        rate_window=options.rate_window,
        rate_penalty=options.rate_penalty,
        cost_per_image=options.cost_per_image,
        on_answer=lambda request: _say(_line(simulator, request)),
    )
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(simulator)
        except OSError as problem:
            reason = f"{options.port} cannot be used ({problem.strerror}); 0 takes any free port"
            parser.error(f"argument --port: {reason}")
        _say(_banner(simulator))
        signal.sigwait(_SIGNALS)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_stability.simulator",
        description="Serve a simulated Stability AI API on this machine, until Ctrl-C.",
    )
    add = parser.add_argument
    add(
        "--port",
        type=partial(_whole, "the port", 0, 65535),
        default=0,
        help="port to serve on; 0, the default: any",
    )
    add("--credits", type=_number, default=10.0, help="credits of the default organization; default 10")
    add(
        "--organization",
        type=_organization,
        action="append",
        default=[],
        metavar="ID=CREDITS",
        help="a further organization and its credits, such as org-b=25; may be repeated",
    )
    add("--api-key", type=_key, default=DEFAULT_KEY, help=f"the key it lets in; default {DEFAULT_KEY}")
    add(
        "--rate-limit",
        type=partial(_whole, "the rate limit", 1, None),
        default=150,
        help="requests of one key in a window before its time-out; default 150",
    )
    add(
        "--rate-window",
        type=partial(_number, above=0),
        default=10.0,
        help="seconds of that window; default 10",
    )
    add(
        "--rate-penalty",
        type=partial(_number, above=0),
        default=60.0,
        help="seconds of the time-out; default 60",
    )
    add(
        "--cost-per-image",
        type=partial(_number, low=0),
        default=1.0,
        help="credits that an image takes; default 1",
    )
    return parser


def _whole(name: str, low: int, high: int | None, value: str) -> int:
    try:
        return checks.whole(
            name, int(value) if value.isascii() and value.isdigit() else value, low=low, high=high
        )
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _number(value: str, *, low: float | None = None, above: float | None = None) -> float:
    try:
        number: float | str = float(value)
    except ValueError:
        number = value
    try:
        return checks.number("it", number, low=low, above=above)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _organization(value: str) -> tuple[str, float]:
    name, equals, balance = value.rpartition("=")
    if not (equals and name and name.isprintable() and name.isascii()) or name == DEFAULT_ORGANIZATION:
        raise argparse.ArgumentTypeError(
            f"it must be ID=CREDITS, such as org-b=25, with an id other than {DEFAULT_ORGANIZATION}, "
            f"not {value!r}"
        )
    return name, _number(balance)


def _key(value: str) -> str:
    try:
        return checks.key(value)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _banner(simulator: Simulator) -> str:
    """Return what a person needs to begin with; only the default key is shown, being no secret."""
    connection = json.loads(simulator.connection())
    note = ""
    if simulator.api_key != DEFAULT_KEY:
        connection["password"] = "THE-API-KEY"  # noqa: S105 - a placeholder, in order not to print the key
        note = "  (put what you gave as --api-key in the place of THE-API-KEY)\n"
    top_up = rf"""r.urlopen('{simulator.base_url}/_simulator/top-up', b'{{\"credits\": 30}}')"""
    return (
        f"Stability AI simulator at {simulator.base_url}\n"
        "Use it:\n"
        f"  export AIRFLOW_CONN_STABILITY_DEFAULT={shlex.quote(json.dumps(connection))}\n"
        f"{note}"
        "Top up the credits:\n"
        f'  python -c "import urllib.request as r; {top_up}"\n'
        "Stop it with Ctrl-C. Requests:\n"
    )


def _line(simulator: Simulator, request: RecordedRequest) -> str:
    """Return the log line of a request."""
    organization = request.organization or DEFAULT_ORGANIZATION
    try:
        balance = f"{simulator.credits(organization):.12g}"
    except ValueError:
        balance = "-"
    status = request.status or "reset"
    line = f"{request.method} {request.path} organization={organization} status={status} credits={balance}"
    # What a client sends is not to be trusted: it may hold control characters, or the key in a wrong place.
    return "".join(c if " " <= c <= "~" else "?" for c in line).replace(simulator.api_key, "***") + "\n"


def _say(text: str) -> None:
    # In one write, since requests are logged from many threads. A reader that went away, as `head` does, must
    # not take the service down.
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
