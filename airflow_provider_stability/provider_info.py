"""What Airflow reads about this package: modules, connection form, links.

Airflow 3.2 and later draw the connection form from here without importing the hook; earlier versions call the
hook's two form methods. Both come from ``connection.fields``.
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
    """Return the provider's metadata for the ``apache_airflow_provider`` entry point."""
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
                "conn-fields": {name: field.form for name, field in EXTRA_FIELDS.items()},
            }
        ],
    }
