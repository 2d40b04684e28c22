# SPDX-License-Identifier: Apache-2.0
"""The operations of the API: method and path, parameters, body and scopes."""

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
class QueryParameter:
    """
    The rules for a query parameter.

    :param required: whether it must be present.
    :param pattern: a regular expression that its value must match.
    :param enum: its allowed values; empty if there is no such rule.
    """

    required: bool = False
    pattern: str | None = None
    enum: tuple[str, ...] = ()

    def error(self, name: str, values: list[str]) -> str | None:
        """Return Losant's message if the values break a rule, ``None`` otherwise."""
        if not values:
            return f"{name} is required" if self.required else None
        if len(values) > 1:
            return f"{name} is the wrong type"
        if self.pattern and not re.match(self.pattern, values[0]):
            return f"{name} pattern mismatch"
        return f"{name} must be an enum value" if self.enum and values[0] not in self.enum else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    An operation of the API.

    :param path: the segments of its path; those in braces are ids.
    :param scopes: the scopes for this operation; tokens with a scope for everything may call it, too.
    :param accepts_read_scopes: whether a scope for reading is enough.
    :param query: its query parameters by name.
    :param body: the name of its body's schema; ``None`` if it has no JSON body.
    :param file: the name of the form field for a file; ``None`` if it takes no file.
    """

    name: str
    method: str
    path: tuple[str, ...]
    scopes: tuple[str, ...]
    accepts_read_scopes: bool = False
    query: Mapping[str, QueryParameter] = field(default_factory=dict)
    body: str | None = None
    file: str | None = None

    def match(self, method: str, segments: list[str]) -> dict[str, str] | None:
        """Return the ids in a path if method and path are those of this operation, ``None`` otherwise."""
        if method != self.method or len(segments) != len(self.path):
            return None
        ids: dict[str, str] = {}
        for expected, segment in zip(self.path, segments, strict=True):
            if expected.startswith("{"):
                ids[expected[1:-1]] = segment
            elif expected != segment:
                return None
        return ids


def _notebook_operation(
    name: str,
    method: str,
    tail: str = "",
    *,
    accepts_read_scopes: bool = False,
    scope: str = "",
    **query: QueryParameter,
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
        query=query,
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
            "sortField": QueryParameter(enum=_SORT_FIELDS),
            "sortDirection": QueryParameter(enum=("asc", "desc")),
            "page": QueryParameter(),
            "perPage": QueryParameter(),
            "filterField": QueryParameter(enum=("name",)),
            "filter": QueryParameter(),
        },
    ),
    Operation(
        name="notebooks.post",
        method="POST",
        path=_NOTEBOOKS,
        scopes=("notebooks.post", "notebooks.*"),
        body="newNotebook",
    ),
    _notebook_operation("get", "GET", accepts_read_scopes=True),
    _notebook_operation("patch", "PATCH"),
    _notebook_operation("delete", "DELETE"),
    _notebook_operation("execute", "POST", "execute"),
    _notebook_operation(
        "cancelExecution",
        "POST",
        "cancelExecution",
        scope="execute",
        executionId=QueryParameter(required=True, pattern=ID),
    ),
    _notebook_operation(
        "logs", "GET", "logs", accepts_read_scopes=True, limit=QueryParameter(), since=QueryParameter()
    ),
    _notebook_operation(
        "notebookMinuteCounts",
        "GET",
        "notebookMinuteCounts",
        accepts_read_scopes=True,
        start=QueryParameter(),
        end=QueryParameter(),
    ),
    _notebook_operation("requestInputDataExport", "POST", "requestInputDataExport", accepts_read_scopes=True),
    _notebook_operation("upload", "POST", "upload"),
)


def match(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """Return the operation for a method and path, and the ids in the path; a trailing slash is ignored."""
    segments = [unquote(segment) for segment in path.rstrip("/").split("/")[1:]]
    for operation in OPERATIONS:
        ids = operation.match(method, segments)
        if ids is not None:
            return operation, ids
    return None
