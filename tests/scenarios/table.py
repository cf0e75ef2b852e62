"""The scenarios: what the service does over time, and what the task must end as. One table for every path."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from support.scenarios.servers import encrypted, moved, proxied, redirecting, refused, silent, unknown_host
from support.scenarios.stage import simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_stability.simulator import Simulator
    from support.scenarios.stage import Service, Stage

__all__ = ["DIFFERENCES", "PATHS", "TABLE", "Difference", "Scenario", "expected"]

PATHS: Final = ("poke", "reschedule", "deferrable", "zero_worker", "dag_test")
Gate = dict[str, Any]
"""Parameters of the sensor."""

AIRFLOW: Final = ".".join(version("apache-airflow").split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    :param name: what happens, in words.
    :param service: what answers.
    :param gate: parameters of the sensor; by default it needs 40 credits.
    :param state: what the task ends as, after one try.
    :param xcom: what it pushes; None for nothing.
    :param says: patterns that its log must have.
    :param requests: how many the service gets, at least and at most.
    :param pause: seconds between the first and the second request at least.
    :param defers: whether a deferrable gate comes to wait in the triggerer.
    """

    name: str
    service: Service
    gate: Mapping[str, Any] = field(default_factory=dict)
    state: str = "success"
    xcom: float | None = None
    says: tuple[str, ...] = ()
    requests: tuple[int, int]
    pause: float = 0.0
    defers: bool = True

    @property
    def slug(self) -> str:
        """The name as a part of an id."""
        return re.sub(r"\W+", "_", self.name).strip("_").lower()


LITTLE: Final = {"body": '{"credits": 12.5}'}
SHORT: Final = r"12\.5 credits, need 40, short 27\.5"
OPEN: Final = r"52\.5 credits, need 40: open"
UNKNOWN: Final = "could not read the balance"
LAST_BALANCE: Final = r"Last balance, at 20.*12\.5 credits, need 40, short 27\.5"
LAST_ERROR: Final = r"No balance was read\. Last error, at 20"
SOME: Final = (1, 12)  # requests of a wait that ends after WAIT
WAIT: Final[Gate] = {"timeout": 1.5}
SOFT: Final[Gate] = {"soft_fail": True}
RETRIES: Final[Gate] = {"retries": 2}


def opens(name: str, service: Service, *says: str, requests: tuple[int, int], **kwargs: Any) -> Scenario:
    """Return a scenario in which the gate opens."""
    return Scenario(name=name, service=service, xcom=52.5, says=(*says, OPEN), requests=requests, **kwargs)


def passes(name: str, answer: dict[str, Any], *says: str, **kwargs: Any) -> Scenario:
    """Return a scenario with a transient error at the first request."""
    return opens(name, simulator(answer, **kwargs), UNKNOWN, *says, requests=(2, 2))


def never(name: str, service: Service, *says: str, requests: tuple[int, int] = SOME, **gate: Any) -> Scenario:
    """Return a scenario that ends with the timeout."""
    state = "skipped" if gate.get("soft_fail") else "failed"
    return Scenario(name=name, service=service, gate=WAIT | gate, state=state, says=says, requests=requests)


def fails(name: str, service: Service, *says: str, requests: tuple[int, int], **gate: Any) -> Scenario:
    """Return a scenario with a permanent error, which is neither skipped nor retried."""
    return Scenario(name=name, service=service, gate=gate, state="failed", says=says, requests=requests)


def permanent_errors() -> Iterator[Scenario]:
    """Yield a permanent error of each kind, at the first request and during the wait."""
    kinds = {
        401: ("401 unauthorized", "Put a valid API key into the connection"),
        403: ("403 permission_denied", "Check `organization`"),
        404: ("404 not_found", "Check the base URL"),
    }
    at_once: dict[str, Gate] = {"": {}, ", soft_fail": SOFT, ", retries": RETRIES}
    in_the_middle: dict[str, Gate] = {"": {}, ", soft_fail, retries": SOFT | RETRIES}
    for status, says in kinds.items():
        refuses = {"status": status, "times": None}
        for how, gate in at_once.items():
            yield fails(f"{status} at once{how}", simulator(refuses), *says, requests=(1, 1), **gate)
        for how, gate in in_the_middle.items():
            name = f"{status} in the middle{how}"
            yield fails(name, simulator(LITTLE, refuses), SHORT, *says, requests=(2, 2), **gate)


def bodies() -> Iterator[Scenario]:
    """Yield invalid responses with status 200, each once."""
    wrong: dict[str, dict[str, Any]] = {
        "an HTML page": {"body": "<html>Sign in</html>", "content_type": "text/html"},
        "an empty body": {"body": ""},
        "a huge body": {"body": " " * (2 << 20)},
        "a body that unpacks to a huge one": {
            "body": gzip.compress(bytes(16 << 20)),
            "headers": {"Content-Encoding": "gzip"},
        },
        "a list": {"body": "[52.5]"},
        "credits NaN": {"body": '{"credits": NaN}'},
        "credits Infinity": {"body": '{"credits": Infinity}'},
        "credits true": {"body": '{"credits": true}'},
        "credits a string": {"body": '{"credits": "52.5"}'},
    }
    for name, answer in wrong.items():
        yield passes(name, answer)


def rotate(stage: Stage, service: Simulator) -> None:
    """Give the service another key, and the connection too."""
    service.rotate_key(stage.other.key)
    stage.connect(service.base_url, password=stage.other.key)


def revoke(stage: Stage, service: Simulator) -> None:
    """Give the service another key."""
    service.rotate_key(stage.other.key)


def take_away(stage: Stage, service: Simulator) -> None:
    """Revoke the key, and delete the connection."""
    revoke(stage, service)
    stage.disconnect()


def take_for_a_moment(stage: Stage, service: Simulator) -> None:
    """Delete the connection, and bring it back before it is believed to be gone."""
    stage.disconnect()
    stage.later(2.0, lambda: stage.connect(service.base_url))


def spoil(stage: Stage, service: Simulator) -> None:
    """Revoke the key, and leave a connection without one."""
    revoke(stage, service)
    stage.connect(service.base_url, password="")


EVERY_5XX: Final = [{"status": status} for status in (500, 502, 503, 504)]
ENDLESS: Final = {"status": 429, "times": None}
DATE: Final = {"status": 429, "headers": {"Date": formatdate(0, usegmt=True)}}  # counts from the answer's own
INJECTION: Final = "org-a\r\nX-Injected: yes"

TABLE: Final = (
    opens("open at once", simulator(), requests=(1, 1)),
    Scenario(
        name="exactly enough",
        service=simulator(credits=40.0),
        xcom=40.0,
        says=("40 credits, need 40: open",),
        requests=(1, 1),
    ),
    opens("opens later", simulator(LITTLE | {"times": 2}), SHORT, requests=(3, 3)),
    opens(
        "a negative balance",
        simulator({"body": '{"credits": -3}'}),
        "-3 credits, need 40, short 43",
        requests=(2, 2),
    ),
    never("never opens", simulator(credits=12.5), LAST_BALANCE),
    never("never opens, soft_fail", simulator(credits=12.5), LAST_BALANCE, **SOFT),
    never("never opens, retries", simulator(credits=12.5), LAST_BALANCE, **RETRIES),
    never("never opens, soft_fail, retries", simulator(credits=12.5), LAST_BALANCE, **SOFT, **RETRIES),
    *permanent_errors(),
    replace(passes("429 for a second", {"status": 429, "retry_after": 1}), pause=0.99),
    replace(passes("429 until a date", DATE | {"retry_after": formatdate(1, usegmt=True)}), pause=0.99),
    never("429 that names no time", simulator(ENDLESS), "429 too_many_requests", requests=(1, 1)),
    never("429 for years", simulator(ENDLESS | {"retry_after": 10**9}), "429", requests=(1, 1)),
    never(
        "429 until 2999",
        simulator(ENDLESS | {"retry_after": formatdate(32503679999, usegmt=True)}),
        "429",
        requests=(1, 1),
    ),
    never(
        "429 for years, soft_fail",
        simulator(ENDLESS | {"retry_after": 10**9}),
        "429",
        requests=(1, 1),
        **SOFT,
    ),
    never(
        "a balance, then 503 for ever",
        simulator(LITTLE, {"status": 503, "times": None}),
        LAST_BALANCE + r"\. Last error, at 20.*503 service_unavailable",
        requests=(2, 130),
        timeout=25,
    ),
    opens("500, 502, 503, 504 for a while", simulator(*EVERY_5XX), UNKNOWN, requests=(5, 5)),
    never("500, 502, 503, 504 for ever", simulator(*EVERY_5XX * 5), r"Last error, at 20.*: 50\d "),
    *bodies(),
    never("an HTML page for ever", simulator({"body": "<html>", "times": None}), LAST_ERROR),
    passes("a cut body", {"cut_body": True}),
    passes("a reset", {"reset": True}, "reset by peer"),
    never("refused for ever", refused(), LAST_ERROR, "refused", requests=(0, 0)),
    never("a host that is none", unknown_host(), LAST_ERROR, "nonexistent.invalid", requests=(0, 0)),
    never("a server that says nothing", silent(), LAST_ERROR, "within 0.5 s", requests=(0, 0)),
    passes("a request without an answer", {"delay": 60}, "no complete answer within 0.5 s", timeout=0.5),
    passes("a byte a second", {"drip": 1.0}, "no complete answer within 0.5 s", timeout=0.5),
    fails("TLS that is not trusted", encrypted(), "CERTIFICATE_VERIFY_FAILED", requests=(0, 0)),
    fails(
        "TLS that is not trusted, soft_fail",
        encrypted(),
        "CERTIFICATE_VERIFY_FAILED",
        requests=(0, 0),
        **SOFT,
    ),
    opens("a redirect", redirecting(1), UNKNOWN, "302 redirects to 127.0.0.2", requests=(2, 2)),
    never("a redirect for ever", redirecting(None), LAST_ERROR, "302 redirects to 127.0.0.2"),
    never("a redirect to plain http", redirecting(None, to_plain_http=True), LAST_ERROR, "302 redirects"),
    opens("a proxy to https", proxied("https"), requests=(1, 1)),
    opens("a proxy to http", proxied("http"), requests=(1, 1)),
    never(
        "a proxy that refuses",
        proxied("https", answer=b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
        LAST_ERROR,
        "407",
        requests=(0, 0),
    ),
    opens("the key is rotated", simulator(LITTLE, then={1: rotate}), requests=(2, 3)),
    fails("the key is revoked", simulator(LITTLE, then={1: revoke}), SHORT, "401", requests=(2, 2)),
    never(
        "key and connection go",
        simulator(LITTLE, then={1: take_away}),
        SHORT,
        # Or the wait ended with its first poll: on a busy machine the triggerer starts late.
        "was found before, but is not found now|" + LAST_BALANCE,
        requests=(1, 2),
        timeout=25,
    ),
    fails("key and password go", simulator(LITTLE, then={1: spoil}), "password", requests=(1, 2)),
    opens(
        "the connection goes for a moment",
        simulator(LITTLE, then={1: take_for_a_moment}),
        SHORT,
        requests=(2, 2),
    ),
    opens("the connection moves", moved(), SHORT, requests=(2, 3)),
    fails(
        "another's organization",
        simulator(),
        "403 permission_denied",
        requests=(1, 1),
        organization="org-of-others",
    ),
    replace(
        fails(
            "a header in organization",
            simulator(),
            "organization is",
            requests=(0, 0),
            organization=INJECTION,
        ),
        defers=False,
    ),
    fails(
        "a header in the connection's organization",
        simulator(organization=INJECTION),
        "organization",
        requests=(0, 0),
    ),
    fails("a header in the client id", simulator(client_id=INJECTION), "client_id", requests=(0, 0)),
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a cell of the table is another one, and why.

    :param reason: one sentence.
    :param paths: on which paths.
    :param scenarios: in which scenarios.
    :param airflow: on which versions.
    :param instead: what is expected there.
    """

    reason: str
    paths: tuple[str, ...] = PATHS
    scenarios: tuple[str, ...]
    airflow: tuple[str, ...] = ("2.11", "3.3")
    instead: Mapping[str, Any]


DIFFERENCES: Final = (
    Difference(
        reason="On SQLite, Airflow 3 gives a stored 40.0 back as 40, whoever has pushed it.",
        scenarios=("exactly enough",),
        airflow=("3.3",),
        instead={"xcom": 40},
    ),
    Difference(
        reason="Before 3.3 the timeout of a rescheduled task names what its last process found, and no "
        "earlier balance.",
        scenarios=("a balance, then 503 for ever",),
        paths=("reschedule",),
        airflow=("2.11",),
        instead={"says": (SHORT, LAST_ERROR + ".*503 service_unavailable")},
    ),
    Difference(
        reason="Before 3.3 a rescheduled wait ends at once where the service's pause outlasts it: the next "
        "process would not know of it.",
        scenarios=(
            "429 that names no time",
            "429 for years",
            "429 until 2999",
            "429 for years, soft_fail",
        ),
        paths=("reschedule",),
        airflow=("2.11",),
        instead={"says": ("429 too_many_requests", "ending it now, as no request is allowed before then")},
    ),
    Difference(
        reason="Before 3.3 a connection that is not found for 5 s fails a rescheduled task: no process knows "
        "that an earlier one has found it.",
        scenarios=("key and connection go",),
        paths=("reschedule",),
        airflow=("2.11",),
        instead={"says": (SHORT, "it is not defined"), "requests": (1, 1)},
    ),
)


def difference(scenario: Scenario, path: str) -> Difference | None:
    """Return what makes a cell another one on this Airflow."""
    found = [
        each
        for each in DIFFERENCES
        if scenario.name in each.scenarios and path in each.paths and AIRFLOW in each.airflow
    ]
    assert len(found) < 2, scenario.name
    return found[0] if found else None


def expected(scenario: Scenario, path: str) -> Scenario:
    """Return what a cell must be on this Airflow."""
    differs = difference(scenario, path)
    return scenario if differs is None else replace(scenario, **differs.instead)
