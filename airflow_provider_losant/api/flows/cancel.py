# SPDX-License-Identifier: Apache-2.0
"""Ask Losant to cancel an execution."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Literal

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import BadRequest, LosantError, NotFound
from airflow_provider_losant.api.flows.log_reader import SINCE_MARGIN, LogLimit, read_log
from airflow_provider_losant.api.flows.retry import Jitter, call_with_retry
from airflow_provider_losant.api.flows.steps import Clock, Flow, LogLine, Sleep
from airflow_provider_losant.api.flows.wait import is_worth_retrying
from airflow_provider_losant.api.model import CANCELING

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution, ExecutionRef

CancelResult = Literal["requested", "not_needed", "failed"]

MAX_PAUSE = 15.0
"""Seconds between two attempts to cancel an execution that Losant does not know yet."""


def cancel(
    ref: ExecutionRef,
    why: str,
    *,
    max_log_lag: float = 0.0,
    retries: int = 0,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[CancelResult]:
    """
    Ask Losant to cancel an execution; one that has ended, or that Losant does not know, needs no cancelling.

    Losant may not know a new execution yet. While it is younger than ``max_log_lag``, a 404 therefore counts
    only if the log shows that the execution has ended; otherwise it is cancelled again after a pause.

    :param why: The reason, for the log.
    :param max_log_lag: Seconds that Losant may lag behind ``execute``; 0 for an execution seen in the log.
    :return: What came of it. A failure is logged, not raised, because the caller reports its own result.
    """
    started_at = clock()
    for attempt in count():
        # The age is by Losant's clock, which may be ahead, so the time spent here is limited as well.
        now = clock()
        lag_left = max_log_lag - max(now - ref.created_at, now - started_at)
        call = endpoints.cancel_execution(ref)
        if lag_left > 0:
            # After a lost response a 404 usually means that the execution was cancelled, but not yet here.
            call = replace(call, deletes=False)
        try:
            yield from call_with_retry(call, retries, jitter, is_worth_retrying)
        except NotFound as error:
            if lag_left <= 0:
                yield LogLine(f"{error}; the {ref} does not need to be cancelled")
                return "not_needed"
            result = yield from _read_status(ref, error)
            if result is not None:
                return result
            if attempt == 0:
                yield LogLine(
                    f"{error}; the {ref} is so new that Losant may not know it; cancelling it again"
                )
            yield Sleep(min(2.0**attempt, MAX_PAUSE, max(lag_left, 1.0)))
        except BadRequest as error:
            yield LogLine(f"{error}; the {ref} does not need to be cancelled")
            return "not_needed"
        except LosantError as error:
            yield LogLine(
                f"{error}; the {ref} could not be cancelled and may still use run minutes", logging.ERROR
            )
            return "failed"
        else:
            yield LogLine(f"Asked Losant to cancel the {ref}, because {why}")
            return "requested"
    raise AssertionError  # the loop above only ends by return or raise


def _read_status(ref: ExecutionRef, refusal: NotFound) -> Flow[CancelResult | None]:
    """Return what the log says about an execution that Losant did not find; None if it may be active."""
    found: Execution | None = None
    try:
        reading = yield from read_log(
            ref.application_id,
            ref.notebook_id,
            back_to=ref.created_at - SINCE_MARGIN,
            limit=LogLimit(),
            is_enough=lambda log: ref.execution_id in log,
        )
        found = reading.log.find(ref.execution_id)
    except NotFound as error:
        yield LogLine(f"{error}; the {ref} does not need to be cancelled")
        return "not_needed"
    except LosantError:
        return None  # the next attempt to cancel shows more
    # An undocumented status may be one of an execution that has ended.
    if found is None or (found.status.is_active and found.status.is_known):
        return None
    yield LogLine(f"{refusal}; the {ref} does not need to be cancelled (status: {found.status})")
    return "requested" if found.status is CANCELING else "not_needed"
