"""Every extra field changes what is sent, or how: one that is defined and never used fails here."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_stability.api.client import StabilityClient
from airflow_provider_stability.connection.fields import EXTRA_FIELDS
from airflow_provider_stability.connection.rules import TEXT
from airflow_provider_stability.connection.settings import Settings
from airflow_provider_stability.exceptions import (
    ServerError,
    StabilityConfigurationError,
    StabilityConnectionError,
    StabilityTimeoutError,
)
from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_stability.simulator import RecordedRequest

pytestmark = pytest.mark.usefixtures("no_proxy")

KEY = "sk-canary-7HqZw9PLkmXt"
HEADERS = [name for name, field in EXTRA_FIELDS.items() if field.header is not None]


@contextlib.contextmanager
def client(host: str, **extra: Any) -> Iterator[StabilityClient]:
    settings = Settings.parse("c", password=KEY, host=host, extra=extra)
    with contextlib.closing(StabilityClient(settings, sleep=lambda _: None)) as made:
        yield made


def request(**extra: Any) -> RecordedRequest:
    """Read a balance, and return the request."""
    with Simulator(api_key=KEY, organizations={"org-b": 1.0}) as simulator:
        with client(simulator.base_url, **extra) as calling:
            calling.get_balance()
        (only,) = simulator.requests
    return only


def changes_the_path() -> None:
    assert request().path == "/v1/user/balance"
    assert request(api_version="v1alpha").path == "/v1alpha/user/balance"


def ends_a_call() -> None:
    with (
        Simulator(api_key=KEY) as simulator,
        client(simulator.base_url, timeout=0.3, max_retries=0) as calling,
    ):
        simulator.fail(delay=60)
        with pytest.raises(StabilityTimeoutError, match=r"within 0\.3 s"):
            calling.get_balance()


def changes_the_number_of_tries() -> None:
    with Simulator(api_key=KEY) as simulator, client(simulator.base_url, max_retries=5) as calling:
        simulator.fail(503, times=None)
        with pytest.raises(ServerError):
            calling.get_balance()
        assert simulator.count() == 6


def decides_on_a_certificate() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator(api_key=KEY, ssl_context=context) as simulator, authority.cert_pem.tempfile() as path:
        with client(simulator.base_url) as calling, pytest.raises(StabilityConnectionError):
            calling.get_balance()
        with client(simulator.base_url, verify=path) as calling:
            calling.get_balance()


def leads_through_the_proxy() -> None:
    with Simulator(api_key=KEY) as proxy:
        proxy.fail(body="[]")
        with client("http://api.invalid", allow_http=True, proxy=proxy.base_url) as calling:
            calling.run("/v1/engines/list")
        assert proxy.requests[0].headers["Host"] == "api.invalid"


def allows_a_host() -> None:
    with pytest.raises(StabilityConfigurationError, match="unencrypted"):
        Settings.parse("c", password=KEY, host="http://api.invalid")
    settings = Settings.parse("c", password=KEY, host="http://api.invalid", extra={"allow_http": True})
    assert settings.base_url == "http://api.invalid"


EFFECTS: dict[str, Callable[[], None]] = {
    "api_version": changes_the_path,
    "timeout": ends_a_call,
    "max_retries": changes_the_number_of_tries,
    "verify": decides_on_a_certificate,
    "proxy": leads_through_the_proxy,
    "allow_http": allows_a_host,
}
"""What each field does that is not sent as a header."""


@pytest.mark.parametrize("name", HEADERS)
def test_field_with_a_header_is_sent_in_it(name: str) -> None:
    field = EXTRA_FIELDS[name]
    assert field.header is not None
    value = "org-b" if name == "organization" else "a value"
    assert value not in request().headers.values()
    for version in ("v1", "v1alpha"):
        sent = request(**{name: value, "api_version": version}).headers.get(field.header)
        assert sent == (value if version in field.header_versions else None)


@pytest.mark.parametrize("name", [name for name in EXTRA_FIELDS if name not in HEADERS])
def test_field_without_a_header_has_its_effect(name: str) -> None:
    assert name in EFFECTS, f"{name} is defined, but nothing shows that it is used: add its effect here"
    EFFECTS[name]()


def test_fields_with_a_header_are_text_that_fits_one() -> None:
    assert {EXTRA_FIELDS[name].rule for name in HEADERS} <= {TEXT, EXTRA_FIELDS["organization"].rule}


@pytest.mark.parametrize("field", EXTRA_FIELDS.values(), ids=lambda field: field.name)
def test_form_shows_label_help_type_and_default(field: Any) -> None:
    schema = field.form["schema"]
    assert (field.form["label"], field.form["description"]) == (field.label, field.help)
    assert schema["type"] == [field.rule.kind, "null"]
    assert schema.get("default") == field.default
    assert field.help.endswith(".")
