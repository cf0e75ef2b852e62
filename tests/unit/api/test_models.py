"""Responses of the API: which are valid, which are refused, and that nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_provider_stability.api.models import Account, Balance, Organization

OTHER = {"id": "org-5678", "name": "Another Organization", "role": "MEMBER", "is_default": True}
MINE = {"id": "org-1234", "name": "My Organization", "role": "ADMIN", "is_default": False}
ACCOUNT: dict[str, Any] = {
    "id": "user-1234",
    "email": "example@stability.ai",
    "organizations": [MINE, OTHER],
    "profile_picture": "https://api.stability.ai/example.png",
}
WITHOUT_PICTURE = {name: value for name, value in ACCOUNT.items() if name != "profile_picture"}


def account(value: object) -> Account:
    return Account.model_validate_json(json.dumps(value))


def test_account_has_the_fields_of_the_specification() -> None:
    found = account(ACCOUNT)
    assert (found.id, found.email) == ("user-1234", "example@stability.ai")
    assert found.profile_picture == "https://api.stability.ai/example.png"
    assert [type(each) for each in found.organizations] == [Organization, Organization]
    first = found.organizations[0]
    assert (first.id, first.name, first.role, first.is_default) == (
        "org-1234",
        "My Organization",
        "ADMIN",
        False,
    )


@pytest.mark.parametrize(
    "value",
    [
        ACCOUNT,
        WITHOUT_PICTURE,
        {**ACCOUNT, "profile_picture": None},
        {**ACCOUNT, "organizations": []},
        {**ACCOUNT, "plan": {"name": "pro", "seats": [1, 2.5, None]}},
        {**ACCOUNT, "organizations": [{**MINE, "created": "2024-01-01", "limits": {"a": 1}}]},
        {**ACCOUNT, "email": "gr\u00fc\u00dfe@example.com", "id": ""},
    ],
    ids=["whole", "no picture", "null picture", "no organization", "more", "more inside", "unicode"],
)
def test_account_to_dict_is_what_the_service_sent(value: dict[str, Any]) -> None:
    given = account(value).to_dict()
    assert given == value
    assert json.loads(json.dumps(given)) == value


def test_absent_picture_is_none_and_absent_in_to_dict() -> None:
    found = account(WITHOUT_PICTURE)
    assert found.profile_picture is None
    assert "profile_picture" not in found.to_dict()


def test_unknown_field_can_be_read() -> None:
    assert account({**ACCOUNT, "plan": "pro"}).model_extra == {"plan": "pro"}


@pytest.mark.parametrize(
    ("organizations", "default"),
    [
        ([MINE, OTHER], "org-5678"),
        ([OTHER, MINE], "org-5678"),
        ([MINE], None),
        ([], None),
        ([{**MINE, "is_default": True}, OTHER], "org-1234"),
    ],
)
def test_default_organization_is_the_marked_one(
    organizations: list[dict[str, Any]], default: str | None
) -> None:
    found = account({**ACCOUNT, "organizations": organizations}).default_organization
    assert (found and found.id) == default


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"id": 1234}, "id"),
        ({"email": ["a@b"]}, "email"),
        ({"email": True}, "email"),
        ({"profile_picture": 5}, "profile_picture"),
        ({"organizations": None}, "organizations"),
        ({"organizations": {}}, "organizations"),
        ({"organizations": "org-1"}, "organizations"),
        ({"organizations": ["org-1"]}, "organizations.0"),
        ({"organizations": [MINE, {**MINE, "is_default": "true"}]}, "organizations.1.is_default"),
        ({"organizations": [{**MINE, "is_default": 1}]}, "organizations.0.is_default"),
        ({"organizations": [{**MINE, "name": None}]}, "organizations.0.name"),
        ({"organizations": [{**MINE, "role": 1}]}, "organizations.0.role"),
    ],
)
def test_account_with_a_field_of_another_type_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        account({**ACCOUNT, **change})
    assert [".".join(map(str, each["loc"])) for each in caught.value.errors()] == [field]


@pytest.mark.parametrize("field", ["id", "email", "organizations"])
def test_account_without_a_required_field_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        account({name: value for name, value in ACCOUNT.items() if name != field})


@pytest.mark.parametrize("field", ["id", "name", "role", "is_default"])
def test_organization_without_a_required_field_is_refused(field: str) -> None:
    part = {name: value for name, value in MINE.items() if name != field}
    with pytest.raises(ValidationError, match=field):
        account({**ACCOUNT, "organizations": [part]})


@pytest.mark.parametrize(
    ("text", "credits_"),
    [
        ('{"credits": 0.6336833840314097}', 0.6336833840314097),
        ('{"credits": 10}', 10.0),
        ('{"credits": 0}', 0.0),
        ('{"credits": -3.5}', -3.5),
        ('{"credits": 1e308}', 1e308),
        ('{"credits": 9007199254740993}', 9007199254740992.0),
        ('{"credits": 1, "currency": "EUR"}', 1.0),
    ],
)
def test_balance_is_a_finite_float(text: str, credits_: float) -> None:
    found = Balance.model_validate_json(text).credits
    assert type(found) is float
    assert found == credits_


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"credit": 1}',
        '{"credits": null}',
        '{"credits": "10"}',
        '{"credits": ""}',
        '{"credits": true}',
        '{"credits": [10]}',
        '{"credits": {"value": 10}}',
        '{"credits": NaN}',
        '{"credits": Infinity}',
        '{"credits": -Infinity}',
        '{"credits": 1e999}',
        '{"credits": -1e999}',
        '{"credits": 1' + "0" * 400 + "}",
        "[]",
        "10",
        "null",
        '"credits"',
        "",
        '{"credits": 1',
        "<html>10</html>",
    ],
    ids=lambda text: text[:25] or "empty",
)
def test_anything_but_a_finite_number_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Balance.model_validate_json(text)


def test_models_are_frozen() -> None:
    balance = Balance(credits=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        balance.credits = 2.0
