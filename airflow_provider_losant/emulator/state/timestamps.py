# SPDX-License-Identifier: Apache-2.0
"""Instants: epoch seconds inside, ISO-8601 with milliseconds on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

# Losant reads smaller numbers as seconds, so that 1700000000 and 1700000000000 are the same instant.
SMALLEST_MILLISECONDS: Final = 1_000_000_000_000
# The years 1 to 9999: there is no date to write for anything else.
FIRST: Final = -62_135_596_800
LAST: Final = 253_402_300_799


def iso(at: float) -> str:
    """Write an instant as Losant does: UTC, milliseconds, ``Z``."""
    moment = datetime.fromtimestamp(round(at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def http_date(at: float) -> str:
    """Write an instant as HTTP's headers do."""
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)


def read_text(text: str) -> float | None:
    """Read ISO-8601 or an HTTP-style date; ``None`` when it is neither. Naive dates are UTC."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            continue
    return None


def read_relative_to(given: Any, now: float) -> float | None:
    """
    Read the query time of an execution; ``None`` when Losant could not parse it.

    :param given: what the request said: text, a number, ``{"$date": text}`` or nothing.
    :param now: the instant that "nothing", zero and negative offsets refer to.
    """
    if given is None:
        return now
    if isinstance(given, dict):
        given = given["$date"]
    if isinstance(given, str):
        return read_text(given)
    if given <= 0:
        at = now + given / 1000
    else:
        at = given / 1000 if given >= SMALLEST_MILLISECONDS else float(given)
    return at if FIRST <= at <= LAST else None
