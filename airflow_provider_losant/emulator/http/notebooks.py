# SPDX-License-Identifier: Apache-2.0
"""What the operations on the application and its notebooks do, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_losant.emulator.http.context import DONE, Asked
from airflow_provider_losant.emulator.state import serializers
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.model import Notebook


def get_application(asked: Asked) -> tuple[int, Any]:
    """Show the application, with its notebook figures when they are asked for."""
    wanted = asked.query.get("summaryInclude", "").split(",")
    return 200, serializers.application(
        asked.backend, asked.application, links=asked.links, stats="notebookStats" in wanted
    )


def list_notebooks(asked: Asked) -> tuple[int, Any]:
    """List the notebooks of the application, sorted, filtered and in pages."""
    query, backend = asked.query, asked.backend
    name_filter = query.get("filter") or "*"
    found = [
        notebook
        for notebook in backend.notebooks.values()
        if notebook.application_id == asked.application.id
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
    page, per_page = max(0, asked.number("page", 0)), max(1, asked.number("perPage", 100))
    per_page = min(per_page, backend.switches.max_per_page or per_page)
    items = [
        serializers.notebook(backend, notebook, links=asked.links)
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
        "applicationId": asked.application.id,
        **echoed,
        **serializers.located(f"/applications/{asked.application.id}/notebooks", wanted=asked.links),
    }


def create_notebook(asked: Asked) -> tuple[int, Any]:
    """Make a notebook."""
    now = asked.backend.clock()
    made = Notebook(
        id=object_id(now),
        application_id=asked.application.id,
        created_at=now,
        updated_at=now,
        max_minutes=asked.backend.switches.minutes_per_run,
        **serializers.settings(asked.body),
    )
    asked.backend.put(made)
    return 201, serializers.notebook(asked.backend, made, links=asked.links)


def get_notebook(asked: Asked) -> tuple[int, Any]:
    """Show the notebook."""
    return 200, serializers.notebook(asked.backend, asked.notebook, links=asked.links)


def patch_notebook(asked: Asked) -> tuple[int, Any]:
    """Change what the body names; lists are replaced as a whole."""
    changed = replace(asked.notebook, updated_at=asked.backend.clock(), **serializers.settings(asked.body))
    asked.backend.put(changed)
    return 200, serializers.notebook(asked.backend, changed, links=asked.links)


def delete_notebook(asked: Asked) -> tuple[int, Any]:
    """Forget the notebook."""
    asked.backend.delete(asked.notebook)
    return 200, DONE


def upload(asked: Asked) -> tuple[int, Any]:
    """Give the notebook its file."""
    changed = asked.backend.upload(asked.notebook, *asked.file)
    return 200, serializers.notebook(asked.backend, changed, links=asked.links)
