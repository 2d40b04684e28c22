# SPDX-License-Identifier: Apache-2.0
"""
The OpenAPI 3.1 description of the emulator's API.

Requests are described by the same tables that validate them. Responses are described here, and tests check
every response against the description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.http.operations import OPERATIONS
from airflow_provider_losant.emulator.http.schemas import BODIES, ID

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.http.operations import Operation, QueryParameter

Schema = dict[str, Any]

_ID: Final[Schema] = {"type": "string", "pattern": ID}
_TIMESTAMP: Final[Schema] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_FILE: Final[Schema] = {"type": "string", "format": "binary"}
_LINKS: Final[Schema] = {"_type": _TEXT, "_links": {"type": "object"}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(required: Schema, **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


_SUCCESS: Final[Schema] = {"success": {"const": True}}
_FILES: Final[Schema] = {
    "type": "object",
    "additionalProperties": _object({"size": _COUNT, "url": _TEXT, "contentType": _TEXT}),
}
_BODY_PARTS: Final[Schema] = BODIES["notebook"]["properties"]

SCHEMAS: Final[Schema] = {
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
            "creationDate": _TIMESTAMP,
            "lastUpdated": _TIMESTAMP,
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
    "Notebooks": {"type": "object", "properties": {"items": _array(_ref("Notebook"))}, "required": ["items"]},
    "Execution": _object(
        {
            **dict.fromkeys(("id", "notebookExecutionId", "notebookId", "applicationId"), _ID),
            "status": _TEXT,
            "executionRelativeTo": _TIMESTAMP,
            "maxAllowedRunMinutes": _NUMBER,
            "sourceType": _TEXT,
            "sourceId": _ID,
            "imageVersion": _TEXT,
            "runQueuedAt": _TIMESTAMP,
            "inputInfo": _FILES,
            "outputInfo": _FILES,
            "executionErrors": _array(_object({"name": _TEXT, "message": _TEXT})),
        },
        runStartedAt=_TIMESTAMP,
        inputsCompletedAt=_TIMESTAMP,
        notebookCompletedAt=_TIMESTAMP,
        outputsCompletedAt=_TIMESTAMP,
        templateContext=_TEXT,
        email=_TEXT,
        callbackUrl=_TEXT,
        **_LINKS,
    ),
    "ExecutionLog": _array(_ref("Execution")),
    "MinuteCounts": _object(
        {
            "start": _TIMESTAMP,
            "end": _TIMESTAMP,
            "counts": _array(
                _object(
                    {
                        "date": _TIMESTAMP,
                        **dict.fromkeys(("minutes", "completed", "errored", "canceled", "timeout"), _COUNT),
                    }
                )
            ),
        }
    ),
    "Application": {
        "type": "object",
        "properties": {"id": _ID, "applicationId": _ID, "name": _TEXT, "creationDate": _TIMESTAMP},
        "required": ["id", "applicationId", "name"],
    },
    **BODIES,
}
"""The schemas of all bodies by name; those of requests have the names that Losant's error messages use."""

RESPONSES: Final = {
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
"""The status and the schema of each operation's response when it succeeds."""

_ERRORS: Final = {
    "400": "A parameter or the body is invalid.",
    "401": "The token is unknown or has expired.",
    "403": "The token is missing or lacks the scope.",
    "404": "The application, notebook or execution does not exist for this token.",
}


def describe(url: str = "/") -> Schema:
    """
    Return the OpenAPI description.

    :param url: the URL of the API.
    """
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        path = "/" + "/".join(operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Losant Notebooks API of the emulator",
            "version": "1",
            "summary": "The eleven operations on notebooks, and one that returns their application.",
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


def _operation(operation: Operation) -> Schema:
    status, schema = RESPONSES[operation.name]
    # The only operation with status 202 is also the only one that is rate limited by itself.
    limited = {"429": "The previous request was too recent."} if status == "202" else {}
    description: Schema = {
        "operationId": operation.name,
        "parameters": [
            *(
                {"name": segment[1:-1], "in": "path", "required": True, "schema": _ID}
                for segment in operation.path
                if segment.startswith("{")
            ),
            *(_parameter(name, parameter) for name, parameter in operation.query.items()),
        ],
        "responses": {
            status: _response("Success.", _ref(schema)),
            **{code: _response(text, _ref("Error")) for code, text in (_ERRORS | limited).items()},
        },
    }
    description["responses"]["400"] = _response(
        _ERRORS["400"], {"anyOf": [_ref("Error"), _ref("UnreadableBody")]}
    )
    if operation.body is not None:
        description["requestBody"] = {"required": True, "content": _json(_ref(operation.body))}
    if operation.file is not None:
        form = {"type": "object", "properties": {operation.file: _FILE}, "required": [operation.file]}
        description["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return description


def _parameter(name: str, parameter: QueryParameter) -> Schema:
    schema: Schema = {"type": "string"}
    if parameter.pattern:
        schema["pattern"] = parameter.pattern
    if parameter.enum:
        schema["enum"] = list(parameter.enum)
    return {"name": name, "in": "query", "required": parameter.required, "schema": schema}


def _response(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": _json(schema)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
