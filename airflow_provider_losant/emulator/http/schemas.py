# SPDX-License-Identifier: Apache-2.0
"""The shapes that requests must have, and the words with which Losant refuses others."""

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
Shape = dict[str, Any]


def _text(most: int, least: int = 0, **more: Any) -> Shape:
    return {"type": "string", "maxLength": most, "minLength": least, **more}


def _one_of(*shapes: Shape) -> Shape:
    return {"oneOf": list(shapes)}


def _things(shape: Shape) -> Shape:
    return {"type": "array", "maxItems": 100, "items": shape}


def _object(required: str, /, **properties: Shape) -> Shape:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _kind(key: str, name: str, needed: str, **properties: Shape) -> Shape:
    return _object(f"{key} {needed}", **properties, **{key: {"enum": [name]}})


_TEMPLATE = _text(255, 4, pattern=r".*\{\{.+\}\}.*")
_FILE_NAME = _one_of(_text(255, 1, pattern=r"^(?!\.{1,2}$)[0-9a-zA-Z_.-]{1,255}$"), _TEMPLATE)
_KEY = _text(255, 1, pattern=r"^[0-9a-zA-Z_-]{1,255}$")
_ID_OR_TEMPLATE = _one_of({"type": "string", "pattern": ID}, _TEMPLATE)
_QUERY = {"queryJson": _text(8192)}
_DEVICES = {
    "deviceIds": _things(_ID_OR_TEMPLATE),
    "deviceTags": _things(_object("", key=_one_of(_KEY, _TEMPLATE), value=_text(255, 1))),
} | _QUERY
_SPAN = {"start": {"type": "number"}, "end": {"type": "number"}}
_FORMAT = {"format": {"enum": ["csv", "json"]}}
_NAMED = {"fileName": _FILE_NAME}
_DESTINATION = {"destinationDirectoryTemplate": _text(1024, 1), "destinationPrivate": {"type": "boolean"}}
_DESTINATION_FILE = _DESTINATION | {"destinationFileNameTemplate": _text(1024, 1)}
_FLAGS = {"createMissingColumns": {"type": "boolean"}, "truncateExistingTable": {"type": "boolean"}}
_RESULTS = [f"result.{kind}" for kind in ("html", "pdf", "ipynb", "error.log", "log")]

_INPUT = _one_of(
    _kind(
        "inputType",
        "deviceData",
        "fileName start end",
        **_NAMED,
        **_DEVICES,
        **_SPAN,
        attributes=_things(_KEY),
    ),
    _kind("inputType", "deviceConnectionHistory", "fileName start end", **_NAMED, **_DEVICES, **_SPAN),
    _kind("inputType", "deviceMetadata", "fileName", **_NAMED, **_DEVICES, **_FORMAT),
    _kind("inputType", "dataTable", "fileName dataTableId", **_NAMED, **_QUERY, dataTableId=_ID_OR_TEMPLATE),
    _kind("inputType", "eventData", "fileName", **_NAMED, **_QUERY, **_FORMAT),
    _kind("inputType", "externalUrl", "fileName sourceUrl", **_NAMED, sourceUrl=_text(1024, 1)),
    _kind(
        "inputType",
        "applicationFile",
        "fileName filePath",
        **_NAMED,
        filePath=_text(2048, 1),
        private={"type": "boolean"},
    ),
)
_OUTPUT = _one_of(
    _kind("outputType", "dataTable", "fileName dataTableId", **_NAMED, **_FLAGS, dataTableId=_ID_OR_TEMPLATE),
    _kind("outputType", "file", "fileName destinationFileNameTemplate", **_NAMED, **_DESTINATION_FILE),
    _kind(
        "outputType",
        "directory",
        "directoryName destinationDirectoryTemplate",
        **_DESTINATION,
        directoryName=_FILE_NAME,
    ),
    _kind("outputType", "executionResult", "fileName", **_DESTINATION_FILE, fileName={"enum": _RESULTS}),
    _kind("outputType", "temporaryUrl", "fileName", **_NAMED),
)
_NOTEBOOK = {
    "name": _text(1024, 1),
    "description": _text(32767),
    "imageVersion": {"enum": ["v1", "v2", "v3", "v4"]},
    "inputs": _things(_INPUT),
    "outputs": _things(_OUTPUT),
}
_INSTANT = _one_of({"type": "string"}, {"type": "number"}, _object("$date", **{"$date": {"type": "string"}}))

NEW_NOTEBOOK: Final = _object("name", **_NOTEBOOK)
CHANGED_NOTEBOOK: Final = _object("", **_NOTEBOOK)
OPTIONS: Final = _object(
    "",
    relativeTo=_INSTANT,
    templateContext=_text(32767),
    email=_text(1024, format="email"),
    callbackUrl=_text(1024, format="uri"),
)
BODIES: Final[Mapping[str, Shape]] = {
    "newNotebook": NEW_NOTEBOOK,
    "notebook": CHANGED_NOTEBOOK,
    "executionOptions": OPTIONS,
    "exportOptions": OPTIONS,
}


def body_error(shape: str, given: Any) -> str | None:
    """
    Say what is wrong with the body of a request; ``None`` when nothing is.

    :param shape: one of :data:`BODIES`; Losant calls a new notebook a notebook, too.
    """
    name = "notebook" if shape == "newNotebook" else shape
    if given is None:
        return f"{name} is required"
    for error in _validator(shape).iter_errors(given):
        return _words(name, error)
    return None


@cache
def _validator(shape: str) -> Draft7Validator:
    # Only the emulator needs jsonschema, and only when a body arrives.
    from jsonschema import Draft7Validator, FormatChecker

    formats = FormatChecker(formats=())
    formats.checks("email")(lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text) is not None)
    formats.checks("uri")(lambda text: bool(urlsplit(text).scheme))
    return Draft7Validator(BODIES[shape], format_checker=formats)


def _words(name: str, error: ValidationError) -> str:
    place = ".".join(map(str, (name, *error.absolute_path)))
    if error.validator == "required":
        wanted, present = cast("list[str]", error.validator_value), cast("dict[str, Any]", error.instance)
        missing = next(key for key in wanted if key not in present)
        return f"{place}.{missing} is required"
    complaints = {
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
    return f"{place} {complaints.get(str(error.validator), 'is invalid')}"
