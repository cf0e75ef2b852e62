"""Whatever a service or proxy answers is the number it states or an error, never another number."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.api.models import Account, Balance
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import StabilityResponseError
from airflow_provider_stability.simulator import Simulator
from support.properties import EVERY_RUN_THE_SAME, JSON, attempt, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-CanaryKey0123456789"

FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30)
BALANCES = documents({"credits": FINITE})
ORGANIZATION = {"id": st.text(), "name": st.text(), "role": st.text(), "is_default": st.booleans()}
ACCOUNTS = documents(
    {
        "id": st.text(),
        "email": st.text(),
        "organizations": st.lists(documents(ORGANIZATION).map(json.loads), max_size=3),
        "profile_picture": st.none() | st.text(),
    }
)


def is_balance(found: object) -> bool:
    """Tell by hand what the specification says of a balance."""
    credits_ = found.get("credits") if isinstance(found, dict) else None
    if isinstance(credits_, bool) or not isinstance(credits_, int | float):
        return False
    try:
        return math.isfinite(float(credits_))
    except OverflowError:
        return False


def is_account(found: object) -> bool:
    """Tell by hand what the specification says of an account."""
    return (
        isinstance(found, dict)
        and all(isinstance(found.get(name), str) for name in ("id", "email"))
        and isinstance(found.get("profile_picture"), str | None)
        and isinstance(found.get("organizations"), list)
        and all(is_organization(each) for each in found["organizations"])
    )


def is_organization(found: object) -> bool:
    return (
        isinstance(found, dict)
        and all(isinstance(found.get(name), str) for name in ("id", "name", "role"))
        and isinstance(found.get("is_default"), bool)
    )


def balance_of(text: str | bytes) -> float | None:
    found = attempt(lambda: Balance.model_validate_json(text), ValidationError)
    return found.credits if isinstance(found, Balance) else None


def account_of(text: str | bytes) -> Account | None:
    found = attempt(lambda: Account.model_validate_json(text), ValidationError)
    return found if isinstance(found, Account) else None


@EVERY_RUN_THE_SAME
@given(BALANCES | JSON.map(json.dumps))
@example('{"credits": true}')
@example('{"credits": "12.5"}')
@example('{"credits": NaN}')
@example('{"credits": -Infinity}')
@example('{"credits": 1e999}')
@example(f'{{"credits": {10**400}}}')
@example('{"credits": 0.1, "credits": 12}')
@example('[{"credits": 12}]')
def test_any_json_is_the_balance_it_states_or_refused(text: str) -> None:
    document = json.loads(text)
    assert balance_of(text) == (float(document["credits"]) if is_balance(document) else None)


@EVERY_RUN_THE_SAME
@given(BALANCES, st.data())
def test_truncated_balance_is_refused(text: str, data: st.DataObject) -> None:
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert balance_of(cut) is None


@EVERY_RUN_THE_SAME
@given(BALANCES.map(str.encode), st.integers(0, 200), st.binary(max_size=3))
def test_corrupted_balance_is_what_it_states_or_refused(text: bytes, at: int, wrong: bytes) -> None:
    spoiled = text[: at % len(text)] + wrong + text[at % len(text) + len(wrong) :]
    found = balance_of(spoiled)
    if found is not None:
        assert found == float(json.loads(spoiled)["credits"])


@EVERY_RUN_THE_SAME
@given(ACCOUNTS | JSON.map(json.dumps))
def test_any_json_is_the_account_it_states_or_refused(text: str) -> None:
    document = json.loads(text)
    found = account_of(text)
    assert (found is not None) == is_account(document)
    if found is None:
        return
    assert (found.id, found.email) == (document["id"], document["email"])
    assert found.profile_picture == document.get("profile_picture")
    defaults = [each for each in document["organizations"] if each["is_default"]]
    chosen = found.default_organization
    assert (chosen.id if chosen else None) == (defaults[0]["id"] if defaults else None)


@EVERY_RUN_THE_SAME
@given(ACCOUNTS.filter(lambda text: "NaN" not in text and "Infinity" not in text))
def test_account_to_dict_keeps_everything(text: str) -> None:
    found = account_of(text)
    if found is not None:
        assert found.to_dict() == json.loads(text)
        assert account_of(json.dumps(found.to_dict())) == found


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Simulator, StabilityClient]]:
    with Simulator(api_key=KEY, rate_limit=1_000_000) as simulator:
        settings = Settings(api_key=KEY, base_url=simulator.base_url, max_retries=0)
        client = StabilityClient(settings)
        yield simulator, client
        client.close()


@EVERY_RUN_THE_SAME
@given(
    body=BALANCES.map(str.encode)
    | st.binary()
    | st.text().map(lambda text: f"<html>{text}{KEY}</html>".encode())
)
def test_any_response_body_is_its_balance_or_an_error_without_the_key(
    service: tuple[Simulator, StabilityClient], body: bytes
) -> None:
    simulator, client = service
    simulator.fail(body=body)
    found = attempt(client.get_balance, StabilityResponseError)
    if isinstance(found, Balance):
        assert found.credits == float(json.loads(body)["credits"])
    else:
        assert found.transient
        assert KEY not in str(found)
        assert balance_of(body) is None
