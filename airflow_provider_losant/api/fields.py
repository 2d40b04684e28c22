# SPDX-License-Identifier: Apache-2.0
"""
Read typed fields from JSON, and the arguments of DAGs.

A value of another type in JSON raises one of :data:`~airflow_provider_losant.api.errors.SHAPE_ERRORS` here,
where callers turn it into a :class:`~airflow_provider_losant.api.errors.ProtocolError`, and not in later
code. An argument raises :class:`~airflow_provider_losant.api.errors.InvalidArgument`, which names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, NoReturn

from airflow_provider_losant.api.defaults import FINAL_STATUSES
from airflow_provider_losant.api.errors import InvalidArgument

Entry = Mapping[str, Any]
_ID = re.compile(r"[0-9A-Fa-f]{24}")
# A name that comes from Losant becomes part of a path, so it must not lead out of the folder.
_FILE_NAME = re.compile(r"(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+(/(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+)*")

MAX_MESSAGE = 500
"""Maximum characters of Losant's text in a message; Losant's own messages are much shorter."""
MAX_NAME = 200
"""Maximum characters of Losant's text that names something; Losant's own names are much shorter."""
MAX_ERRORS = 20
"""Execution errors that are kept; a notebook in a loop may raise one for every row of its data."""
MAX_ERROR = 2_000
"""Characters of an execution error's message that are kept."""
MAX_FILES = 48_000
"""Bytes of JSON that the inputs and outputs of a result may have; an event has 64 KB."""
MAX_LISTED = 20
"""Names in a message; an execution may have thousands of files."""
MAX_EVENT = 64 * 1024
"""Maximum bytes of the JSON that crosses from the triggerer to a worker, through Airflow's database."""
MAX_NUMBER = 1e300
"""A number from here on could be infinite in another unit, and JSON has no infinity."""


def string(entry: Entry, key: str) -> str:
    """Return a required string."""
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def string_or_none(entry: Entry, key: str) -> str | None:
    """Return a string; None if it is missing or null."""
    return None if entry.get(key) is None else string(entry, key)


def short_string(entry: Entry, key: str) -> str:
    """Return a required string, cut to :data:`MAX_NAME` characters."""
    return string(entry, key)[:MAX_NAME]


def listed(names: Iterable[str], left_out: int = 0) -> str:
    """
    Return names for a message: the first 20, and how many more there are; empty if there are none.

    :param left_out: How many there are besides.
    """
    names = list(names)
    more = max(0, len(names) - MAX_LISTED) + left_out
    texts = ", ".join(one_line(it[:MAX_NAME]) for it in names[:MAX_LISTED])
    return f"{texts} and {more:,} more" if more else texts


def shorten(text: str, most: int) -> str:
    """Return a text, or its first ``most`` characters and how many are left out."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} more characters)"


def short_string_or_none(entry: Entry, key: str) -> str | None:
    """Return a string, cut to :data:`MAX_NAME` characters; None if it is missing or null."""
    value = string_or_none(entry, key)
    return None if value is None else value[:MAX_NAME]


def number(entry: Entry, key: str) -> float | None:
    """Return a number; None if it is missing or null."""
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_NUMBER:
        raise TypeError(f"{key} is not a number")
    return value


def integer(entry: Entry, key: str) -> int | None:
    """Return a number without its fraction; None if it is missing or null."""
    value = number(entry, key)
    return None if value is None else int(value)


def timestamp_or_none(entry: Entry, key: str) -> datetime | None:
    """
    Return a timestamp in UTC; None if it is missing, null or empty.

    Without a time zone it is UTC.
    """
    text = string_or_none(entry, key)
    if not text:
        return None
    # Not pendulum.parse, which takes 0.4 s for the 10,000 timestamps of a long log, in the event loop.
    found = datetime.fromisoformat(text)
    # Converted here, so that a timestamp out of UTC's range raises OverflowError as a shape error.
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def timestamp(entry: Entry, key: str) -> datetime:
    """Return a required timestamp in UTC."""
    found = timestamp_or_none(entry, key)
    if found is None:
        raise KeyError(key)
    return found


def objects(entry: Entry, key: str) -> tuple[Entry, ...]:
    """Return a list of JSON objects; empty if it is missing or null."""
    value = entry.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(it, Mapping) for it in value):
        raise TypeError(f"{key} is not a list of objects")
    return tuple(value)


def execution_errors(entry: Entry, key: str) -> tuple[Mapping[str, str], ...]:
    """Return the first execution errors, and how many are left out; empty if the list is missing or null."""
    found = objects(entry, key)
    most = {"name": MAX_NAME, "message": MAX_ERROR}
    errors = [
        {key: shorten(error[key], limit) for key, limit in most.items() if isinstance(error.get(key), str)}
        for error in found[:MAX_ERRORS]
    ]
    if len(found) > MAX_ERRORS:
        errors.append({"name": "Left out", "message": f"{len(found) - MAX_ERRORS:,} more errors"})
    return tuple(errors)


def fit_files(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], room: int = MAX_FILES, left_out: int = 0
) -> dict[str, Any]:
    """
    Return the ``inputs`` and ``outputs`` of a result, outputs first, as far as there is room.

    :param room: Bytes of JSON.
    :param left_out: Files that were left out before. With these, ``files_left_out`` is the number of all.
    """
    fitting: dict[str, Any] = {"inputs": {}, "outputs": {}}
    for kind, files in (("outputs", outputs), ("inputs", inputs)):
        for name, file in files.items():
            size = len(json.dumps({name: file})) + 2
            if size <= room:
                room -= size
                fitting[kind][name] = file
            else:
                left_out += 1
    return fitting | {"files_left_out": left_out} if left_out else fitting


def one_line(value: object) -> str:
    """
    Return text from a response as one line for a message or log, cut to :data:`MAX_MESSAGE` characters.

    Line breaks and control characters become spaces, which prevents log injection.
    """
    printable = "".join(it if it.isprintable() else " " for it in str(value)[:MAX_MESSAGE])
    return " ".join(printable.split())


def is_given(value: object) -> bool:
    """
    Tell whether an argument is given.

    A template may render empty, or to the text ``None``, which is what Airflow writes for a missing value
    unless it renders native objects.
    """
    if isinstance(value, str):
        return value.strip() not in ("", "None")
    return value is not None and not (isinstance(value, Mapping) and not value)


def losant_id(value: object, *, field: str) -> str:
    """
    Return an id in lower case, as Losant returns it; a valid id is safe in a URL path.

    :param value: 24 hexadecimal digits.
    :param field: The argument's name, for the error.
    :raises InvalidArgument: the value is missing or not an id.
    """
    if isinstance(value, str) and _ID.fullmatch(text := value.strip()):
        return text.lower()
    if not is_given(value):
        raise InvalidArgument(field, "is missing")
    return refuse(value, field, "is not a Losant id (24 hexadecimal digits)")


def refuse(value: object, field: str, what: str) -> NoReturn:
    """
    Raise the error about an argument that is not what it has to be.

    :param what: What is wrong with it, such as ``is not text``.
    """
    try:
        shown = shorten(repr(value), MAX_NAME)
    except Exception:  # noqa: BLE001 - of an integer of thousands of digits, or of a class of a user
        shown = f"a {type(value).__name__}"
    raise InvalidArgument(field, f"{shown} {what}")


def parse_statuses(value: object, *, field: str = "statuses") -> tuple[str, ...]:
    """Return a list of final statuses that is not empty."""
    what = f"a list of some of {', '.join(FINAL_STATUSES)}"
    names = items(value, field, what)
    if not names or any(it not in FINAL_STATUSES for it in names):
        refuse(value, field, f"is not {what}")
    return tuple(names)


def items(value: object, field: str, what: str) -> Sequence[Any]:
    """
    Return the items of a list, tuple or set.

    :param what: What the argument is, for the error.
    :raises InvalidArgument: it is something else; text is no list of its characters.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | AbstractSet):
        refuse(value, field, f"is not {what}")
    return tuple(value)


def positive_number(value: object, *, field: str) -> float:
    """Return a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        refuse(value, field, "is not a positive number")
    return value


def positive_integer(value: object, *, field: str) -> int:
    """Return a positive number without a fraction, such as ``1e6``."""
    number = positive_number(value, field=field)
    if not (isinstance(number, int) or number.is_integer()):
        refuse(value, field, "is not a whole number")
    return int(number)


def text(value: object, *, field: str) -> str:
    """Return text that is not empty."""
    if value is None or (isinstance(value, str) and value == ""):
        raise InvalidArgument(field, "is missing")
    if not isinstance(value, str):
        refuse(value, field, "is not text")
    return value


def file_name(value: object, *, field: str) -> str:
    """Return the name of an output file."""
    if not is_file_name(value):
        refuse(value, field, "is not the name of an output file")
    return str(value)


def is_file_name(name: object) -> bool:
    """Return whether an output can have this name: one of a file, or of a file in a folder."""
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None


def file_patterns(value: object, *, field: str) -> tuple[str, ...]:
    """Return names of files, or globs; one may also be given as text."""
    values = (value,) if isinstance(value, str) else items(value, field, "a file name or a list of these")
    if not values or not all(isinstance(it, str) and it for it in values):
        refuse(value, field, "names no file")
    return tuple(values)


def losant_ids(value: object, *, field: str) -> tuple[str, ...]:
    """Return a list of ids, which may be empty."""
    return tuple(losant_id(it, field=field) for it in items(value, field, "a list of Losant ids"))


def is_same_json(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal: unlike in Python, ``true`` is not 1."""
    if one != other:
        return False
    if isinstance(one, dict):
        return all(is_same_json(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return all(map(is_same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool)
