# SPDX-License-Identifier: Apache-2.0
"""How applications and notebooks look on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.emulator.state.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Application, Notebook

_SETTINGS = {
    "name": "name",
    "description": "description",
    "imageVersion": "image_version",
    "inputs": "inputs",
    "outputs": "outputs",
}


def settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the settings in the body of a request."""
    return {_SETTINGS[key]: value for key, value in body.items()}


def located(path: str, *, wanted: bool) -> dict[str, Any]:
    """Say where an entity lives, when that is wanted."""
    return {"_links": {"self": {"href": path}}} if wanted else {}


def application(backend: Backend, shown: Application, *, links: bool, stats: bool) -> dict[str, Any]:
    """Write an application."""
    now = backend.clock()
    runs = list(backend.of_application(shown.id)) if stats else []
    figures = {
        "awaitingCompletion": sum(not run.is_over(now) for run in runs),
        "minutesThisPeriod": sum(run.minutes(now) for run in runs),
        "runsThisPeriod": len(runs),
    }
    return {
        "_type": "application",
        "id": shown.id,
        "applicationId": shown.id,
        "name": shown.name,
        "creationDate": format_timestamp(shown.created_at),
        "lastUpdated": format_timestamp(shown.created_at),
        "summary": {
            "notebookCount": sum(
                notebook.application_id == shown.id for notebook in backend.notebooks.values()
            ),
            **({"notebookStats": figures} if stats else {}),
        },
        **located(f"/applications/{shown.id}", wanted=links),
    }


def notebook(backend: Backend, shown: Notebook, *, links: bool) -> dict[str, Any]:
    """Write a notebook; its file and description are absent until it has them."""
    now = backend.clock()
    runs = list(backend.executions(shown.id))
    written: dict[str, Any] = {
        "_type": "notebook",
        "id": shown.id,
        "notebookId": shown.id,
        "applicationId": shown.application_id,
        "creationDate": format_timestamp(shown.created_at),
        "lastUpdated": format_timestamp(shown.updated_at),
        "name": shown.name,
        "imageVersion": shown.image_version,
        "inputs": list(shown.inputs),
        "outputs": list(shown.outputs),
        "stats": {
            "minutesThisPeriod": sum(run.minutes(now) for run in runs),
            "runsThisPeriod": len(runs),
            "errorsThisPeriod": sum(run.status(now) == "errored" for run in runs),
        },
        **located(f"/applications/{shown.application_id}/notebooks/{shown.id}", wanted=links),
    }
    if shown.description is not None:
        written["description"] = shown.description
    if shown.file_name is not None:
        written["jupyterFileName"] = shown.file_name
        written["jupyterFileUrl"] = backend.address(f"/{shown.id}/notebook", now)
    return written
