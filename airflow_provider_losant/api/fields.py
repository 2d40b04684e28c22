# SPDX-License-Identifier: Apache-2.0
"""
Taking what is expected out of JSON.

Whatever else is there raises one of :data:`~airflow_provider_losant.api.errors.SHAPE_ERRORS` here, where
that is told as what it is, and not somewhere later, where nobody would expect it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Entry = Mapping[str, Any]

MAX_MESSAGE = 500
"""Characters of what Losant says that get into a message of ours; its own are shorter by far."""


def string(entry: Entry, key: str) -> str:
    """Return a text that has to be there."""
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value


def string_or_none(entry: Entry, key: str) -> str | None:
    """Return a text, if there is one."""
    return None if entry.get(key) is None else string(entry, key)


def number(entry: Entry, key: str) -> float | None:
    """Return a number, if there is one."""
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise TypeError(f"{key} is no number")
    return value


def integer(entry: Entry, key: str) -> int | None:
    """Return a whole number, if there is a number."""
    value = number(entry, key)
    return None if value is None else int(value)


def timestamp_or_none(entry: Entry, key: str) -> datetime | None:
    """Return an instant, if there is one; without a time zone it is UTC."""
    told = string_or_none(entry, key)
    if not told:
        return None
    moment = datetime.fromisoformat(told)
    # In UTC, since not every date of another zone has one there.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def timestamp(entry: Entry, key: str) -> datetime:
    """Return an instant that has to be there."""
    moment = timestamp_or_none(entry, key)
    if moment is None:
        raise KeyError(key)
    return moment


def objects(entry: Entry, key: str) -> tuple[Entry, ...]:
    """Return a list of JSON objects, empty if there is none."""
    value = entry.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(it, Mapping) for it in value):
        raise TypeError(f"{key} is no list of objects")
    return tuple(value)


def one_line(said: object) -> str:
    """Return what a stranger says in one line of a log, without what could pass for more than that."""
    told = "".join(it if it.isprintable() else " " for it in str(said)[:MAX_MESSAGE])
    return " ".join(told.split())
