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


def test_the_account_is_all_that_the_service_sends_as_plain_values(account: Simulator) -> None:
    assert account_operator().execute({}) == {
        "id": "user-1234",
        "email": "ada@example.com",
        "profile_picture": "https://api.stability.ai/example.png",
        "organizations": [
            {"id": "org-default", "name": "Organization default", "role": "MEMBER", "is_default": True},
            {"id": "org-b", "name": "Organization b", "role": "MEMBER", "is_default": False},
        ],
    }


def test_only_the_fields_that_are_named_are_pushed(account: Simulator) -> None:
    assert account_operator(fields=["id"]).execute({}) == {"id": "user-1234"}


def test_a_named_field_that_the_service_left_out_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(profile_picture=None) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection())
        assert account_operator(fields=["profile_picture"]).execute({}) == {"profile_picture": None}
        assert "profile_picture" not in account_operator().execute({})


@pytest.mark.parametrize("fields", [["id", "e-mail"], "id", [], ["Email"], 5, [["id"]]])
def test_fields_that_an_account_does_not_have_fail_at_once_with_those_it_has(
    account: Simulator, fields: Any
) -> None:
    with pytest.raises(
        AirflowFailException, match=r"fields (is|has) .*; it must be None or a list of"
    ) as failure:
        account_operator(fields=fields).execute({})
    assert isinstance(failure.value.__cause__, StabilityParameterError)
    if fields in (["id", "e-mail"], ["Email"]):
        assert "a list of email, id, organizations, profile_picture" in str(failure.value)
    else:
        assert account.count() == 0


def test_one_line_says_what_was_found_and_it_names_no_email(
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
def test_the_balance_is_that_of_the_argument_else_the_connections_organization(
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
def test_the_branch_goes_by_the_credits_there_are_now(account: Simulator, needed: Any, way: str) -> None:
    assert branch_operator(min_credits=needed).choose_branch({}) == way


@pytest.mark.parametrize("needed", [-1, "many", None, True])
def test_a_branch_refuses_a_threshold_that_is_seen_to_be_wrong(needed: Any) -> None:
    with pytest.raises(StabilityParameterError, match="min_credits is"):
        branch_operator(min_credits=needed)


def test_a_branch_whose_template_renders_to_no_threshold_fails_at_once(account: Simulator) -> None:
    operator = branch_operator(min_credits="{{ params.n }}")
    operator.min_credits = "many"
    with pytest.raises(AirflowFailException, match="min_credits is 'many'"):
        operator.choose_branch({})
    assert account.count() == 0


@EVERY_OPERATOR
@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_an_error_that_no_retry_mends_fails_the_task_at_once(
    account: Simulator, make: Callable[[], BaseOperator], status: int
) -> None:
    account.fail(status=status, times=None)
    with pytest.raises(AirflowFailException, match=str(status)):
        make().execute({})
    assert account.count() == 1


@EVERY_OPERATOR
def test_a_passing_error_is_repeated_and_then_left_to_the_tasks_retries(
    account: Simulator, monkeypatch: pytest.MonkeyPatch, mocker: Any, make: Callable[[], BaseOperator]
) -> None:
    mocker.patch("time.sleep")
    monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", account.connection(max_retries=2))
    account.fail(status=503, times=None)
    with pytest.raises(ServerError):
        make().execute({})
    assert account.count() == 3
