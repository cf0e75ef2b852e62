"""The operators, executed as a worker executes them, against the simulator."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stability.exceptions import ServerError, StabilityParameterError
from airflow_provider_stability.operators.account import AccountOperator
from airflow_provider_stability.operators.balance import BalanceBranchOperator, BalanceOperator
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import BaseOperator


def account_operator(**kwargs: Any) -> AccountOperator:
    return AccountOperator(task_id="account", **kwargs)


def balance_operator(**kwargs: Any) -> BalanceOperator:
    return BalanceOperator(task_id="balance", **kwargs)


def branch_operator(**kwargs: Any) -> BalanceBranchOperator:
    given: dict[str, Any] = {"min_credits": 40}
    given |= {"follow_task_ids_if_true": "go", "follow_task_ids_if_false": "stay"}
    return BalanceBranchOperator(task_id="branch", **(given | kwargs))


EVERY_OPERATOR = pytest.mark.parametrize("make", [account_operator, balance_operator, branch_operator])


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(credits=12.5, organizations={"org-b": 60.0}) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection(timeout=5, max_retries=0))
        yield simulator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    # Airflow's own loggers keep their lines from pytest, in another way in each version.
    for operator in (AccountOperator, BalanceOperator, BalanceBranchOperator):
        monkeypatch.setattr(operator, "log", logging.getLogger("operator"))
    caplog.set_level(logging.INFO, "operator")
    return caplog


def test_account_is_everything_the_service_sends(account: Simulator) -> None:
    assert account_operator().execute({}) == {
        "id": "user-1234",
        "email": "ada@example.com",
        "profile_picture": "https://api.stability.ai/example.png",
        "organizations": [
            {"id": "org-default", "name": "Organization default", "role": "MEMBER", "is_default": True},
            {"id": "org-b", "name": "Organization b", "role": "MEMBER", "is_default": False},
        ],
    }


def test_only_listed_fields_are_pushed(account: Simulator) -> None:
    assert account_operator(fields=["id"]).execute({}) == {"id": "user-1234"}


def test_listed_field_that_the_service_omits_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(profile_picture=None) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection())
        assert account_operator(fields=["profile_picture"]).execute({}) == {"profile_picture": None}
        assert "profile_picture" not in account_operator().execute({})


@pytest.mark.parametrize("fields", [["id", "e-mail"], "id", [], ["Email"], 5, [["id"]]])
def test_invalid_fields_fail_at_once(account: Simulator, fields: Any) -> None:
    with pytest.raises(
        AirflowFailException, match=r"fields (is|has) .*; it must be None or a list of"
    ) as failure:
        account_operator(fields=fields).execute({})
    assert isinstance(failure.value.__cause__, StabilityParameterError)
    if fields in (["id", "e-mail"], ["Email"]):
        assert "a list of email, id, organizations, profile_picture" in str(failure.value)
    else:
        assert account.count() == 0


def test_result_is_logged_in_one_line_without_the_email_address(
    account: Simulator, lines: pytest.LogCaptureFixture
) -> None:
    account_operator().execute({})
    balance_operator().execute({})
    branch_operator().choose_branch({})

    found = [record.getMessage() for record in lines.records if record.name == "operator"]
    found = [line for line in found if "outside" not in line]  # Airflow's word on calling execute by hand
    assert found == [
        (
            "Account user-1234: 2 organization(s), default org-default; "
            "fields to XCom: id, email, organizations, profile_picture"
        ),
        "12.5 credits in the default organization",
        "12.5 credits, need 40, short 27.5: following stay",
    ]


@pytest.mark.parametrize(
    ("argument", "connections", "expected"),
    [
        (None, None, {"credits": 12.5, "organization": None}),
        ("org-b", None, {"credits": 60.0, "organization": "org-b"}),
        (None, "org-b", {"credits": 60.0, "organization": "org-b"}),
        ("org-default", "org-b", {"credits": 12.5, "organization": "org-default"}),
    ],
)
def test_organization_of_the_task_overrides_the_connections(
    account: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    connections: str | None,
    expected: dict[str, Any],
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(organization=connections))

    assert balance_operator(organization=argument).execute({}) == expected
    assert isinstance(expected["credits"], float)


@pytest.mark.parametrize(("needed", "way"), [(12.5, "go"), ("12.5", "go"), (12.51, "stay"), (0, "go")])
def test_branch_follows_the_current_credits(account: Simulator, needed: Any, way: str) -> None:
    assert branch_operator(min_credits=needed).choose_branch({}) == way


@pytest.mark.parametrize("needed", [-1, "many", None, True])
def test_branch_refuses_an_invalid_literal(needed: Any) -> None:
    with pytest.raises(StabilityParameterError, match="min_credits is"):
        branch_operator(min_credits=needed)


def test_branch_fails_at_once_if_its_template_renders_to_no_number(account: Simulator) -> None:
    operator = branch_operator(min_credits="{{ params.n }}")
    operator.min_credits = "many"
    with pytest.raises(AirflowFailException, match="min_credits is 'many'"):
        operator.choose_branch({})
    assert account.count() == 0


@EVERY_OPERATOR
@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_permanent_error_fails_the_task_at_once(
    account: Simulator, make: Callable[[], BaseOperator], status: int
) -> None:
    account.fail(status=status, times=None)
    with pytest.raises(AirflowFailException, match=str(status)):
        make().execute({})
    assert account.count() == 1


@EVERY_OPERATOR
def test_transient_error_is_retried_and_then_raised(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, mocker: Any, make: Callable[[], BaseOperator]
) -> None:
    mocker.patch("time.sleep")
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(max_retries=2))
    account.fail(status=503, times=None)
    with pytest.raises(ServerError):
        make().execute({})
    assert account.count() == 3
