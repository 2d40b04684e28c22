# SPDX-License-Identifier: Apache-2.0
"""Timestamps: epoch seconds inside the emulator, ISO-8601 with milliseconds in its responses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

# Losant reads smaller numbers as seconds, so that 1700000000 and 1700000000000 mean the same time.
MIN_MILLISECONDS: Final = 1_000_000_000_000
# The years 1 to 9999, which are all that a datetime can represent.
MIN_TIMESTAMP: Final = -62_135_596_800
MAX_TIMESTAMP: Final = 253_402_300_799


def format_timestamp(timestamp: float) -> str:
    """Format epoch seconds as Losant does: UTC, milliseconds, ``Z``."""
    moment = datetime.fromtimestamp(round(timestamp * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_http_date(timestamp: float) -> str:
    """Format epoch seconds for an HTTP header."""
    return format_datetime(datetime.fromtimestamp(timestamp, UTC), usegmt=True)


def parse_timestamp(text: str) -> float | None:
    """Parse ISO-8601 or an HTTP date to epoch seconds; ``None`` if it is neither. The default zone is UTC."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            continue
    return None


def parse_relative_to(value: Any, now: float) -> float | None:
    """
    Parse the query time of an execution to epoch seconds; ``None`` if Losant cannot parse it.

    :param value: ``relativeTo`` of the request: text, a number, ``{"$date": text}`` or ``None``.
    :param now: the time that ``None``, zero and negative offsets refer to, in epoch seconds.
    """
    if value is None:
        return now
    if isinstance(value, dict):
        value = value["$date"]
    if isinstance(value, str):
        return parse_timestamp(value)
    if value <= 0:
        timestamp = now + value / 1000
    else:
        timestamp = value / 1000 if value >= MIN_MILLISECONDS else float(value)
    return timestamp if MIN_TIMESTAMP <= timestamp <= MAX_TIMESTAMP else None
