# SPDX-License-Identifier: Apache-2.0
"""The JSON schemas of request bodies, and the error messages of Losant for bodies that break them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import ValidationError

ID: Final = r"^[A-Fa-f\d]{24}$"
Schema = dict[str, Any]


def _text(max_length: int, min_length: int = 0, **keywords: Any) -> Schema:
    return {"type": "string", "maxLength": max_length, "minLength": min_length, **keywords}


def _one_of(*schemas: Schema) -> Schema:
    return {"oneOf": list(schemas)}


def _array(schema: Schema) -> Schema:
    return {"type": "array", "maxItems": 100, "items": schema}


def _object(required: str, /, **properties: Schema) -> Schema:
    """
    Return the schema of an object without additional properties.

    :param required: the names of the required properties, separated by spaces.
    """
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _variant(key: str, value: str, required: str, **properties: Schema) -> Schema:
    """Return the schema of an object whose ``key`` has this value."""
    return _object(f"{key} {required}", **properties, **{key: {"enum": [value]}})


_TEMPLATE = _text(255, 4, pattern=r".*\{\{.+\}\}.*")
_FILE_NAME = _one_of(_text(255, 1, pattern=r"^(?!\.{1,2}$)[0-9a-zA-Z_.-]{1,255}$"), _TEMPLATE)
_KEY = _text(255, 1, pattern=r"^[0-9a-zA-Z_-]{1,255}$")
_ID_OR_TEMPLATE = _one_of({"type": "string", "pattern": ID}, _TEMPLATE)
_QUERY = {"queryJson": _text(8192)}
_DEVICES = {
    "deviceIds": _array(_ID_OR_TEMPLATE),
    "deviceTags": _array(_object("", key=_one_of(_KEY, _TEMPLATE), value=_text(255, 1))),
} | _QUERY
_RANGE = {"start": {"type": "number"}, "end": {"type": "number"}}
_FORMAT = {"format": {"enum": ["csv", "json"]}}
_NAME = {"fileName": _FILE_NAME}
_DESTINATION = {"destinationDirectoryTemplate": _text(1024, 1), "destinationPrivate": {"type": "boolean"}}
_DESTINATION_FILE = _DESTINATION | {"destinationFileNameTemplate": _text(1024, 1)}
_FLAGS = {"createMissingColumns": {"type": "boolean"}, "truncateExistingTable": {"type": "boolean"}}
_RESULTS = [f"result.{kind}" for kind in ("html", "pdf", "ipynb", "error.log", "log")]

_INPUT = _one_of(
    _variant(
        "inputType",
        "deviceData",
        "fileName start end",
        **_NAME,
        **_DEVICES,
        **_RANGE,
        attributes=_array(_KEY),
    ),
    _variant("inputType", "deviceConnectionHistory", "fileName start end", **_NAME, **_DEVICES, **_RANGE),
    _variant("inputType", "deviceMetadata", "fileName", **_NAME, **_DEVICES, **_FORMAT),
    _variant(
        "inputType", "dataTable", "fileName dataTableId", **_NAME, **_QUERY, dataTableId=_ID_OR_TEMPLATE
    ),
    _variant("inputType", "eventData", "fileName", **_NAME, **_QUERY, **_FORMAT),
    _variant("inputType", "externalUrl", "fileName sourceUrl", **_NAME, sourceUrl=_text(1024, 1)),
    _variant(
        "inputType",
        "applicationFile",
        "fileName filePath",
        **_NAME,
        filePath=_text(2048, 1),
        private={"type": "boolean"},
    ),
)
_OUTPUT = _one_of(
    _variant(
        "outputType", "dataTable", "fileName dataTableId", **_NAME, **_FLAGS, dataTableId=_ID_OR_TEMPLATE
    ),
    _variant("outputType", "file", "fileName destinationFileNameTemplate", **_NAME, **_DESTINATION_FILE),
    _variant(
        "outputType",
        "directory",
        "directoryName destinationDirectoryTemplate",
        **_DESTINATION,
        directoryName=_FILE_NAME,
    ),
    _variant("outputType", "executionResult", "fileName", **_DESTINATION_FILE, fileName={"enum": _RESULTS}),
    _variant("outputType", "temporaryUrl", "fileName", **_NAME),
)
_NOTEBOOK = {
    "name": _text(1024, 1),
    "description": _text(32767),
    "imageVersion": {"enum": ["v1", "v2", "v3", "v4"]},
    "inputs": _array(_INPUT),
    "outputs": _array(_OUTPUT),
}
_RELATIVE_TO = _one_of(
    {"type": "string"}, {"type": "number"}, _object("$date", **{"$date": {"type": "string"}})
)

NEW_NOTEBOOK: Final = _object("name", **_NOTEBOOK)
NOTEBOOK_CHANGES: Final = _object("", **_NOTEBOOK)
OPTIONS: Final = _object(
    "",
    relativeTo=_RELATIVE_TO,
    templateContext=_text(32767),
    email=_text(1024, format="email"),
    callbackUrl=_text(1024, format="uri"),
)
BODIES: Final[Mapping[str, Schema]] = {
    "newNotebook": NEW_NOTEBOOK,
    "notebook": NOTEBOOK_CHANGES,
    "executionOptions": OPTIONS,
    "exportOptions": OPTIONS,
}


def body_error(schema: str, body: Any) -> str | None:
    """
    Return Losant's message for the first error in the body of a request; ``None`` if it is valid.

    :param schema: a key of :data:`BODIES`. Messages about ``newNotebook`` say ``notebook``, as Losant's do.
    """
    name = "notebook" if schema == "newNotebook" else schema
    if body is None:
        return f"{name} is required"
    for error in _validator(schema).iter_errors(body):
        return _message(name, error)
    return None


@cache
def _validator(schema: str) -> Draft7Validator:
    # Imported late, because only requests with a body need jsonschema.
    from jsonschema import Draft7Validator, FormatChecker

    formats = FormatChecker(formats=())
    formats.checks("email")(lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text) is not None)
    formats.checks("uri")(lambda text: bool(urlsplit(text).scheme))
    return Draft7Validator(BODIES[schema], format_checker=formats)


def _message(name: str, error: ValidationError) -> str:
    path = ".".join(map(str, (name, *error.absolute_path)))
    if error.validator == "required":
        required, instance = cast("list[str]", error.validator_value), cast("dict[str, Any]", error.instance)
        missing = next(key for key in required if key not in instance)
        return f"{path}.{missing} is required"
    messages = {
        "additionalProperties": "has additional properties",
        "type": "is the wrong type",
        "enum": "must be an enum value",
        "oneOf": "no (or more than one) schemas match",
        "format": f"must be {error.validator_value} format",
        "pattern": "pattern mismatch",
        "maxLength": "has longer length than allowed",
        "minLength": "has less length than allowed",
        "maxItems": "has more items than allowed",
    }
    return f"{path} {messages.get(str(error.validator), 'is invalid')}"
