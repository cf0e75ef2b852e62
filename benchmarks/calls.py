"""The cost of reading the balance once, compared with plain ``requests`` and ``HttpHook``.

Measured with hooks that are reused, as this package's poller reuses its client, and with a new hook for each
call, as the sensors of both packages create one for each poke.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.support.processes import airflow_environment, end_on_sigterm
from benchmarks.support.service import KEY, Service
from benchmarks.support.tables import Bars, machine, median, number, percentile, ratio, show, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OURS, _BARE, _HTTP_HOOK = "StabilityHook.get_balance", "requests.Session.get", "HttpHook.run"
_OURS_NEW, _HTTP_HOOK_NEW = "StabilityHook.get_balance, new hook", "HttpHook.run, new hook"
_REUSED = (_OURS, _BARE, _HTTP_HOOK)
_NEW = (_OURS_NEW, _HTTP_HOOK_NEW)
_WARM_UP = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks/run calls", description=__doc__)
    parser.add_argument(
        "--calls", type=int, default=400, help="calls of each in a round; default %(default)s"
    )
    parser.add_argument("--tls-calls", type=int, default=100, help="the same over TLS; default %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=5, help="the median of all rounds counts; default %(default)s"
    )
    options = parser.parse_args(arguments)
    end_on_sigterm()
    show(machine())
    bars = Bars()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.environ.update(airflow_environment(folder))
        for name in (
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ):  # would replace the bundle that requests gets here
            os.environ.pop(name, None)
        _http(options, bars)
        _https(options, Path(folder), bars)
    bars.show()
    return 0 if bars.all_met else 1


def _http(options: argparse.Namespace, bars: Bars) -> None:
    with Service(is_limited=False) as service:
        medians = _compare("http", service, None, options.calls, options.rounds)
    bars.at_most("http, p50 against requests.Session.get", medians[_BARE], 1.15, " x")
    bars.at_most("http, p50 against HttpHook.run, new hook", medians[_HTTP_HOOK_NEW], 0.6, " x")


def _https(options: argparse.Namespace, folder: Path, bars: Bars) -> None:
    import certifi
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    # Added to the default bundle of requests: reading it all is most of the cost of a new session.
    bundle = Path(certifi.where()).read_bytes() + authority.cert_pem.bytes()
    (folder / "authorities.pem").write_bytes(bundle)
    with Service(is_limited=False, certificate=folder / "server.pem") as service:
        verify = str(folder / "authorities.pem")
        medians = _compare("TLS", service, verify, options.tls_calls, options.rounds)
    bars.at_most("TLS, p50 against requests.Session.get", medians[_BARE], 1.15, " x")
    bars.at_most("TLS, p50 against HttpHook.run, new hook", medians[_HTTP_HOOK_NEW], 0.08, " x")


def _compare(
    wire: str, service: Service, verify: str | None, calls: int, rounds: int
) -> dict[str, float | None]:
    """Measure, print, and return the p50 of ours relative to each."""
    callers = _callers(service.base_url, verify)
    for call in callers.values():
        for _ in range(_WARM_UP):
            call()
    by_round = [_one_round(callers, calls) for _ in range(rounds)]
    rows = []
    ratios: dict[str, float | None] = {}
    for name in callers:
        ratios[name] = median(times[_OURS][0] / times[name][0] for times in by_round)
        p50, p90 = (median(times[name][which] for times in by_round) for which in (0, 1))
        compared = "" if name == _OURS else ratio(ratios[name], 1.0)
        rows.append([name, number((p50 or 0) * 1e3), number((p90 or 0) * 1e3), compared])
    show(f"\nOne balance over {wire} on loopback, {rounds} rounds of {calls} calls of each, interleaved:\n")
    show(table([wire, "p50, ms", "p90, ms", "ours is (p50)"], rows))
    return ratios


def _one_round(callers: dict[str, Callable[[], object]], calls: int) -> dict[str, tuple[float, float]]:
    times: dict[str, list[float]] = {name: [] for name in callers}
    gc.collect()
    # Callers that reuse their connection are measured apart from the others: the garbage of a whole CA bundle
    # would be collected during the next call, of another caller.
    for names in (_REUSED, _NEW):
        order = list(names)
        for _ in range(calls):
            random.shuffle(order)  # so that none always follows the same other
            for name in order:
                start = time.perf_counter()
                callers[name]()
                times[name].append(time.perf_counter() - start)
    return {name: (percentile(each, 0.5), percentile(each, 0.9)) for name, each in times.items()}


def _callers(base_url: str, verify: str | None) -> dict[str, Callable[[], object]]:
    """Return the callers to compare; each may reuse what it creates here."""
    import requests

    from airflow_provider_stability.hooks.stability import StabilityHook

    trusted = {} if verify is None else {"verify": verify}
    headers = {"Authorization": f"Bearer {KEY}"}
    os.environ["AIRFLOW_CONN_STABILITY_DEFAULT"] = json.dumps(
        {"conn_type": "stability", "host": base_url, "password": KEY, "extra": trusted}
    )
    os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = json.dumps(
        {"conn_type": "http", "host": base_url, "extra": {**headers, **trusted}}
    )
    ours = StabilityHook()
    session = requests.Session()
    session.headers.update(headers)
    session.verify = True if verify is None else verify
    # Not installed where types are checked.
    http_hook_class: Any = import_module("airflow.providers.http.hooks.http").HttpHook
    http_hook = http_hook_class(method="GET")
    url = f"{base_url}/v1/user/balance"

    def ours_new() -> object:
        with StabilityHook() as hook:
            return hook.get_balance()

    return {
        _OURS: ours.get_balance,
        _BARE: lambda: session.get(url, timeout=30),
        _HTTP_HOOK: lambda: http_hook.run("/v1/user/balance"),
        _OURS_NEW: ours_new,
        _HTTP_HOOK_NEW: lambda: http_hook_class(method="GET").run("/v1/user/balance"),
    }


if __name__ == "__main__":
    sys.exit(main())
