# SPDX-License-Identifier: Apache-2.0
"""The handlers of the operations on the application and its notebooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_losant.emulator.http.context import SUCCESS, RequestContext
from airflow_provider_losant.emulator.state import serializers
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.model import Notebook

_SORT_KEYS: dict[str, Callable[[Notebook], Any]] = {
    "name": lambda notebook: notebook.name,
    "id": lambda notebook: notebook.id,
    "creationDate": lambda notebook: notebook.created_at,
    "lastUpdated": lambda notebook: notebook.updated_at,
    "lastExecutionRequested": lambda notebook: notebook.requested_at,
}


def get_application(context: RequestContext) -> tuple[int, Any]:
    """Return the application, with the statistics of its notebooks on request."""
    include = context.query.get("summaryInclude", "").split(",")
    return 200, serializers.application(
        context.backend,
        context.application,
        include_links=context.include_links,
        include_stats="notebookStats" in include,
    )


def list_notebooks(context: RequestContext) -> tuple[int, Any]:
    """Return one page of the application's notebooks, filtered and sorted."""
    query, backend = context.query, context.backend
    pattern = (query.get("filter") or "*").lower() if query.get("filterField") else "*"
    notebooks = [
        notebook
        for notebook in backend.notebooks.values()
        if notebook.application_id == context.application.id and fnmatchcase(notebook.name.lower(), pattern)
    ]
    sort, direction = query.get("sortField", "name"), query.get("sortDirection", "asc")
    notebooks.sort(key=_SORT_KEYS[sort], reverse=direction == "desc")
    page, per_page = max(0, context.integer("page", 0)), max(1, context.integer("perPage", 100))
    per_page = min(per_page, backend.switches.max_per_page or per_page)
    items = [_to_api(context, notebook) for notebook in notebooks[page * per_page : (page + 1) * per_page]]
    filters = {key: query[key] for key in ("filter", "filterField") if key in query}
    path = f"/applications/{context.application.id}/notebooks"
    return 200, {
        "_type": "notebooks",
        "items": items,
        "count": len(items),
        "totalCount": len(notebooks),
        "page": page,
        "perPage": per_page,
        "sortField": sort,
        "sortDirection": direction,
        "applicationId": context.application.id,
        **filters,
        **(serializers.links(path) if context.include_links else {}),
    }


def create_notebook(context: RequestContext) -> tuple[int, Any]:
    """Create a notebook."""
    now = context.backend.clock()
    notebook = Notebook(
        id=object_id(now),
        application_id=context.application.id,
        created_at=now,
        updated_at=now,
        max_minutes=context.backend.switches.minutes_per_run,
        **serializers.settings_from_api(context.body),
    )
    context.backend.put(notebook)
    return 201, _to_api(context, notebook)


def get_notebook(context: RequestContext) -> tuple[int, Any]:
    """Return the notebook."""
    return 200, _to_api(context, context.notebook)


def patch_notebook(context: RequestContext) -> tuple[int, Any]:
    """Change the settings in the body; lists are replaced as a whole."""
    settings = serializers.settings_from_api(context.body)
    notebook = replace(context.notebook, updated_at=context.backend.clock(), **settings)
    context.backend.put(notebook)
    return 200, _to_api(context, notebook)


def delete_notebook(context: RequestContext) -> tuple[int, Any]:
    """Delete the notebook."""
    context.backend.delete(context.notebook)
    return 200, SUCCESS


def upload(context: RequestContext) -> tuple[int, Any]:
    """Store the file of the notebook."""
    return 200, _to_api(context, context.backend.upload(context.notebook, *context.file))


def _to_api(context: RequestContext, notebook: Notebook) -> dict[str, Any]:
    return serializers.notebook(context.backend, notebook, include_links=context.include_links)
