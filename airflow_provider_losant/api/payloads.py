# SPDX-License-Identifier: Apache-2.0
"""Build and validate request bodies, in Losant's spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypedDict
from urllib.parse import urlsplit

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import items, refuse
from airflow_provider_losant.api.timestamps import format_timestamp

MAX_CONTEXT = 32_767
"""Characters of a template context that Losant accepts."""
_EMAIL = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")


def execution_options(
    *,
    relative_to: datetime | None = None,
    template_context: str | None = None,
    email: str | None = None,
    callback_url: str | None = None,
) -> dict[str, Any]:
    """Build the body of ``execute``; arguments that are None are omitted."""
    options = {
        "relativeTo": relative_to and format_timestamp(relative_to),
        "templateContext": template_context,
        "email": email,
        "callbackUrl": callback_url,
    }
    return {name: value for name, value in options.items() if value is not None}


class NotebookFields(TypedDict, total=False):
    """
    The fields of a notebook that can be set, in Python's spelling.

    ``image_version`` is Losant's notebook image, such as ``v4``. For the fields of ``inputs`` and ``outputs``
    see Losant's `Notebooks: Post <https://docs.losant.com/rest-api/notebooks/#post>`__.
    """

    name: str
    description: str
    image_version: str
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]


def notebook_body(fields: NotebookFields) -> dict[str, Any]:
    """Build the body that creates or updates a notebook, in Losant's spelling."""
    return {"imageVersion" if name == "image_version" else name: value for name, value in fields.items()}


def encode_context(value: Mapping[str, Any] | str | None, *, field: str = "template_context") -> str | None:
    """
    Return a template context as JSON text, which Losant requires.

    :param value: A mapping, or JSON text (sent unchanged).
    :param field: The argument's name, for the error.
    :raises InvalidArgument: the value is not JSON, or longer than Losant's 32,767 characters.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            text = value
            json.loads(text, parse_constant=_reject_constant, parse_float=_finite)
        else:
            text = compact_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if len(text) > MAX_CONTEXT:
        raise InvalidArgument(field, f"has {len(text):,} characters; Losant accepts at most {MAX_CONTEXT:,}")
    return text


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) < float("inf") else _reject_constant(digits)


def compact_json(value: Mapping[str, Any]) -> str:
    """Return a value as JSON without whitespace."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def email_address(value: object, *, field: str) -> str:
    """Return one e-mail address; Losant refuses several."""
    if not isinstance(value, str) or not _EMAIL.fullmatch(value.strip()):
        refuse(value, field, "is not an e-mail address")
    return value.strip()


def http_url(value: object, *, field: str) -> str:
    """Return a URL; the error does not contain it, because it may have a secret in it."""
    try:
        parts = urlsplit(value.strip()) if isinstance(value, str) else None
        is_url = parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not isinstance(value, str) or not is_url:
        raise InvalidArgument(field, "is not a URL that begins with https:// or http://")
    return value.strip()


def json_objects(value: object, *, field: str) -> list[Mapping[str, Any]]:
    """Return a list of JSON objects as Losant returns it, for example with lists instead of tuples."""
    listed_objects = items(value, field, "a list of objects")
    if not all(isinstance(it, Mapping) for it in listed_objects):
        refuse(value, field, "is not a list of objects")
    try:
        plain: list[Mapping[str, Any]] = json.loads(json.dumps(listed_objects, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    return plain
