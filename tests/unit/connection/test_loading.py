"""Loading settings from an Airflow connection, in a worker and in an event loop."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_stability.connection.loading import (
    connection_disappeared,
    load_settings,
    load_settings_async,
)
from airflow_provider_stability.exceptions import StabilityConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.connection.settings import Settings

KEY = "sk-canary-7HqZw9PLkmXt"
VARIABLE = "AIRFLOW_CONN_MINE"


def connection(**fields: Any) -> str:
    return json.dumps({"conn_type": "stability", "password": KEY} | fields)


def load(sleep: Callable[[float], None]) -> Settings:
    return load_settings("mine", BaseHook.get_connection, sleep=sleep)


def load_in_a_loop(sleep: Callable[[float], None]) -> Settings:
    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    return asyncio.run(load_settings_async("mine", sleep=sleep_async))


Load = Any
BOTH_WAYS = pytest.mark.parametrize("load", [load, load_in_a_loop])


@BOTH_WAYS
def test_connection_is_read_without_a_pause(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection(host="api.example", port=8443, extra={"timeout": 5}))
    slept: list[float] = []
    settings = load(slept.append)
    assert (settings.api_key, settings.base_url, settings.timeout) == (KEY, "https://api.example:8443", 5.0)
    assert slept == []


@BOTH_WAYS
def test_missing_connection_is_read_again_after_1_and_4_seconds(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    caplog.set_level(logging.WARNING, "airflow_provider_stability.connection.loading")
    with pytest.raises(StabilityConfigurationError) as caught:
        load(slept.append)
    assert slept == [1, 4]
    assert caught.value.is_missing
    assert not caught.value.transient
    assert str(caught.value).startswith("connection 'mine': it is not defined; add one of type 'stability'")
    assert [each.getMessage() for each in caplog.records if each.name.endswith("connection.loading")] == [
        "Connection 'mine' was not found; trying again in 1 s",
        "Connection 'mine' was not found; trying again in 4 s",
    ]


@BOTH_WAYS
@pytest.mark.parametrize("tries", [1, 2])
def test_connection_that_appears_between_two_tries_is_used(
    load: Load, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    slept: list[float] = []

    def define(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == tries:
            monkeypatch.setenv(VARIABLE, connection())

    assert load(define).api_key == KEY
    assert slept == [1, 4][:tries]


@BOTH_WAYS
def test_connection_of_another_type_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection(conn_type="openai"))
    with pytest.raises(StabilityConfigurationError) as caught:
        load(lambda _: None)
    assert str(caught.value) == "connection 'mine': type is 'openai'; it must be 'stability'"


@BOTH_WAYS
@pytest.mark.parametrize("extra", ["[1]", "{not json", '"text"', "5"])
def test_extra_that_is_not_a_json_object_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setenv(VARIABLE, connection(extra=extra))
    with pytest.raises(StabilityConfigurationError, match="'mine': extra is not a JSON object; it must be"):
        load(lambda _: None)


@BOTH_WAYS
@pytest.mark.parametrize("text", ['{"conn_type": "stability",}', '{"api_key": "sk-1"}'])
def test_connection_that_is_set_but_unreadable_is_not_called_missing(
    load: Load, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(StabilityConfigurationError, match=f"{VARIABLE} is set, but Airflow cannot read it"):
        load(lambda _: None)


@BOTH_WAYS
def test_invalid_field_is_not_read_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, connection(extra={"timeout": "soon"}))
    slept: list[float] = []
    with pytest.raises(StabilityConfigurationError, match="'timeout' is 'soon'; it must be a number above 0"):
        load(slept.append)
    assert slept == []


def test_what_a_secrets_backend_raises_is_transient_and_not_shown() -> None:
    def vault(_: str) -> Any:
        raise ConnectionError(f"vault says {KEY}")

    with pytest.raises(StabilityConfigurationError, match="could not be read: ConnectionError") as caught:
        load_settings("mine", vault)
    assert caught.value.transient
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_backend_that_recovers_from_not_found_is_tried_once_more() -> None:
    answers = iter([AirflowNotFoundException("not found"), ConnectionError("down")])

    def vault(_: str) -> Any:
        raise next(answers)

    slept: list[float] = []
    with pytest.raises(StabilityConfigurationError, match="could not be read: ConnectionError"):
        load_settings("mine", vault, sleep=slept.append)
    assert slept == [1]


def test_disappeared_connection_is_transient() -> None:
    error = connection_disappeared("mine")
    assert error.transient
    assert not error.is_missing
    assert str(error).startswith(
        "connection 'mine' was found before, but is not found now: it was deleted, or"
    )
