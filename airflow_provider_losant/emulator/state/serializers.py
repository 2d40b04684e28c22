# SPDX-License-Identifier: Apache-2.0
"""Converts applications, notebooks and executions to the JSON of Losant's API, and settings from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_losant.emulator.state.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Application, Notebook
    from airflow_provider_losant.emulator.state.timeline import Execution

_SETTINGS = {
    "name": "name",
    "description": "description",
    "imageVersion": "image_version",
    "inputs": "inputs",
    "outputs": "outputs",
}


def settings_from_api(body: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings in the body of a request to fields of ``Notebook``."""
    return {_SETTINGS[key]: value for key, value in body.items()}


def links(path: str) -> dict[str, Any]:
    """Return the ``_links`` of an entity."""
    return {"_links": {"self": {"href": path}}}


def application(
    backend: Backend, entity: Application, *, include_links: bool, include_stats: bool
) -> dict[str, Any]:
    """Convert an application."""
    now = backend.clock()
    executions = list(backend.executions_of_application(entity.id)) if include_stats else []
    stats = {
        "awaitingCompletion": sum(not execution.is_over(now) for execution in executions),
        "minutesThisPeriod": sum(execution.minutes(now) for execution in executions),
        "runsThisPeriod": len(executions),
    }
    return {
        "_type": "application",
        "id": entity.id,
        "applicationId": entity.id,
        "name": entity.name,
        "creationDate": format_timestamp(entity.created_at),
        "lastUpdated": format_timestamp(entity.created_at),
        "summary": {
            "notebookCount": sum(
                notebook.application_id == entity.id for notebook in backend.notebooks.values()
            ),
            **({"notebookStats": stats} if include_stats else {}),
        },
        **(links(f"/applications/{entity.id}") if include_links else {}),
    }


def notebook(backend: Backend, entity: Notebook, *, include_links: bool) -> dict[str, Any]:
    """Convert a notebook; description and file are absent until it has them."""
    now = backend.clock()
    executions = list(backend.executions(entity.id))
    path = f"/applications/{entity.application_id}/notebooks/{entity.id}"
    body: dict[str, Any] = {
        "_type": "notebook",
        "id": entity.id,
        "notebookId": entity.id,
        "applicationId": entity.application_id,
        "creationDate": format_timestamp(entity.created_at),
        "lastUpdated": format_timestamp(entity.updated_at),
        "name": entity.name,
        "imageVersion": entity.image_version,
        "inputs": list(entity.inputs),
        "outputs": list(entity.outputs),
        "stats": {
            "minutesThisPeriod": sum(execution.minutes(now) for execution in executions),
            "runsThisPeriod": len(executions),
            "errorsThisPeriod": sum(execution.status(now) == "errored" for execution in executions),
        },
        **(links(path) if include_links else {}),
    }
    if entity.description is not None:
        body["description"] = entity.description
    if entity.file_name is not None:
        body["jupyterFileName"] = entity.file_name
        body["jupyterFileUrl"] = backend.signed_url(f"/{entity.id}/notebook", now)
    return body


def execution(backend: Backend, entity: Execution) -> dict[str, Any]:
    """Convert an execution to its current log entry."""
    now = backend.clock()
    signed_at = now if backend.switches.resign_urls else entity.ended_at or now

    def url(kind: str, name: str) -> str:
        return backend.signed_url(f"/{entity.id}/{kind}/{quote(name)}", signed_at)

    return entity.to_api(now, url)


def execution_log(backend: Backend, notebook_id: str) -> list[dict[str, Any]]:
    """Convert all executions of a notebook, newest first."""
    with backend.lock:
        return [execution(backend, entity) for entity in backend.executions(notebook_id.lower())]
