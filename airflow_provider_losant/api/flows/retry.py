# SPDX-License-Identifier: Apache-2.0
"""Retry failed calls with backoff."""

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
"""Seconds; the longest pause that Losant documents. A longer ``Retry-After`` is cut to it."""
MAX_DOUBLINGS = 30
"""Doublings of the pause after which any cap is reached; more would overflow a float in the end."""


def is_transient(error: LosantError) -> bool:
    """Tell whether the same request may succeed later."""
    return error.is_transient


def call_with_retry(
    call: Call[T],
    retries: int,
    jitter: Jitter = random.uniform,
    is_worth_retrying: Callable[[LosantError], bool] = is_transient,
) -> Flow[T]:
    """
    Make a call, and retry it while its error is transient and a retry is safe.

    A retry is safe if the call is idempotent or the failed attempt had no effect. If a retried delete or
    cancel gets 404 or 400 after a lost response, it counts as done.

    :param retries: Maximum number of retries.
    :param is_worth_retrying: After which errors, where that is safe.
    :raises LosantError: the last attempt's error.
    """
    attempt, may_be_done = 0, False
    while True:
        try:
            result: T = yield call
        except LosantError as error:
            if may_be_done and call.deletes and isinstance(error, NotFound | BadRequest):
                return call.parse(endpoints.SUCCESS)
            attempt += 1
            may_be_done = may_be_done or error.may_have_taken_effect
            is_safe = call.idempotent or not error.may_have_taken_effect
            # Losant's limit for such calls lasts longer than any backoff.
            is_too_soon = bool(call.min_interval) and isinstance(error, RateLimited)
            if attempt > retries or is_too_soon or not (is_worth_retrying(error) and is_safe):
                raise
            yield LogLine(f"{error}; retrying ({attempt} of {retries})", logging.WARNING)
            yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            return result


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

    The pause is exponential with full jitter, so that clients that failed together do not retry together.

    :param base: Upper bound in seconds after the first failure; it doubles with each further one.
    :param cap: Maximum of that bound, in seconds.
    :param floor: Seconds from ``Retry-After``, which are added to the pause.
    """
    pause = jitter(0.0, min(cap, base * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)))
    return pause if floor is None else floor + pause


def retry_after(
    text: str | None, date: str | None = None, clock: Callable[[], float] = time.time
) -> float | None:
    """
    Parse a ``Retry-After`` header, in seconds or as an HTTP date.

    :param date: The response's ``Date`` header: the server's current time, because clocks differ.
    :return: Seconds from now, from 0 to :data:`MAX_RETRY_AFTER`; None without a valid header.
    """
    if not text:
        return None
    if text.strip().isdecimal():
        return min(float(text), MAX_RETRY_AFTER)
    retry_at, now = _epoch(text), _epoch(date or "")
    if retry_at is None:
        return None
    return min(max(0.0, retry_at - (clock() if now is None else now)), MAX_RETRY_AFTER)


def _epoch(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # HTTP's obsolete date formats have no time zone, and mean GMT.
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
