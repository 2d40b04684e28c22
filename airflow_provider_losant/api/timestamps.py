# SPDX-License-Identifier: Apache-2.0
"""
Instants as Losant spells them.

Losant reads a time it cannot parse as *now*, without an error, and a number below 10**12 as seconds.
So an instant is understood here, before any request, and only ever sent as full ISO-8601 UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time

from airflow_provider_losant.api.errors import InvalidArgument

_NUMBER = re.compile(r"\d{9,20}")  # of a date that is all digits there are eight
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SMALLEST_MILLISECONDS = 10**12


def parse_timestamp(value: object, *, field: str) -> datetime:
    """
    Read an instant in any of the spellings a DAG may use.

    :param value: A datetime, a date, an ISO-8601 string, or epoch *milliseconds* as a number or digits.
        A value without a time zone is UTC.
    :param field: The argument's name, for the error.
    :raises InvalidArgument: it is none of these.
    """
    if isinstance(value, str):
        value = _from_text(value.strip(), field)
    if isinstance(value, datetime):
        return _in_utc(value, field)
    if isinstance(value, date):
        return datetime.combine(value, clock_time(), tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_milliseconds(value, field)
    raise InvalidArgument(field, f"{value!r} is not an instant: give a datetime, ISO-8601 text or epoch ms")


def format_timestamp(moment: datetime) -> str:
    """Write an instant the one way Losant cannot misread: ISO-8601, UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_milliseconds(epoch_seconds: float) -> str:
    """Write epoch seconds as the epoch milliseconds of Losant's query parameters, never later."""
    # By way of microseconds, which a float still tells apart: 1.001 s is 1001 ms, not 1000.99 cut to 1000.
    return str(round(epoch_seconds * 1_000_000) // 1000)


def _from_text(text: str, field: str) -> datetime | int:
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            field, f"{text!r} is not an instant: Losant would read it as now; give ISO-8601 or epoch ms"
        ) from None


def _in_utc(moment: datetime, field: str) -> datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(field, f"{moment.isoformat()!r} has no date in UTC") from None


def _from_milliseconds(value: float, field: str) -> datetime:
    if not value >= _SMALLEST_MILLISECONDS:  # also catches NaN
        raise InvalidArgument(
            field, f"{value!r} is too small for epoch milliseconds (Losant would read it as seconds)"
        )
    try:
        # Not as a float of seconds, which in far years is no longer exact to the millisecond.
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        raise InvalidArgument(field, f"{value!r} is too large for epoch milliseconds") from None


def parse_seconds(value: object, *, field: str) -> float:
    """
    Read a span of time.

    :param value: Seconds, or a timedelta.
    :param field: The argument's name, for the error.
    :raises InvalidArgument: it is neither, or not positive.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise InvalidArgument(field, f"{value!r} is not a positive number of seconds, nor a timedelta")
