# SPDX-License-Identifier: Apache-2.0
"""When to try again: arithmetic only."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

Jitter = Callable[[float, float], float]

MAX_RETRY_AFTER = 15 * 60.0
"""Seconds, the longest pause that Losant documents; whoever asks for more may be asked again after it."""
MAX_DOUBLINGS = 30
"""Doublings, after which any cap is reached and a float would some day overflow."""


def backoff(
    attempt: int,
    *,
    base: float = 1.0,
    cap: float = 60.0,
    floor: float | None = None,
    jitter: Jitter = random.uniform,
) -> float:
    """
    Return the seconds to pause after the ``attempt``-th failure (from 1).

    Exponential with full jitter, so that many clients that failed together do not come back together.

    :param floor: What the server asked for (``Retry-After``); we never come back sooner.
    """
    pause = jitter(0.0, min(cap, base * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)))
    return pause if floor is None else floor + pause


def retry_after(
    text: str | None, date: str | None = None, clock: Callable[[], float] = time.time
) -> float | None:
    """
    Read a ``Retry-After`` header, in seconds or as an HTTP date.

    :param date: The ``Date`` header beside it: what the server takes for now, as clocks differ.
    :return: Seconds from now, from 0 to :data:`MAX_RETRY_AFTER`; None when none can be read.
    """
    if not text:
        return None
    if text.strip().isdecimal():
        return min(float(text), MAX_RETRY_AFTER)
    moment, now = _epoch(text), _epoch(date or "")
    if moment is None:
        return None
    return min(max(0.0, moment - (clock() if now is None else now)), MAX_RETRY_AFTER)


def _epoch(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # HTTP's older form of a date names no zone, and means Greenwich.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
