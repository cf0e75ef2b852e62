"""``scripts/soak``: the command line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import secrets
import signal
import sys
import time
from importlib.metadata import version
from typing import NoReturn

from support.soak.plan import Plan
from support.soak.report import HEAD, faults_of, line, report
from support.soak.run import soak


def main() -> int:
    """Run a soak; 1 where anything is wrong."""
    defaults = Plan(seed=0)
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description="Let gates wait for long on a service that fails at random."
    )
    add = parser.add_argument
    add("--gates", type=int, default=defaults.gates, help="how many wait at any time; default %(default)s")
    add(
        "--minutes",
        type=float,
        default=defaults.seconds / 60,
        help="how long; default %(default)g, at least 1",
    )
    add("--seed", type=int, default=None, help="of all that is random; default: another one each time")
    options = parser.parse_args()
    if options.minutes < 1 or options.gates < 1:
        parser.error("there must be a minute and a gate at least")
    seconds = options.minutes * 60
    plan = dataclasses.replace(
        defaults,
        seed=secrets.randbelow(10**6) if options.seed is None else options.seed,
        gates=options.gates,
        seconds=seconds,
        life=min(defaults.life, seconds / 4),
        warm_up=min(defaults.warm_up, seconds / 4),
        report_every=min(defaults.report_every, seconds / 4),
    )
    signal.signal(signal.SIGTERM, _stop)
    _say(f"Seed {plan.seed}")
    _say(
        f"{plan.gates:,} gates on {plan.organizations} organizations for {options.minutes:g} min, "
        f"Airflow {version('apache-airflow')}, began {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    )
    _say(HEAD)
    result = soak(plan, lambda look: _say(line(look)))
    _say(report(result))
    return 1 if faults_of(result) else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # it talks to a person


def _stop(_number: int, _frame: object) -> NoReturn:
    # Unwinds the stack as Ctrl-C does, so that what was started is ended.
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
