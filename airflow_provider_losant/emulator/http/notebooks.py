# SPDX-License-Identifier: Apache-2.0
"""What the operations on the application and its notebooks do, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_losant.emulator.http.context import SUCCESS, RequestContext
from airflow_provider_losant.emulator.state import serializers
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.model import Notebook


def get_application(context: RequestContext) -> tuple[int, Any]:
    """Show the application, with its notebook figures when they are asked for."""
    wanted = context.query.get("summaryInclude", "").split(",")
    return 200, serializers.application(
        context.backend, context.application, links=context.include_links, stats="notebookStats" in wanted
    )


def list_notebooks(context: RequestContext) -> tuple[int, Any]:
    """List the notebooks of the application, sorted, filtered and in pages."""
    query, backend = context.query, context.backend
    name_filter = query.get("filter") or "*"
    found = [
        notebook
        for notebook in backend.notebooks.values()
        if notebook.application_id == context.application.id
        and fnmatchcase(notebook.name.lower(), name_filter.lower() if query.get("filterField") else "*")
    ]
    keys: dict[str, Callable[[Notebook], Any]] = {
        "name": lambda notebook: notebook.name,
        "id": lambda notebook: notebook.id,
        "creationDate": lambda notebook: notebook.created_at,
        "lastUpdated": lambda notebook: notebook.updated_at,
        "lastExecutionRequested": lambda notebook: notebook.requested_at,
    }
    sort, direction = query.get("sortField", "name"), query.get("sortDirection", "asc")
    found.sort(key=keys[sort], reverse=direction == "desc")
    page, per_page = max(0, context.integer("page", 0)), max(1, context.integer("perPage", 100))
    per_page = min(per_page, backend.switches.max_per_page or per_page)
    items = [
        serializers.notebook(backend, notebook, links=context.include_links)
        for notebook in found[page * per_page : (page + 1) * per_page]
    ]
    echoed = {key: query[key] for key in ("filter", "filterField") if key in query}
    return 200, {
        "_type": "notebooks",
        "items": items,
        "count": len(items),
        "totalCount": len(found),
        "page": page,
        "perPage": per_page,
        "sortField": sort,
        "sortDirection": direction,
        "applicationId": context.application.id,
        **echoed,
        **serializers.located(
            f"/applications/{context.application.id}/notebooks", wanted=context.include_links
        ),
    }


def create_notebook(context: RequestContext) -> tuple[int, Any]:
    """Make a notebook."""
    now = context.backend.clock()
    made = Notebook(
        id=object_id(now),
        application_id=context.application.id,
        created_at=now,
        updated_at=now,
        max_minutes=context.backend.switches.minutes_per_run,
        **serializers.settings(context.body),
    )
    context.backend.put(made)
    return 201, serializers.notebook(context.backend, made, links=context.include_links)


def get_notebook(context: RequestContext) -> tuple[int, Any]:
    """Show the notebook."""
    return 200, serializers.notebook(context.backend, context.notebook, links=context.include_links)


def patch_notebook(context: RequestContext) -> tuple[int, Any]:
    """Change what the body names; lists are replaced as a whole."""
    changed = replace(
        context.notebook, updated_at=context.backend.clock(), **serializers.settings(context.body)
    )
    context.backend.put(changed)
    return 200, serializers.notebook(context.backend, changed, links=context.include_links)


def delete_notebook(context: RequestContext) -> tuple[int, Any]:
    """Forget the notebook."""
    context.backend.delete(context.notebook)
    return 200, SUCCESS


def upload(context: RequestContext) -> tuple[int, Any]:
    """Give the notebook its file."""
    changed = context.backend.upload(context.notebook, *context.file)
    return 200, serializers.notebook(context.backend, changed, links=context.include_links)
