"""The hook: from a connection, in each of the forms that Airflow accepts, to calls."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.exceptions import (
    AuthenticationError,
    ServerError,
    StabilityConfigurationError,
    StabilityParameterError,
)
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION = "AIRFLOW_CONN_STABILITY_DEFAULT"
KEY = "sk-CanaryKey0123456789"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=12.5, organizations={"org-b": 60.0}, api_key=KEY) as simulator:
        monkeypatch.setenv(CONNECTION, simulator.connection(timeout=5, max_retries=0))
        yield simulator


def connection(**fields: Any) -> str:
    return json.dumps({"conn_type": "stability", "password": KEY} | fields)


def test_hook_reads_the_account_and_the_balance(account: Simulator) -> None:
    with StabilityHook() as hook:
        assert hook.get_account().id == "user-1234"
        assert hook.get_balance().credits == 12.5
        assert hook.get_balance("org-b").credits == 60.0


def test_all_calls_of_a_hook_share_one_session(account: Simulator) -> None:
    with StabilityHook() as hook:
        session = hook.get_conn()
        hook.get_balance()
        assert hook.get_conn() is session
    assert isinstance(session, requests.Session)


def test_closed_hook_reads_the_connection_again(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = StabilityHook()
    assert hook.get_balance().credits == 12.5
    account.rotate_key("sk-next")
    monkeypatch.setenv(CONNECTION, account.connection())
    with pytest.raises(AuthenticationError):
        hook.get_balance()

    hook.close()

    assert hook.get_balance().credits == 12.5
    hook.close()


def test_session_has_the_connections_credentials(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, account.connection(organization="org-b"))
    with StabilityHook() as hook:
        answer = hook.get_conn().get(f"{account.base_url}/v1/user/balance")
    assert answer.json() == {"credits": 60.0}


def test_run_returns_status_headers_and_data(account: Simulator) -> None:
    with StabilityHook() as hook:
        answer = hook.run(
            "/v1/generation/stable-diffusion-v1-6/text-to-image",
            method="POST",
            json={"text_prompts": [{"text": "a lighthouse"}]},
            headers={"Accept": "image/png"},
        )
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert account.credits() == 11.5


def test_max_retries_of_the_hook_overrides_the_connections(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
) -> None:
    mocker.patch("time.sleep")
    monkeypatch.setenv(CONNECTION, account.connection(max_retries=5))
    account.fail(status=503, times=None)
    with StabilityHook(max_retries=1) as hook, pytest.raises(ServerError):
        hook.get_balance()
    assert account.count() == 2


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", 11])
def test_invalid_max_retries_is_refused(value: Any) -> None:
    with pytest.raises(
        StabilityParameterError, match=r"max_retries is .*; it must be a whole number from 0 to 10"
    ):
        StabilityHook(max_retries=value)


def test_connection_uri_works(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        CONNECTION, f"stability://:{KEY}@http%3A%2F%2F127.0.0.1:{account.port}/?organization=org-b&timeout=5"
    )
    with StabilityHook() as hook:
        assert hook.get_balance().credits == 60.0


def test_key_with_a_bearer_prefix_works(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, connection(host=account.base_url, password=f"  Bearer {KEY}\n"))
    with StabilityHook() as hook:
        assert hook.get_balance().credits == 12.5


def test_password_of_another_connection_type_is_not_sent(account: Simulator, monkeypatch: Any) -> None:
    monkeypatch.setenv(CONNECTION, connection(conn_type="openai", host=account.base_url))
    with pytest.raises(StabilityConfigurationError, match="type is 'openai'; it must be 'stability'"):
        StabilityHook().get_balance()
    assert account.count() == 0


@pytest.mark.parametrize("value", [None, "", " ", 5])
def test_invalid_connection_id_is_refused(value: Any) -> None:
    with pytest.raises(StabilityParameterError, match="stability_conn_id is "):
        StabilityHook(value)


def test_proxy_never_receives_a_key_for_this_machine(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Simulator(credits=99) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url)
        monkeypatch.setenv("http_proxy", proxy.base_url)
        with StabilityHook() as hook:
            assert hook.get_balance().credits == 12.5
        monkeypatch.setenv(CONNECTION, account.connection(proxy=proxy.base_url))
        with pytest.raises(StabilityConfigurationError, match="'proxy' would receive the key unencrypted"):
            StabilityHook().get_balance()
        assert proxy.count() == 0


def test_connection_test_describes_account_organization_and_credits(account: Simulator) -> None:
    assert StabilityHook().test_connection() == (
        True,
        (
            "Connected as ada@example.com (user-1234), "
            "organization Organization default (org-default): 12.5 credits"
        ),
    )
    assert account.count() == 2


def test_connection_test_uses_the_connections_organization(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONNECTION, account.connection(organization="org-b"))
    assert StabilityHook().test_connection()[1].endswith("organization Organization b (org-b): 60 credits")


def test_connection_test_succeeds_with_0_credits(account: Simulator) -> None:
    account.set_credits(0)
    works, words = StabilityHook().test_connection()
    assert works
    assert words.endswith(": 0 credits")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 401}, "401 unauthorized.*valid API key"),
        ({"status": 429}, "429 too_many_requests"),
        ({"status": 500}, "500"),
        ({"reset": True}, "Connection reset"),
        ({"body": b"<html>"}, "does not match the API's specification"),
    ],
    ids=str,
)
def test_failed_connection_test_gives_the_reason_after_one_request(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv(CONNECTION, account.connection(max_retries=5))
    account.fail(times=None, **fault)

    works, said = StabilityHook().test_connection()

    assert not works
    assert re.search(words, said)
    assert KEY not in said
    assert account.count() == 1


def test_no_repr_shows_the_key(account: Simulator) -> None:
    with StabilityHook() as hook:
        hook.get_balance()
        held = [
            hook,
            hook.client,
            hook.client.settings,
            hook.get_conn(),
            hook.get_conn().headers,
            hook.get_conn().auth,
        ]
    assert KEY not in " ".join(map(repr, held))


def test_key_stored_with_a_bearer_prefix_is_masked_without_it(
    account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat.sdk import redact  # noqa: PLC0415  # Airflow must be configured by then

    monkeypatch.setenv(CONNECTION, connection(host=account.base_url, password=f"Bearer {KEY}"))
    with StabilityHook() as hook:
        hook.get_balance()
    assert redact(f"key {KEY}") == "key ***"
