# SPDX-License-Identifier: Apache-2.0
"""Tell Airflow what this provider offers, without importing Airflow or any of it."""

from __future__ import annotations

from typing import Any

_NAME = "Losant Notebooks"
_STORAGE = "Object storage"
_NULLABLE_STRING = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow's providers manager and to its connection form."""
    return {
        "package-name": "airflow-provider-losant",
        "name": "Losant",
        "description": "Run, await, cancel and observe `Losant Notebooks <https://docs.losant.com/notebooks/overview/>`__.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://docs.losant.com/notebooks/overview/",
                "tags": ["service"],
            },
            {
                "integration-name": _STORAGE,
                "external-doc-url": "https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/objectstorage.html",
                "tags": ["software"],
            },
        ],
        "operators": [
            _modules(
                "airflow_provider_losant.operators.notebook",
                "airflow_provider_losant.operators.upload",
                "airflow_provider_losant.operators.export",
                "airflow_provider_losant.operators.sweep",
            )
        ],
        "sensors": [_modules("airflow_provider_losant.sensors.notebook")],
        "transfers": [
            {
                "source-integration-name": _NAME,
                "target-integration-name": _STORAGE,
                "python-module": "airflow_provider_losant.transfers.notebook_outputs",
            }
        ],
        "hooks": [_modules("airflow_provider_losant.hooks.losant")],
        "triggers": [
            _modules("airflow_provider_losant.triggers.notebook", "airflow_provider_losant.triggers.sensor")
        ],
        "asset-uris": [_asset_uris()],
        "dataset-uris": [_asset_uris()],  # their name in Airflow 2
        "task-decorators": [
            {
                "name": "losant_notebook",
                "class-name": "airflow_provider_losant.decorators.notebook.losant_notebook_task",
            }
        ],
        "extra-links": ["airflow_provider_losant.links.notebook.LosantNotebookLink"],
        "connection-types": [
            {
                "connection-type": "losant",
                "hook-class-name": "airflow_provider_losant.hooks.losant.LosantHook",
                "hook-name": "Losant",
                "ui-field-behaviour": _standard_fields(),
                "conn-fields": _extra_fields(),
            }
        ],
    }


def _asset_uris() -> dict[str, Any]:
    module = "airflow_provider_losant.assets.notebook"
    return {
        "schemes": ["losant"],
        "handler": f"{module}.sanitize_uri",
        "factory": f"{module}.create_asset",
        "to_openlineage_converter": f"{module}.convert_asset_to_openlineage",
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": _NAME, "python-modules": list(names)}


def _standard_fields() -> dict[str, Any]:
    return {
        "hidden-fields": ["login", "schema"],
        "relabeling": {"host": "API host", "password": "API token"},
        "placeholders": {
            "host": "https://api.losant.com",
            "password": "an application API token",
        },
    }


def _extra_fields() -> dict[str, Any]:
    # No defaults here: the form would store them in each connection, out of reach of a later release.
    return {
        "application_id": {
            "label": "Application ID",
            "description": "The application used when a task names none: 24 hexadecimal digits.",
            "schema": {"type": ["string", "null"], "pattern": "^([0-9A-Fa-f]{24})?$"},
        },
        "app_url": {
            "label": "Web UI address",
            "description": "Where the links of a task lead; https://app.losant.com when empty.",
            "schema": _NULLABLE_STRING,
        },
        "timeout": {
            "label": "Timeout in seconds",
            "description": "How long the host may stay silent within a request.",
            "schema": {"type": ["number", "null"], "minimum": 0.1},
        },
        "max_retries": {
            "label": "Retries of a request",
            "description": "How often a request is sent again, where that is safe, before its error counts.",
            "schema": {"type": ["integer", "null"], "minimum": 0},
        },
        "allow_http": {
            "label": "Allow plain HTTP",
            "description": "Send the token unencrypted to a host that is not this machine. Leave it off.",
            "schema": {"type": ["boolean", "null"]},
        },
        "verify": {
            "label": "TLS verification",
            "description": "Path of a CA bundle, or false to trust any certificate. Empty: the usual checks.",
            "schema": _NULLABLE_STRING,
        },
    }
