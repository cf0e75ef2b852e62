"""What goes along when a caller of the session lets it follow redirects, and which URLs get the key."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.api.session import StabilitySession
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityTimeoutError
from airflow_provider_stability.simulator import Simulator
from support.clients import KEY, client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_proxy")

OLD, NEW = "/v1/engines/old", "/v1/engines/list"
SCOPE: dict[str, Any] = {"organization": "org-b", "client_id": "pictures", "client_version": "7"}


@pytest.fixture
def hosts() -> Iterator[list[Simulator]]:
    """Return three hosts: for a key, another port is one."""
    with ExitStack() as stack:
        yield [stack.enter_context(Simulator(api_key=KEY, organizations={"org-b": 1})) for _ in range(3)]


def private_headers(host: Simulator) -> list[dict[str, str]]:
    """Return the headers of each request to a host that say who asks."""
    names = ("Authorization", "Organization", "Stability-Client-ID", "Stability-Client-Version")
    return [{name: each.headers[name] for name in names if name in each.headers} for each in host.requests]


def test_redirects_within_the_host_keep_what_says_who_asks(hosts: list[Simulator]) -> None:
    here = hosts[0]
    here.fail(302, headers={"Location": NEW})
    with client(here.base_url, **SCOPE) as asking:
        assert asking.run(OLD, allow_redirects=True).status_code == 200
    first, second = private_headers(here)
    assert len(first) == 4
    assert second == first


def test_redirects_over_other_hosts_leave_it_behind(hosts: list[Simulator]) -> None:
    here, there, beyond = hosts
    here.fail(302, headers={"Location": there.base_url + OLD})
    there.fail(302, headers={"Location": beyond.base_url + OLD})
    beyond.fail(200, body="{}")
    with client(here.base_url, **SCOPE) as asking:
        assert asking.run(OLD, allow_redirects=True).json() == {}
    assert [private_headers(each) for each in (there, beyond)] == [[{}], [{}]]


def test_timeout_of_a_call_holds_after_a_redirect(hosts: list[Simulator]) -> None:
    here = hosts[0]
    here.fail(302, headers={"Location": NEW}, path=OLD)
    here.fail(delay=5, path=NEW)
    with client(here.base_url) as asking, pytest.raises(StabilityTimeoutError):
        asking.run(OLD, allow_redirects=True, timeout=1.0)
    assert [each.path for each in here.requests] == [OLD, NEW]


@pytest.mark.parametrize(
    ("url", "has_key"),
    [
        ("https://api.example/v1", True),
        ("https://api.example:443/v1", True),
        ("https://API.example", True),
        ("https://api.example:80", False),
        ("http://api.example", False),
        ("http://api.example:443", False),
        ("https://example", False),
    ],
)
def test_key_is_for_scheme_host_and_port_however_they_are_written(url: str, *, has_key: bool) -> None:
    session = StabilitySession(Settings(KEY, base_url="https://api.example"))
    assert ("Authorization" in session.prepare_request(requests.Request("GET", url)).headers) is has_key
