# SPDX-License-Identifier: Apache-2.0
"""
Starting a run exactly once.

``execute`` has no idempotency key, so it is never repeated blindly: after an answer was lost, and on
every retry, the notebook's log is searched for the order's mark before anything is sent again.
"""

from __future__ import annotations

import logging
import random
import time
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.retry import Jitter, backoff
from airflow_provider_losant.api.flows.steps import Clock, LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Execution


def submit_once(
    submission: Submission,
    policy: SubmitPolicy,
    *,
    is_retry: bool,
    start_policy: StartPolicy | None = None,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Started | Blocked]:
    """
    Bring about one run for the order: find the one an earlier try started, or start it.

    :param is_retry: An earlier try may have started one; a clean first try looks nothing up.
    :param gate: What has to be so before a run is started; a run of an earlier try needs to pass no gate.
    :raises Closed: the gate is shut.
    :raises Skipped: the gate is shut, and that is no failure.
    :raises SubmissionUnknown: an answer was lost, and the run can neither be found nor ruled out.
    """
    finder = ExecutionFinder(submission=submission, policy=policy, clock=clock, jitter=jitter)
    if is_retry and (submission.owner or submission.known_id):
        found = yield from finder.find_earlier()
        if found is not None:
            return Started.reconnected(found)
    if start_policy is not None:
        turned = yield from start_policy.admit(finder)
        if turned is not None:
            return turned
    for attempt in count(1):
        asked_at = clock()
        try:
            ref = yield endpoints.execute(
                submission.application_id, submission.notebook_id, submission.options
            )
        except LosantError as error:
            found = yield from _after(error, finder, is_last=attempt > policy.retries)
            if found is not None:
                return Started.reconnected(found)
            if not error.may_have_taken_effect:
                yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            return Started(ref=ref, submitted_at=asked_at)
    raise AssertionError  # the loop above only ends by return or raise


def _after(error: LosantError, finder: ExecutionFinder, *, is_last: bool) -> Flow[Execution | None]:
    """Decide what a failed ``execute`` means: the end, another attempt (None), or a run that had landed."""
    if not error.may_have_taken_effect:
        if is_last or not error.is_transient:
            raise error
        yield LogLine(f"{error}; asking again", logging.WARNING)
        return None
    if finder.submission.owner is None:
        raise SubmissionUnknown(f"{error}; without a mark in its context the run cannot be found") from error
    yield LogLine(f"{error}; looking whether Losant took the order all the same", logging.WARNING)
    found = yield from finder.find_lost()
    if found is not None:
        yield LogLine(f"Losant had taken it: adopted execution {found.ref.execution_id} ({found.status})")
        return found
    if is_last:
        raise error
    yield LogLine("Losant had not taken it; asking again")
    return None
