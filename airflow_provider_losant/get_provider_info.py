# SPDX-License-Identifier: Apache-2.0
"""What Airflow reads about this provider; imports neither Airflow nor the classes that it lists."""

from __future__ import annotations

from typing import Any

from airflow_provider_losant import __version__
from airflow_provider_losant.hooks import connection_form

_NAME = "Losant Notebooks"
_STORAGE = "Object storage"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata for Airflow's providers manager."""
    return {
        "package-name": "airflow-provider-losant",
        "name": "Losant",
        "description": "Run, wait for and cancel `Losant Notebooks <https://docs.losant.com/notebooks/overview/>`__.",
        "versions": [__version__],  # for registries of providers; Airflow asks the installed distribution
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://docs.losant.com/notebooks/overview/",
                "how-to-guide": [
                    f"/docs/operators/{it}.md"
                    for it in ("execute", "task-decorator", "sensor", "upload", "export", "sweep")
                ],
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
                "how-to-guide": "/docs/operators/outputs-to-object-storage.md",
                "python-module": "airflow_provider_losant.transfers.notebook_outputs",
            }
        ],
        "hooks": [_modules("airflow_provider_losant.hooks.base", "airflow_provider_losant.hooks.losant")],
        "triggers": [
            _modules("airflow_provider_losant.triggers.notebook", "airflow_provider_losant.triggers.sensor")
        ],
        "asset-uris": [_asset_uris()],
        "dataset-uris": [_asset_uris()],  # the name of assets in Airflow 2
        "task-decorators": [
            {
                "name": "losant_notebook",
                "class-name": "airflow_provider_losant.decorators.notebook.losant_notebook_task",
            }
        ],
        "extra-links": [
            "airflow_provider_losant.links.notebook.LosantNotebookLink",
            "airflow_provider_losant.links.report.LosantReportLink",
        ],
        "config": {"losant": {"description": "Settings of the provider for Losant.", "options": _options()}},
        "connection-types": [
            {
                "connection-type": "losant",
                "hook-class-name": "airflow_provider_losant.hooks.losant.LosantHook",
                "hook-name": "Losant",
                "external-services": ["Losant"],
                **connection_form.provider_info_form(),
            }
        ],
    }


def _options() -> dict[str, Any]:
    return {
        "report_links": {
            "description": (
                "Offer the link ``Open report`` on tasks that wait for a notebook. Airflow's web server then "
                "asks Losant for the signed URL of the report, with the connection of the task, so it needs "
                "access to Losant's API. On Airflow 3.0 and 3.1.0 the setting has no effect."
            ),
            "version_added": "0.1.0",
            "type": "boolean",
            "example": None,
            "default": "False",
        }
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
