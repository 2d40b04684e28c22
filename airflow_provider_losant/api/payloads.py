# SPDX-License-Identifier: Apache-2.0
"""Build and validate request bodies, in Losant's spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from os import PathLike, fspath
from typing import Any, NoReturn, TypedDict
from urllib.parse import urlsplit
from uuid import UUID

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import is_given, items, one_line, refuse
from airflow_provider_losant.api.timestamps import format_timestamp

MAX_CONTEXT = 32_767
"""Characters of a template context that Losant accepts."""
_MAX_BITS = 1023
"""Bits of an integer that every reader of JSON takes for a number, and not for infinity."""
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
    Return a template context as the text of a JSON object, which Losant requires.

    :param value: A mapping, converted as :func:`to_json` does, or the text of a JSON object (sent unchanged).
        None, also in JSON or as what a template renders to, is no context.
    :param field: The argument's name, for the error.
    :raises InvalidArgument: the value is not a JSON object, or longer than Losant's 32,767 characters. The
        error names the key whose value JSON does not have.
    """
    if isinstance(value, str) and not is_given(value):
        return None
    try:
        found = to_json(json.loads(value) if isinstance(value, str) else value, field)
    except InvalidArgument:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if found is None:
        return None
    if not isinstance(found, dict):
        kind = _JSON_NAMES[type(found)]
        raise InvalidArgument(field, f"is {kind}; Losant needs a mapping, or the text of a JSON object")
    text = value if isinstance(value, str) else compact_json(found)
    if len(text) > MAX_CONTEXT:
        raise InvalidArgument(field, f"has {len(text):,} characters; Losant accepts at most {MAX_CONTEXT:,}")
    return text


_JSON_NAMES = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}


def to_json(value: Any, path: str) -> Any:
    """
    Return a value as the types that JSON has.

    Timestamps, dates and times become ISO-8601 text; decimals and NumPy's scalars numbers; every mapping an
    object; every sequence, set (sorted) and array of NumPy or pandas a list; an enum's member its value; a
    UUID and a path, also of object storage, text.

    :param path: What names the value, such as ``template_context["sites"][0]``, for the error.
    :raises InvalidArgument: JSON has no such value, or an object would have a key twice.
    """
    for types, convert in _CONVERTERS:
        if isinstance(value, types):
            return convert(value, path)
    return _from_other(value, path)


def _refuse(value: Any, path: str) -> NoReturn:
    raise InvalidArgument(path, f"a {type(value).__name__} is not JSON")


def _list(value: Iterable[Any], path: str) -> list[Any]:
    return [to_json(it, f"{path}[{index}]") for index, it in enumerate(value)]


def _sorted_list(value: Iterable[Any], path: str) -> list[Any]:
    def by_type(element: Any) -> tuple[str, Any]:
        is_number = isinstance(element, int | float)
        return ("number", element) if is_number else ("text", json.dumps(element, ensure_ascii=False))

    return sorted((to_json(it, path) for it in value), key=by_type)


def _object(value: Mapping[Any, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for given in value:
        key = _key(given, path)
        if key in found:
            raise InvalidArgument(path, f"has the key {one_line(key)!r} twice, as text and as another type")
        found[key] = to_json(value[given], f"{path}[{json.dumps(one_line(key), ensure_ascii=False)}]")
    return found


def _key(given: Any, path: str) -> str:
    """Return the key of an object, which is text in JSON; booleans, fractions and None have no usual form."""
    key = to_json(given, path)
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise InvalidArgument(path, f"has a key that is a {type(given).__name__}; the keys of JSON are text")


def _integer(value: int | Decimal, path: str) -> int:
    number = int(value)
    if number.bit_length() > _MAX_BITS:
        raise InvalidArgument(path, f"an integer of {number.bit_length():,} bits is not a JSON number")
    return number


def _number(value: float | Decimal, path: str) -> float:
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return _integer(value, path)
    # Python refuses to convert one of the two kinds of NaN that decimals have.
    is_nan = isinstance(value, Decimal) and value.is_nan()
    number = float("nan") if is_nan else float(value)
    if not isfinite(number):
        raise InvalidArgument(path, f"{value} is not a JSON number")
    return number


def _iso_text(value: date | time, path: str) -> str:
    text = value.isoformat()
    return _refuse(value, path) if text == "NaT" else text  # of pandas, which is a datetime


def _from_other(value: Any, path: str) -> Any:
    """
    Convert a path of object storage, an array or a scalar of NumPy, or what pandas makes of them.

    None of their modules is imported.
    """
    if hasattr(type(value), "fs"):
        return str(value)
    if not hasattr(value, "tolist"):
        return _refuse(value, path)
    if getattr(value, "ndim", 0):
        return _list(value, path)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M" and str(value) != "NaT":
        return str(value)  # as ISO-8601; NumPy itself converts nanoseconds to a number
    if kind in {"U", "O"}:
        return to_json(value.item(), path)
    convert: type[float] | None = {"b": bool, "i": int, "u": int, "f": float}.get(kind)
    return to_json(convert(value), path) if convert else _refuse(value, path)


_CONVERTERS: tuple[tuple[Any, Callable[[Any, str], Any]], ...] = (
    (Enum, lambda value, path: to_json(value.value, path)),
    (bool | None, lambda value, _: value),
    (str | UUID, lambda value, _: str(value)),
    (PathLike, lambda value, path: to_json(fspath(value), path)),
    (int, _integer),
    (float | Decimal, _number),
    (date | time, _iso_text),
    (Mapping, _object),
    (bytes | bytearray | memoryview, _refuse),
    (Sequence | ValuesView, _list),
    (AbstractSet, _sorted_list),
)
"""How a value of certain types becomes JSON; the first that fits counts."""


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
        return [to_json(it, f"{field}[{index}]") for index, it in enumerate(listed_objects)]
    except RecursionError as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
