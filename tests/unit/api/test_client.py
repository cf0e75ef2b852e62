"""The requests of the client, header by header, and which hosts receive the key."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability import __version__
from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import (
    StabilityError,
    StabilityParameterError,
    StabilityResponseError,
)
from airflow_provider_stability.simulator import RecordedRequest, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_proxy")

KEY = "sk-canary-7HqZw9PLkmXt"
SCOPE = {"organization": "org-b", "client_id": "my great plugin", "client_version": "1.2.1"}
GENERATION = "/v1/generation/stable-diffusion-v1-6/text-to-image"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, credits=7.5, organizations={"org-b": 25.0, "org-c": 3.0}) as running:
        yield running


@pytest.fixture
def other() -> Iterator[Simulator]:
    """Return another host: for a key, another port is one."""
    with Simulator(api_key=KEY) as running:
        yield running


@contextlib.contextmanager
def client(
    simulator: Simulator, *, key: str = KEY, path: str = "", **extra: Any
) -> Iterator[StabilityClient]:
    settings = Settings.parse("c", password=key, host=simulator.base_url + path, extra=extra)
    with contextlib.closing(StabilityClient(settings, max_retries=0)) as made:
        yield made


def headers(request: RecordedRequest) -> dict[str, str]:
    """Return all headers of a request but the two that say how it travels."""
    found = {name: value for name, value in request.headers.items() if name != "Authorization"}
    return {name: value for name, value in found.items() if name not in {"Accept-Encoding", "Connection"}}


def authorization(simulator: Simulator) -> list[str | None]:
    return [request.headers.get("Authorization") for request in simulator.requests]


def basic(simulator: Simulator) -> dict[str, str]:
    return {
        "Host": f"127.0.0.1:{simulator.port}",
        "User-Agent": f"airflow-provider-stability/{__version__}",
        "Accept": "application/json",
    }


ORGANIZATION = {"Organization": "org-b"}
CLIENT = {"Stability-Client-ID": "my great plugin", "Stability-Client-Version": "1.2.1"}


@pytest.mark.parametrize(
    ("path", "extra", "argument", "scope"),
    [
        ("/v1/user/account", {}, None, {}),
        ("/v1/user/account", SCOPE, None, {}),
        ("/v1/user/balance", {}, None, {}),
        ("/v1/user/balance", SCOPE, None, ORGANIZATION | CLIENT),
        ("/v1/user/balance", SCOPE, "org-c", {"Organization": "org-c"} | CLIENT),
        ("/v1/user/balance", {}, "org-c", {"Organization": "org-c"}),
        (
            "/v1/user/balance",
            {"client_id": "my great plugin"},
            None,
            {"Stability-Client-ID": "my great plugin"},
        ),
        ("/v1/user/balance", {"client_version": "1.2.1"}, None, {"Stability-Client-Version": "1.2.1"}),
        ("/v1alpha/user/account", {}, None, {}),
        ("/v1alpha/user/account", SCOPE, None, {}),
        ("/v1alpha/user/balance", {}, None, {}),
        ("/v1alpha/user/balance", SCOPE, None, ORGANIZATION),
        ("/v1alpha/user/balance", SCOPE, "org-c", {"Organization": "org-c"}),
    ],
)
def test_request_has_exactly_the_headers_of_the_specification(
    simulator: Simulator,
    path: str,
    extra: dict[str, str],
    argument: str | None,
    scope: dict[str, str],
) -> None:
    version = path.split("/")[1]
    with client(simulator, api_version=version, **extra) as asking:
        if path.endswith("account"):
            asking.get_account()
        else:
            asking.get_balance(argument)
    (request,) = simulator.requests
    assert (request.method, request.path, request.body) == ("GET", path, b"")
    assert headers(request) == basic(simulator) | scope
    assert authorization(simulator) == [KEY if version == "v1alpha" else f"Bearer {KEY}"]


@pytest.mark.parametrize(("version", "sent"), [("v1", f"Bearer {KEY}"), ("v1alpha", KEY)])
def test_bearer_prefix_of_the_key_is_sent_only_if_the_version_wants_it(
    simulator: Simulator, version: str, sent: str
) -> None:
    with client(simulator, key=f" Bearer {KEY}\n", api_version=version) as asking:
        asking.get_balance()
    assert authorization(simulator) == [sent]


@pytest.mark.parametrize(
    ("extra", "argument", "credits_"),
    [({}, None, 7.5), ({"organization": "org-b"}, None, 25.0), ({"organization": "org-b"}, "org-c", 3.0)],
)
def test_balance_is_of_the_requested_organization(
    simulator: Simulator, extra: dict[str, str], argument: str | None, credits_: float
) -> None:
    with client(simulator, **extra) as asking:
        assert asking.get_balance(argument).credits == credits_


@pytest.mark.parametrize("organization", ["", " ", "org b", "org-b\r\nX-Evil: 1"])
def test_invalid_organization_is_refused_without_a_request(simulator: Simulator, organization: str) -> None:
    with client(simulator) as asking, pytest.raises(StabilityParameterError):
        asking.get_balance(organization)
    assert simulator.count() == 0


def test_account_keeps_unknown_fields(simulator: Simulator) -> None:
    simulator.fail(
        body='{"id": "user-1", "email": "a@b", "plan": {"x": 1}, "organizations": '
        '[{"id": "org-1", "name": "N", "role": "MEMBER", "is_default": true, "seats": 3}]}'
    )
    with client(simulator) as asking:
        account = asking.get_account()
    assert account.to_dict() == {
        "id": "user-1",
        "email": "a@b",
        "plan": {"x": 1},
        "organizations": [
            {"id": "org-1", "name": "N", "role": "MEMBER", "is_default": True, "seats": 3},
        ],
    }


def test_balance_may_have_unknown_fields(simulator: Simulator) -> None:
    simulator.fail(body='{"credits": 4, "currency": "credits", "expires": null}')
    with client(simulator) as asking:
        assert asking.get_balance().credits == 4.0


@pytest.mark.parametrize("prefix", ["", "/", "/gateway", "/gate/way/"])
@pytest.mark.parametrize("endpoint", ["/v1/x", "v1/x", "/v1/x?a=1"])
def test_path_of_the_base_url_precedes_every_endpoint(
    simulator: Simulator, prefix: str, endpoint: str
) -> None:
    simulator.fail(body='{"credits": 1}', times=None)
    with client(simulator, path=prefix) as asking:
        asking.get_balance()
        asking.run(endpoint)
    before = prefix.rstrip("/")
    assert [each.path for each in simulator.requests] == [f"{before}/v1/user/balance", f"{before}/v1/x"]


def test_calls_share_one_tcp_connection_even_after_errors() -> None:
    threads: list[threading.Thread] = []  # of the simulator: it has one for each connection
    with (
        Simulator(api_key=KEY, on_answer=lambda _: threads.append(threading.current_thread())) as simulator,
        client(simulator) as asking,
    ):
        asking.get_account()
        for status in (401, 404, 429, 503, 302):
            simulator.fail(status)
            with pytest.raises(StabilityError):
                asking.get_balance()
        simulator.fail(body="<html>")
        with pytest.raises(StabilityResponseError):
            asking.get_balance()
        asking.run("/v1/engines/list")
        asking.get_balance("org-default")
        asking.session.get(f"{simulator.base_url}/v1/engines/list")
    assert len(threads) == 10
    assert len(set(threads)) == 1


def test_closed_client_can_be_used_again(simulator: Simulator) -> None:
    with client(simulator) as asking:
        asking.close()
        assert asking.get_balance().credits == 7.5


def test_run_sends_its_arguments_and_returns_the_whole_response(simulator: Simulator) -> None:
    with client(simulator, **SCOPE) as asking:
        answer = asking.run(
            GENERATION, "post", json={"text_prompts": [{"text": "a lighthouse"}]}, headers={"X-Trace": "7"}
        )
    (request,) = simulator.requests
    assert (request.method, request.path) == ("POST", GENERATION)
    assert request.body == b'{"text_prompts": [{"text": "a lighthouse"}]}'
    assert headers(request) == basic(simulator) | ORGANIZATION | CLIENT | {
        "X-Trace": "7",
        "Content-Type": "application/json",
        "Content-Length": str(len(request.body)),
    }
    assert type(answer) is requests.Response
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert list(answer.json()) == ["artifacts"]
    assert simulator.credits("org-b") == 24.0


def test_headers_of_run_override_the_connections_but_not_its_key(simulator: Simulator) -> None:
    with client(simulator, **SCOPE) as asking:
        asking.run(
            "v1/engines/list",
            headers={"Organization": "org-c", "Stability-Client-ID": None, "Authorization": "Bearer mine"},
        )
    (request,) = simulator.requests
    assert headers(request) == basic(simulator) | {
        "Organization": "org-c",
        "Stability-Client-Version": "1.2.1",
    }
    assert authorization(simulator) == [f"Bearer {KEY}"]


def test_run_with_stream_leaves_the_body_to_the_caller(simulator: Simulator) -> None:
    with client(simulator) as asking:
        answer = asking.run("/v1/engines/list", stream=True)
        assert answer.raw.read(1) == b"["
        answer.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://evil.example/v1/x", "http://127.0.0.1/v1", "//evil.example/v1", "HTTPS:evil.example"),
        *(" https://evil.example", "file:///etc/passwd", "javascript:x", "//user@evil.example/"),
        *("", "/", "///", " ", "//[", "http://["),
    ],
)
def test_run_refuses_an_endpoint_that_is_not_a_path(simulator: Simulator, endpoint: str) -> None:
    with client(simulator) as asking, pytest.raises(StabilityParameterError) as caught:
        asking.run(endpoint)
    assert str(caught.value).startswith(f"endpoint is {endpoint!r}; it must be a path below ")
    assert simulator.count() == 0


@pytest.mark.parametrize(
    "endpoint", ["@evil.example/", ":80@evil.example/x", "\\\\evil.example\\x", "/.evil"]
)
def test_no_endpoint_changes_the_host(simulator: Simulator, endpoint: str) -> None:
    with client(simulator) as asking, contextlib.suppress(StabilityError):
        asking.run(endpoint)
    assert simulator.count() == 1


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_session_does_not_send_the_key_to_another_host(
    simulator: Simulator, other: Simulator, version: str
) -> None:
    with client(simulator, api_version=version) as asking:
        asking.session.get(f"{other.base_url}/{version}/engines/list")
        asking.session.get(f"{simulator.base_url}/{version}/engines/list")
    assert authorization(other) == [None]
    assert [request.status for request in simulator.requests] == [200]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_followed_redirect_to_another_host_does_not_carry_the_key(
    simulator: Simulator, other: Simulator, version: str
) -> None:
    simulator.fail(302, headers={"Location": f"{other.base_url}/{version}/engines/list"}, times=2)
    with client(simulator, api_version=version) as asking:
        asking.session.get(f"{simulator.base_url}/{version}/engines/list")
        with contextlib.suppress(StabilityError):
            asking.run(f"/{version}/engines/list", allow_redirects=True)
    assert authorization(other) == [None, None]
    assert [request.headers.get("Authorization") is not None for request in simulator.requests] == [
        True,
        True,
    ]


def netrc(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    file = folder / "netrc"
    file.write_text("machine 127.0.0.1 login ada password hunter2\ndefault login ada password hunter2\n")
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.parametrize(("version", "sent"), [("v1", f"Bearer {KEY}"), ("v1alpha", KEY)])
def test_netrc_does_not_replace_the_key(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, sent: str
) -> None:
    netrc(monkeypatch, tmp_path)
    with client(simulator, api_version=version) as asking:
        asking.get_balance()
        asking.session.get(f"{simulator.base_url}/{version}/engines/list")
    assert authorization(simulator) == [sent, sent]


def test_netrc_does_not_replace_the_key_on_a_redirect_within_the_host(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc(monkeypatch, tmp_path)
    simulator.fail(302, headers={"Location": "/v1/engines/list"})
    with client(simulator) as asking:
        asking.session.get(f"{simulator.base_url}/v1/old/list")
    assert authorization(simulator) == [f"Bearer {KEY}", f"Bearer {KEY}"]


def test_base_url_in_upper_case_receives_the_key(simulator: Simulator) -> None:
    settings = Settings.parse("c", password=KEY, host=f"HTTP://LocalHost:{simulator.port}")
    with contextlib.closing(StabilityClient(settings, max_retries=0)) as asking:
        assert asking.get_balance().credits == 7.5
