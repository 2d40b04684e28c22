# SPDX-License-Identifier: Apache-2.0
"""
Parse and format timestamps.

Losant treats a timestamp that it cannot parse as the current time, without an error, and a number below
10**12 as seconds. So timestamps are validated here, before any request, and always sent as ISO-8601 UTC.

The parser is :meth:`datetime.datetime.fromisoformat`. ``pendulum.parse`` also accepts ``now`` and ``12:34``
(times of today) and ``2026`` (January 1), returns durations and intervals for some texts, and is 30 to 40
times slower.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time

from airflow_provider_losant.api.defaults import LONGEST
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import refuse

DAY = 24 * 3600.0
"""Seconds."""
_NUMBER = re.compile(r"\d{9,20}(\.\d+)?")  # a date that consists of digits has eight
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_MILLISECONDS = 10**12
_SHOWN_AS_SECONDS = 120


def parse_timestamp(value: object, *, field: str) -> datetime:
    """
    Parse a timestamp of a DAG's argument.

    :param value: A datetime, a date, ISO-8601 text, or epoch *milliseconds* as a number or digits.
        A value without a time zone is UTC.
    :param field: The argument's name, for the error.
    :return: The timestamp in UTC.
    :raises InvalidArgument: the value is not a timestamp.
    """
    if isinstance(value, str):
        value = _from_text(value.strip(), field)
    if isinstance(value, datetime):
        return _in_utc(value, field)
    if isinstance(value, date):
        return datetime.combine(value, clock_time(), tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_milliseconds(value, field)
    return refuse(value, field, "is not a timestamp: use a datetime, ISO-8601 or epoch ms")


def format_timestamp(timestamp: datetime) -> str:
    """Return a timestamp as ISO-8601 in UTC with milliseconds and ``Z``, which Losant always parses."""
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_elapsed(seconds: float) -> str:
    """Return a duration for a log line, such as ``45 s``, ``12 min`` or ``3 h 5 min``; at least ``0 s``."""
    whole = max(0, round(seconds))
    if whole < _SHOWN_AS_SECONDS:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return " ".join(f"{it} {unit}" for it, unit in ((hours, "h"), (minutes, "min")) if it)


def to_milliseconds(epoch_seconds: float) -> str:
    """Return epoch seconds as epoch milliseconds, rounded down, for Losant's query parameters."""
    # Rounded to microseconds first, so that 1.001 s is 1001 ms and not 1000.99 cut to 1000.
    return str(round(epoch_seconds * 1_000_000) // 1000)


def _from_text(text: str, field: str) -> datetime | float:
    if number := _NUMBER.fullmatch(text):
        return float(text) if number[1] else int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            field,
            f"{text!r} is not a timestamp (Losant would use the current time): use ISO-8601 or epoch ms",
        ) from None


def _in_utc(timestamp: datetime, field: str) -> datetime:
    try:
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(field, f"{timestamp.isoformat()!r} is out of range in UTC") from None
    except ValueError:  # of the NaT of pandas, which is a datetime
        refuse(timestamp, field, "is not a timestamp")


def _from_milliseconds(value: float, field: str) -> datetime:
    if not value >= _MIN_MILLISECONDS:  # also true for NaN
        refuse(value, field, "is too small for epoch milliseconds (Losant would use it as seconds)")
    try:
        # A float of seconds would not be exact to the millisecond in distant years.
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        refuse(value, field, "is too large for epoch milliseconds")


def parse_seconds(value: object, *, field: str) -> float:
    """
    Parse a duration.

    :param value: Seconds, or a timedelta. More than ten years count as these.
    :param field: The argument's name, for the error.
    :return: Seconds.
    :raises InvalidArgument: the value is neither, or not positive.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(min(value, LONGEST))
    return refuse(value, field, "is not a positive number of seconds or timedelta")
