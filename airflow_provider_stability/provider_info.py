"""What Airflow reads about this package: modules, connection form, links.

Airflow 3.3 draws the form from here without importing the hook; 3.1 and earlier call the hook's two form
methods. Both are built from ``connection_fields``.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_stability.connection.fields import (
    CONNECTION_TYPE,
    EXTRA_FIELDS,
    HIDDEN_FIELDS,
    HOOK_NAME,
    PLACEHOLDERS,
    RELABELING,
)

__all__ = ["get_provider_info"]

_PACKAGE = "airflow_provider_stability"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as the ``apache_airflow_provider`` entry point is to give it."""
    integration = HOOK_NAME
    return {
        "package-name": "airflow-provider-stability",
        "name": HOOK_NAME,
        # Airflow 2 shows the link's text, Airflow 3 the text and the address: at the end both read well.
        "description": "Hold jobs until there are enough credits for them at `Stability AI <https://stability.ai/>`__.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://platform.stability.ai/docs/api-reference",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": [f"{_PACKAGE}.hooks.stability"]}],
        "sensors": [{"integration-name": integration, "python-modules": [f"{_PACKAGE}.sensors.balance"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [f"{_PACKAGE}.operators.account", f"{_PACKAGE}.operators.balance"],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [f"{_PACKAGE}.triggers.balance", f"{_PACKAGE}.triggers.crossing"],
            }
        ],
        "extra-links": [f"{_PACKAGE}.links.BillingLink"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": f"{_PACKAGE}.hooks.stability.StabilityHook",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": {
                    "hidden-fields": list(HIDDEN_FIELDS),
                    "relabeling": dict(RELABELING),
                    "placeholders": dict(PLACEHOLDERS),
                },
                "conn-fields": {
                    field.name: {
                        "label": field.label,
                        "description": field.help,
                        "schema": field.json_schema,
                    }
                    for field in EXTRA_FIELDS.values()
                },
            }
        ],
    }
