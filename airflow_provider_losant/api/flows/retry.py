# SPDX-License-Identifier: Apache-2.0
"""When a failed call is repeated, and after which pause."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import BadRequest, LosantError, NotFound, RateLimited
from airflow_provider_losant.api.flows.steps import Flow, LogLine, Sleep

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

T = TypeVar("T")

Jitter = Callable[[float, float], float]

MAX_RETRY_AFTER = 15 * 60.0
"""Seconds, the longest pause that Losant documents; whoever asks for more may be asked again after it."""
MAX_DOUBLINGS = 30
"""Doublings, after which any cap is reached and a float would some day overflow."""


def call_with_retry(call: Call[T], retries: int, jitter: Jitter = random.uniform) -> Flow[T]:
    """Make a call; while it fails in a way that may pass, and repeating it does no harm, make it again."""
    attempt, may_be_done = 0, False
    while True:
        try:
            answer: T = yield call
        except LosantError as error:
            if may_be_done and call.deletes and isinstance(error, NotFound | BadRequest):
                return call.parse(endpoints.SUCCESS)
            attempt += 1
            may_be_done = may_be_done or error.may_have_taken_effect
            is_safe = call.idempotent or not error.may_have_taken_effect
            is_soon_over = error.is_transient and not (call.min_interval and isinstance(error, RateLimited))
            if attempt > retries or not (is_soon_over and is_safe):
                raise
            yield LogLine(f"{error}; trying again ({attempt} of {retries})", logging.WARNING)
            yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            return answer


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
