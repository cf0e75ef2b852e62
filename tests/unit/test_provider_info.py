"""What Airflow finds when the package is installed: provider, form, link."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.providers_manager import ProvidersManager

import airflow_provider_stability
from airflow_provider_stability.connection.fields import EXTRA_FIELDS, HIDDEN_FIELDS, PLACEHOLDERS, RELABELING
from airflow_provider_stability.hooks.stability import StabilityHook
from airflow_provider_stability.provider_info import get_provider_info
from airflow_provider_stability.sensors.balance import BalanceSensor


def test_entry_point_returns_the_metadata() -> None:
    (point,) = (each for each in entry_points(group="apache_airflow_provider") if "stability" in each.value)
    assert point.load()() == get_provider_info()


def test_airflow_finds_the_provider_and_its_version() -> None:
    provider = ProvidersManager().providers["airflow-provider-stability"]
    assert provider.version == version("airflow-provider-stability") == airflow_provider_stability.__version__


def test_airflow_finds_the_hook_of_the_connection_type() -> None:
    hook = ProvidersManager().hooks["stability"]
    assert hook is not None
    assert hook.hook_name == "Stability AI"
    assert hook.connection_id_attribute_name == "stability_conn_id"
    assert "stability_conn_id" in inspect.signature(StabilityHook.__init__).parameters


def test_link_is_registered() -> None:
    assert "airflow_provider_stability.links.BillingLink" in ProvidersManager().extra_links_class_names


def test_metadata_lists_exactly_the_modules_that_exist() -> None:
    info = get_provider_info()
    kinds = ("hooks", "sensors", "operators")
    declared = {module for kind in kinds for entry in info[kind] for module in entry["python-modules"]}
    for module in declared:
        import_module(module)
    declared = {
        module
        for kind in ("hooks", "sensors", "operators")
        for e in info[kind]
        for module in e["python-modules"]
    }
    package = Path(airflow_provider_stability.__file__).parent
    found = {
        f"airflow_provider_stability.{kind}.{path.stem}"
        for kind in kinds
        for path in (package / kind).glob("[a-z]*.py")
    }
    assert declared == found


def test_declarative_form_has_labels_hidden_fields_and_help() -> None:
    (kind,) = get_provider_info()["connection-types"]
    assert kind["ui-field-behaviour"] == {
        "hidden-fields": list(HIDDEN_FIELDS),
        "relabeling": {"host": "Base URL", "password": "API key"},
        "placeholders": PLACEHOLDERS,
    }
    assert list(kind["conn-fields"]) == list(EXTRA_FIELDS)
    for field in kind["conn-fields"].values():
        assert field["label"]
        assert field["description"]
        assert field["schema"]["type"][1] == "null"


def test_form_defaults_mean_the_same_as_empty_fields() -> None:
    from airflow_provider_stability.connection.settings import Settings  # noqa: PLC0415  # only here

    fresh: Any = Settings.parse("any", password="sk-1234567")
    typed = {name: field.default for name, field in EXTRA_FIELDS.items() if name != "allow_http"}
    by_form: Any = Settings.parse("any", password="sk-1234567", extra=typed)
    assert by_form == fresh


def test_hook_methods_return_the_same_form() -> None:
    behaviour = StabilityHook.get_ui_field_behaviour()
    assert behaviour == {
        "hidden_fields": list(HIDDEN_FIELDS),
        "relabeling": RELABELING,
        "placeholders": PLACEHOLDERS,
    }


def test_airflow_shows_every_field_with_label_and_help() -> None:
    shown = form_of_airflow_3() if AIRFLOW_V_3_0_PLUS else form_of_airflow_2()
    assert shown == {name: (field.label, field.help) for name, field in EXTRA_FIELDS.items()}


def form_of_airflow_2() -> dict[str, tuple[str, str]]:
    """Return label and help of what flask_appbuilder draws."""
    widgets = ProvidersManager().connection_form_widgets
    return {
        name.split("__")[-1]: (widget.field.args[0], widget.field.kwargs["description"])
        for name, widget in widgets.items()
        if "__stability__" in name
    }


def form_of_airflow_3() -> dict[str, tuple[str, str]]:
    """Return label and help of what the UI asks its server for."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService  # noqa: PLC0415  # 3.x only

    (ours,) = (each for each in HookMetaService.hook_meta_data() if each.connection_type == "stability")
    assert ours.standard_fields is not None
    assert ours.standard_fields.password is not None
    assert ours.standard_fields.password.title == "API key"
    assert ours.standard_fields.url_schema is not None
    assert ours.standard_fields.url_schema.hidden
    fields = (ours.extra_fields or {}).items()
    return {name: (field["schema"]["title"], field["description"]) for name, field in fields}


def test_importing_the_sensor_imports_no_heavy_library() -> None:
    code = (
        "import sys; from airflow.providers.common.compat.sdk import BaseSensorOperator, BaseHook;"
        "before = set(sys.modules); from airflow_provider_stability.sensors.balance import BalanceSensor;"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    brought = json.loads(done.stdout.splitlines()[-1])
    assert "airflow_provider_stability.sensors.balance" in brought
    heavy = {"requests", "urllib3", "httpx", "aiohttp", "pydantic", "tenacity"}
    assert {name.split(".")[0] for name in brought} & heavy == set()


def test_sensor_has_the_buy_credits_link() -> None:
    assert [link.name for link in BalanceSensor(task_id="gate", min_credits=1).operator_extra_links] == [
        "Buy credits"
    ]
