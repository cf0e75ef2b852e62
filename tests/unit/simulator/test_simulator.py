"""The simulated account: organizations, credits, keys, errors, and the recorded requests."""

from __future__ import annotations

import itertools
import json
import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.simulator import RecordedRequest, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-canary-5150"
BALANCE = "/v1/user/balance"
IMAGES = "/v1/generation/stable-diffusion-v1-5/text-to-image"
PROMPT = {"text_prompts": [{"text": "A lighthouse on a cliff"}]}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, organizations={"org-b": 25.0}) as running:
        yield running


def call(
    simulator: Simulator, path: str = BALANCE, method: str = "GET", *, key: str | None = KEY, **options: Any
) -> requests.Response:
    headers = dict(options.pop("headers", {}))
    if key is not None:
        headers.setdefault("Authorization", key if path.startswith("/v1alpha/") else f"Bearer {key}")
    return requests.request(method, simulator.base_url + path, headers=headers, timeout=30, **options)


def generate(simulator: Simulator, path: str = IMAGES, **options: Any) -> requests.Response:
    return call(simulator, path, "POST", **{"json": PROMPT, **options})


def assert_error(response: requests.Response, status: int, name: str) -> str:
    body = response.json()
    assert (response.status_code, body["name"]) == (status, name)
    assert uuid.UUID(body["id"]).version == 4
    return str(body["message"])


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_account_lists_organizations_and_marks_the_default_one(simulator: Simulator, version: str) -> None:
    account = call(simulator, f"/{version}/user/account").json()
    assert account["id"].startswith("user-")
    assert account["email"] == "ada@example.com"
    assert account["profile_picture"].startswith("https://")
    assert [(each["id"], each["is_default"]) for each in account["organizations"]] == [
        ("org-default", True),
        ("org-b", False),
    ]
    assert all(set(each) == {"id", "name", "role", "is_default"} for each in account["organizations"])


def test_account_without_profile_picture_omits_the_field() -> None:
    with Simulator(api_key=KEY, profile_picture=None, email="bob@example.com") as simulator:
        account = call(simulator, "/v1/user/account").json()
    assert account["email"] == "bob@example.com"
    assert "profile_picture" not in account


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_balance_is_that_of_the_organization_header(simulator: Simulator, version: str) -> None:
    path = f"/{version}/user/balance"
    assert call(simulator, path).json() == {"credits": 10.0}
    assert call(simulator, path, headers={"Organization": ""}).json() == {"credits": 10.0}
    assert call(simulator, path, headers={"Organization": "org-b"}).json() == {"credits": 25.0}


def test_organization_of_others_is_forbidden_except_for_the_account(simulator: Simulator) -> None:
    headers = {"Organization": "org-z"}
    assert_error(call(simulator, headers=headers), 403, "permission_denied")
    assert_error(generate(simulator, headers=headers), 403, "permission_denied")
    assert call(simulator, "/v1/user/account", headers=headers).status_code == 200


def test_engines_are_a_list_in_v1_and_an_object_in_v1alpha(simulator: Simulator) -> None:
    engines = call(simulator, "/v1/engines/list").json()
    assert "stable-diffusion-v1-5" in [engine["id"] for engine in engines]
    assert all(set(engine) == {"id", "name", "description", "type"} for engine in engines)
    assert call(simulator, "/v1alpha/engines/list").json() == {"engines": engines}


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        (BALANCE, KEY),
        (BALANCE, "Bearer sk-other"),
        (BALANCE, "Bearer "),
        ("/v1alpha/user/balance", f"Bearer {KEY}"),
        ("/v1alpha/user/balance", "sk-other"),
    ],
)
def test_key_that_is_wrong_or_in_the_format_of_the_other_version_is_refused(
    simulator: Simulator, path: str, authorization: str
) -> None:
    refused = call(simulator, path, headers={"Authorization": authorization})
    assert "invalid" in assert_error(refused, 401, "unauthorized")
    assert KEY not in refused.text


def test_missing_header_gets_the_message_of_the_specification(simulator: Simulator) -> None:
    assert assert_error(call(simulator, key=None), 401, "unauthorized") == "missing authorization header"


def test_errors_of_v1alpha_have_more_fields_than_those_of_v1(simulator: Simulator) -> None:
    old = call(simulator, "/v1alpha/user/balance", key=None)
    assert {"fault": False, "temporary": False, "timeout": False}.items() <= old.json().items()
    assert old.headers["Content-Type"] == "application/vnd.goa.error"
    assert set(call(simulator, key=None).json()) == {"id", "name", "message"}


def test_rotated_key_replaces_the_old_one(simulator: Simulator) -> None:
    simulator.rotate_key("sk-new")
    assert simulator.api_key == "sk-new"
    assert call(simulator).status_code == 401
    assert call(simulator, key="sk-new").status_code == 200


def test_unknown_paths_and_wrong_methods_get_errors_of_the_service(simulator: Simulator) -> None:
    assert_error(call(simulator, "/v1/user/nothing"), 404, "not_found")
    assert_error(call(simulator, "/"), 404, "not_found")
    wrong = call(simulator, method="DELETE")
    assert_error(wrong, 405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET"
    assert call(simulator, IMAGES).headers["Allow"] == "POST"
    assert call(simulator, method="HEAD").status_code == 405


def test_credits_can_be_negative_and_topped_up_per_organization(simulator: Simulator) -> None:
    simulator.set_credits(-1.5)
    simulator.top_up(0.25)
    simulator.top_up(5, "org-b")
    assert call(simulator).json() == {"credits": -1.25}
    assert (simulator.credits(), simulator.credits("org-b")) == (-1.25, 30.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "7", 10**400])
def test_credits_must_be_a_finite_number(simulator: Simulator, value: Any) -> None:
    with pytest.raises(ValueError, match="finite number"):
        simulator.set_credits(value)
    with pytest.raises(ValueError, match="finite number"):
        simulator.top_up(value)
    assert simulator.credits() == 10.0


def test_error_for_unknown_organization_lists_the_known_ones(simulator: Simulator) -> None:
    for act in (
        lambda: simulator.top_up(1, "org-z"),
        lambda: simulator.set_credits(1, "org-z"),
        lambda: simulator.credits("org-z"),
        lambda: simulator.fail(status=500, organization="org-z"),
    ):
        with pytest.raises(
            ValueError, match=r"organization is 'org-z'; it must be one of 'org-default', 'org-b'"
        ):
            act()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"host": "0.0.0.0"}, "host is '0.0.0.0'; .*loopback address"),  # noqa: S104 - must be refused
        ({"host": "example.com"}, "host is 'example.com'; .*loopback address"),
        ({"port": 70000}, "port is 70000; .*from 0 to 65535"),
        ({"rate_limit": 0}, "rate_limit is 0; .*of 1 or more"),
        ({"rate_window": 0}, "rate_window is 0; .*above 0"),
        ({"rate_penalty": math.inf}, "rate_penalty is inf; .*finite"),
        ({"cost_per_image": -1}, "cost_per_image is -1; .*of 0 or more"),
        ({"credits": math.nan}, "credits is nan; .*finite"),
        ({"organizations": {"org-b": math.inf}}, "balance of organization 'org-b' is inf; .*finite"),
        ({"organizations": {"org-default": 1}}, "organization is 'org-default'; it must be another one"),
        ({"organizations": {"": 1}}, "an organization is ''; .*printable text"),
        ({"email": ""}, "email is ''; .*printable text"),
    ],
)
def test_error_for_parameter_out_of_range_names_value_and_range(wrong: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Simulator(**wrong)


def test_error_for_key_that_fits_no_header_hides_the_key(simulator: Simulator) -> None:
    for act in (lambda: Simulator(api_key="sk canary"), lambda: simulator.rotate_key("sk canary")):
        with pytest.raises(ValueError, match="API key") as refusal:
            act()
        assert "canary" not in str(refusal.value)


def test_requests_are_recorded_as_received(simulator: Simulator) -> None:
    call(simulator, f"{BALANCE}?page=1", headers={"Organization": "org-b", "X-Mine": "42"})
    generate(simulator, key="sk-other")
    first, second = simulator.requests
    assert isinstance(first, RecordedRequest)
    assert (first.method, first.path, first.organization, first.status, first.body) == (
        "GET",
        BALANCE,
        "org-b",
        200,
        b"",
    )
    assert first.headers.get("x-mine") == first.headers["X-MINE"] == "42"
    assert first.headers.get("X-Other") is None
    assert (second.method, second.organization, second.status) == ("POST", None, 401)
    assert json.loads(second.body) == PROMPT
    assert first.at <= second.at
    assert len(first.headers) == len(list(first.headers)) > 2
    assert KEY in first.headers["authorization"]
    assert KEY not in repr(first)


class TickingClock:
    """A clock that is a second later each time it is read."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def time(self) -> float:
        return float(next(self._ticks))

    def monotonic(self) -> float:
        return 0.0


def test_recorded_requests_have_balance_times_and_fault() -> None:
    with Simulator(credits=12.5, api_key=KEY, clock=TickingClock()) as simulator:
        call(simulator)
        late = simulator.fail(delay=0.001)
        call(simulator)
        faults = [simulator.fail(**each) for each in ({"status": 503}, {"body": b'{"credits": 7}'})]
        for _ in faults:
            call(simulator)
        call(simulator, "/v1/user/account")
        cut = simulator.fail(cut_body=True)
        with pytest.raises(requests.RequestException):
            call(simulator)
        reset = simulator.fail(reset=True)
        with pytest.raises(requests.RequestException):
            call(simulator)

    found = simulator.requests
    assert [each.credits for each in found] == [12.5, 12.5, *[None] * 5]
    assert [each.fault for each in found] == [None, late, *faults, None, cut, reset]
    assert [(each.at, each.answered_at) for each in found] == [
        *((1.0 + 2 * index, 2.0 + 2 * index) for index in range(6)),
        (13.0, None),
    ]


def test_requests_are_counted_by_path_and_organization_until_reset(simulator: Simulator) -> None:
    call(simulator)
    call(simulator, headers={"Organization": "org-b"})
    call(simulator, "/v1/user/account")
    assert simulator.count() == 3
    assert simulator.count(BALANCE) == 2
    assert simulator.count(organization="org-b") == 1
    assert simulator.count(BALANCE, "org-default") == 1
    simulator.requests.clear()
    assert simulator.count() == 3
    simulator.reset_requests()
    assert (simulator.count(), simulator.requests) == (0, [])


def test_wait_for_requests_returns_when_they_arrive_or_reports_how_many_did(simulator: Simulator) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call, simulator)
        simulator.wait_for_requests(1, 30, BALANCE)
    with pytest.raises(TimeoutError, match=r"1 of 2 requests arrived within 0.01 s"):
        simulator.wait_for_requests(2, 0.01)
    with pytest.raises(TimeoutError, match=r"0 of 1 requests of /v1/user/account arrived"):
        simulator.wait_for_requests(1, 0.01, "/v1/user/account")


def test_connection_is_the_json_that_airflow_reads(simulator: Simulator) -> None:
    assert json.loads(simulator.connection(organization="org-b", timeout=3)) == {
        "conn_type": "stability",
        "host": simulator.base_url,
        "password": KEY,
        "extra": {"organization": "org-b", "timeout": 3},
    }
