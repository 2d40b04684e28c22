# SPDX-License-Identifier: Apache-2.0
"""Read the values that a notebook hands on: one small JSON output that becomes part of the task's result."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_losant.api.errors import JSON_ERRORS, LogIncomplete, OutputError
from airflow_provider_losant.api.fields import MAX_NAME, one_line
from airflow_provider_losant.api.flows.outputs import OutputSelection, find_execution, read_output_of

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow
    from airflow_provider_losant.api.model import ExecutionRef

    Values = dict[str, Any] | list[Any]

MAX_VALUES = 48_000
"""Maximum bytes of the file. Its content is stored twice in Airflow's database, in every try."""
MAX_DEPTH = 50
"""Maximum nesting; what stores the values in Airflow allows little more on some versions."""
_RESERVED = frozenset({"__classname__", "__id__", "__type", "__var"})
"""Keys by which Airflow recognises a serialized object in an XCom; it refuses or converts them."""


def read_values(ref: ExecutionRef, name: str, retries: int) -> FileFlow[Values]:
    """
    Return the content of a JSON output of an execution that has ended.

    :param name: The file's name, which is taken literally.
    :param retries: How often a failed request is retried.
    :raises OutputError: the output does not exist, is too large, or is not JSON that Airflow can store.
    :raises LogIncomplete: the log is older than the end of the execution.
    """
    execution = yield from find_execution(ref, retries)
    if not execution.status.is_final:
        raise LogIncomplete(f"The execution log lists the {ref} as {execution.status}, although it has ended")
    selection = OutputSelection(
        names=(name,), max_bytes=MAX_VALUES, limited_by="the limit of values_from", is_literal=True
    )
    content = yield from read_output_of(execution, selection, retries)
    try:
        return parse_values(content)
    except OutputError as error:
        raise OutputError(f"{name} of the {ref} {error}") from None


def parse_values(content: bytes) -> Values:
    """
    Parse strict JSON, as defined by I-JSON (RFC 7493), that every Airflow version can store.

    No error contains a value: it may be logged, and values may be confidential.

    :raises OutputError: it is something else; the message completes a sentence about the file.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OutputError(f"is not UTF-8 (at byte {error.start})") from None
    try:
        values = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_number,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise OutputError(f"is not JSON: {error}") from None
    except JSON_ERRORS:
        raise OutputError("is not JSON: it is nested too deeply, or has a number that is too long") from None
    if not isinstance(values, dict | list):
        raise OutputError("is not a JSON object or array")
    _check(values)
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((duplicate, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise OutputError(f"has the key {_shown(duplicate)} twice in an object")
    if reserved := sorted(_RESERVED & found.keys()):
        raise OutputError(f"has the key {_shown(reserved[0])}, which Airflow reserves")
    return found


def _refuse_constant(constant: str) -> NoReturn:
    raise OutputError(f"is not JSON: it contains {constant}")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise OutputError("has a number that is too large")
    return number


def _integer(text: str) -> int:
    number = int(text)
    # Airflow 3 passes XComs on in a format that has no larger integers.
    if not -(2**63) <= number < 2**63:
        raise OutputError("has an integer of more than 64 bits")
    return number


def _check(values: Values) -> None:
    """Check what depends on the place of a value, without recursion."""
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH + 1):  # the last one is for what the innermost of them contain
        level = [child for it in level for child in _children(it)]
        if not level:
            return
    raise OutputError(f"has more than {MAX_DEPTH} levels of objects and arrays")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    # PostgreSQL stores neither in an XCom.
    if isinstance(value, str) and ("\0" in value or _has_surrogate(value)):
        raise OutputError("has a text with a null character or half of a surrogate pair")
    return []


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= it <= "\udfff" for it in text)


def _shown(key: str) -> str:
    return repr(one_line(key[:MAX_NAME]))
