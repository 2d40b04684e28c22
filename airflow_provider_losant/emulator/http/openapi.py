# SPDX-License-Identifier: Apache-2.0
"""
The API of this local Losant, described in OpenAPI 3.1.

It is made from the very tables that requests are checked by, so that it cannot say anything else. What is
answered is described here, and the tests hold every answer to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.http.operations import OPERATIONS
from airflow_provider_losant.emulator.http.schemas import BODIES, ID

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.http.operations import Operation, QueryParameter

Described = dict[str, Any]

_ID: Final[Described] = {"type": "string", "pattern": ID}
_INSTANT: Final[Described] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_TEXT: Final[Described] = {"type": "string"}
_COUNT: Final[Described] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Described] = {"type": "number", "minimum": 0}
_FILE: Final[Described] = {"type": "string", "format": "binary"}
_LINKS: Final[Described] = {"_type": _TEXT, "_links": {"type": "object"}}


def _is(name: str) -> Described:
    return {"$ref": f"#/components/schemas/{name}"}


def _things(shape: Described) -> Described:
    return {"type": "array", "items": shape}


def _object(needed: Described, **optional: Described) -> Described:
    return {
        "type": "object",
        "properties": needed | optional,
        "required": list(needed),
        "additionalProperties": False,
    }


_SUCCESS: Final[Described] = {"success": {"const": True}}
_FILES: Final[Described] = {
    "type": "object",
    "additionalProperties": _object({"size": _COUNT, "url": _TEXT, "contentType": _TEXT}),
}
_BODY_PARTS: Final[Described] = BODIES["notebook"]["properties"]

SCHEMAS: Final[Described] = {
    "Error": _object({"type": _TEXT, "message": _TEXT}),
    "UnreadableBody": _object({"code": {"const": "InvalidContent"}, "message": _TEXT}),
    "Success": _object(_SUCCESS),
    "Started": _object({**_SUCCESS, "executionId": _ID}),
    "JobQueued": _object({**_SUCCESS, "jobQueued": {"const": True}, "jobId": _TEXT}),
    "Notebook": _object(
        {
            "id": _ID,
            "notebookId": _ID,
            "applicationId": _ID,
            "creationDate": _INSTANT,
            "lastUpdated": _INSTANT,
            "name": _TEXT,
            "imageVersion": _TEXT,
            "inputs": _BODY_PARTS["inputs"],
            "outputs": _BODY_PARTS["outputs"],
            "stats": _object({f"{it}ThisPeriod": _COUNT for it in ("minutes", "runs", "errors")}),
        },
        description=_TEXT,
        jupyterFileName=_TEXT,
        jupyterFileUrl=_TEXT,
        **_LINKS,
    ),
    "Notebooks": {"type": "object", "properties": {"items": _things(_is("Notebook"))}, "required": ["items"]},
    "Execution": _object(
        {
            **dict.fromkeys(("id", "notebookExecutionId", "notebookId", "applicationId"), _ID),
            "status": _TEXT,
            "executionRelativeTo": _INSTANT,
            "maxAllowedRunMinutes": _NUMBER,
            "sourceType": _TEXT,
            "sourceId": _ID,
            "imageVersion": _TEXT,
            "runQueuedAt": _INSTANT,
            "inputInfo": _FILES,
            "outputInfo": _FILES,
            "executionErrors": _things(_object({"name": _TEXT, "message": _TEXT})),
        },
        runStartedAt=_INSTANT,
        inputsCompletedAt=_INSTANT,
        notebookCompletedAt=_INSTANT,
        outputsCompletedAt=_INSTANT,
        templateContext=_TEXT,
        email=_TEXT,
        callbackUrl=_TEXT,
        **_LINKS,
    ),
    "ExecutionLog": _things(_is("Execution")),
    "MinuteCounts": _object(
        {
            "start": _INSTANT,
            "end": _INSTANT,
            "counts": _things(
                _object(
                    {
                        "date": _INSTANT,
                        **dict.fromkeys(("minutes", "completed", "errored", "canceled", "timeout"), _COUNT),
                    }
                )
            ),
        }
    ),
    "Application": {
        "type": "object",
        "properties": {"id": _ID, "applicationId": _ID, "name": _TEXT, "creationDate": _INSTANT},
        "required": ["id", "applicationId", "name"],
    },
    **BODIES,
}
"""What is sent and answered, by name; a body of a request goes by the name that Losant's errors give it."""

ANSWERS: Final = {
    "application.get": ("200", "Application"),
    "notebooks.get": ("200", "Notebooks"),
    "notebooks.post": ("201", "Notebook"),
    "notebook.get": ("200", "Notebook"),
    "notebook.patch": ("200", "Notebook"),
    "notebook.delete": ("200", "Success"),
    "notebook.execute": ("200", "Started"),
    "notebook.cancelExecution": ("200", "Success"),
    "notebook.logs": ("200", "ExecutionLog"),
    "notebook.notebookMinuteCounts": ("200", "MinuteCounts"),
    "notebook.requestInputDataExport": ("202", "JobQueued"),
    "notebook.upload": ("200", "Notebook"),
}
"""The status and the schema of each operation's answer when all is well."""

_REFUSALS: Final = {
    "400": "A parameter or the body is not as described.",
    "401": "The token is unknown or has expired.",
    "403": "The token lacks the scope, or there is none.",
    "404": "There is no such application, notebook or execution for this token.",
}


def describe(url: str = "/") -> Described:
    """
    Describe the API.

    :param url: Where it is served.
    """
    paths: dict[str, Described] = {}
    for operation in OPERATIONS:
        path = "/" + "/".join(operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Losant notebooks, as the local Losant serves them",
            "version": "1",
            "summary": "The eleven operations on notebooks, and the reading of their application.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> Described:
    status, shape = ANSWERS[operation.name]
    # Only where requests for it are rationed.
    more = {"429": "It was asked for too short a while ago."} if status == "202" else {}
    described: Described = {
        "operationId": operation.name,
        "parameters": [
            *({"name": it[1:-1], "in": "path", "required": True, "schema": _ID} for it in _ids(operation)),
            *(_parameter(name, query) for name, query in operation.query.items()),
        ],
        "responses": {
            status: _answer("Done.", _is(shape)),
            **{code: _answer(said, _is("Error")) for code, said in (_REFUSALS | more).items()},
        },
    }
    described["responses"]["400"] = _answer(
        _REFUSALS["400"], {"anyOf": [_is("Error"), _is("UnreadableBody")]}
    )
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _json(_is(operation.body))}
    if operation.file is not None:
        file = {"type": "object", "properties": {operation.file: _FILE}, "required": [operation.file]}
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": file}}}
    return described


def _ids(operation: Operation) -> list[str]:
    return [part for part in operation.path if part.startswith("{")]


def _parameter(name: str, query: QueryParameter) -> Described:
    schema: Described = {"type": "string"}
    if query.pattern:
        schema["pattern"] = query.pattern
    if query.enum:
        schema["enum"] = list(query.enum)
    return {"name": name, "in": "query", "required": query.required, "schema": schema}


def _answer(said: str, schema: Described) -> Described:
    return {"description": said, "content": _json(schema)}


def _json(schema: Described) -> Described:
    return {"application/json": {"schema": schema}}
