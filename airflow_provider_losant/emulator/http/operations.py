# SPDX-License-Identifier: Apache-2.0
"""The operations of the API: where they live, what they take, and who may call them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from airflow_provider_losant.emulator.http.schemas import ID

_APPLICATION: Final = ("applications", "{applicationId}")
_NOTEBOOKS: Final = (*_APPLICATION, "notebooks")
_NOTEBOOK: Final = (*_NOTEBOOKS, "{notebookId}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a query parameter has to look like."""

    required: bool = False
    pattern: str | None = None
    enum: tuple[str, ...] = ()

    def problem(self, name: str, given: list[str]) -> str | None:
        """Say what is wrong with the values given; ``None`` when nothing is."""
        if not given:
            return f"{name} is required" if self.required else None
        if len(given) > 1:
            return f"{name} is the wrong type"
        if self.pattern and not re.match(self.pattern, given[0]):
            return f"{name} pattern mismatch"
        return f"{name} must be an enum value" if self.enum and given[0] not in self.enum else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    One thing that the API can do.

    :param path: the segments of its path; those in braces are ids.
    :param scopes: the scopes that allow it beside the broad ones.
    :param accepts_read_scopes: whether a scope for reading is enough.
    :param body: the shape of its JSON body, if it has one.
    :param file: the name of the part that holds a file, if it takes one.
    """

    name: str
    method: str
    path: tuple[str, ...]
    scopes: tuple[str, ...]
    accepts_read_scopes: bool = False
    query: Mapping[str, Query] = field(default_factory=dict)
    body: str | None = None
    file: str | None = None

    def ids(self, method: str, segments: list[str]) -> dict[str, str] | None:
        """Return the ids in a path when it is this operation's, ``None`` otherwise."""
        if method != self.method or len(segments) != len(self.path):
            return None
        ids: dict[str, str] = {}
        for wanted, found in zip(self.path, segments, strict=True):
            if wanted.startswith("{"):
                ids[wanted[1:-1]] = found
            elif wanted != found:
                return None
        return ids


def _of_notebook(
    name: str,
    method: str,
    tail: str = "",
    *,
    accepts_read_scopes: bool = False,
    scope: str = "",
    **more: Query,
) -> Operation:
    body = {
        "execute": "executionOptions",
        "patch": "notebook",
        "requestInputDataExport": "exportOptions",
    }.get(name)
    return Operation(
        name=f"notebook.{name}",
        method=method,
        path=(*_NOTEBOOK, tail) if tail else _NOTEBOOK,
        scopes=(f"notebook.{scope or name}", "notebook.*"),
        accepts_read_scopes=accepts_read_scopes,
        query=more,
        body=body,
        file="jupyterFile" if name == "upload" else None,
    )


_SORT_FIELDS = ("name", "id", "creationDate", "lastUpdated", "lastExecutionRequested")

OPERATIONS: Final = (
    Operation(
        name="application.get",
        method="GET",
        path=_APPLICATION,
        accepts_read_scopes=True,
        scopes=("application.get", "application.*", "all.Application.cli"),
    ),
    Operation(
        name="notebooks.get",
        method="GET",
        path=_NOTEBOOKS,
        accepts_read_scopes=True,
        scopes=("notebooks.get", "notebooks.*"),
        query={
            "sortField": Query(enum=_SORT_FIELDS),
            "sortDirection": Query(enum=("asc", "desc")),
            "page": Query(),
            "perPage": Query(),
            "filterField": Query(enum=("name",)),
            "filter": Query(),
        },
    ),
    Operation(
        name="notebooks.post",
        method="POST",
        path=_NOTEBOOKS,
        scopes=("notebooks.post", "notebooks.*"),
        body="newNotebook",
    ),
    _of_notebook("get", "GET", accepts_read_scopes=True),
    _of_notebook("patch", "PATCH"),
    _of_notebook("delete", "DELETE"),
    _of_notebook("execute", "POST", "execute"),
    _of_notebook(
        "cancelExecution",
        "POST",
        "cancelExecution",
        scope="execute",
        executionId=Query(required=True, pattern=ID),
    ),
    _of_notebook("logs", "GET", "logs", accepts_read_scopes=True, limit=Query(), since=Query()),
    _of_notebook(
        "notebookMinuteCounts",
        "GET",
        "notebookMinuteCounts",
        accepts_read_scopes=True,
        start=Query(),
        end=Query(),
    ),
    _of_notebook("requestInputDataExport", "POST", "requestInputDataExport", accepts_read_scopes=True),
    _of_notebook("upload", "POST", "upload"),
)


def find(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """Find the operation for a request, and the ids in its path; a trailing slash does not matter."""
    segments = [unquote(segment) for segment in path.rstrip("/").split("/")[1:]]
    for operation in OPERATIONS:
        ids = operation.ids(method, segments)
        if ids is not None:
            return operation, ids
    return None
