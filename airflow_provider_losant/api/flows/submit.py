# SPDX-License-Identifier: Apache-2.0
"""
Submit an execution exactly once.

``execute`` has no idempotency key, so it is never repeated blindly: after a lost response, and in every
retry, the notebook's execution log is searched for the owner's marker before anything is submitted again.
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
from airflow_provider_losant.api.flows.start_policy import Allowed
from airflow_provider_losant.api.flows.steps import Clock, LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.locate import Located
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Execution


def submit_once(
    submission: Submission,
    policy: SubmitPolicy,
    *,
    is_retry: bool,
    located: Located | None = None,
    start_policy: StartPolicy | None = None,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Started | Blocked]:
    """
    Return the one execution of a submission: that of an earlier try, or a new one.

    :param is_retry: An earlier try may have submitted one; a first try searches for nothing.
    :param located: What was found of earlier tries when the notebook was looked up.
    :param start_policy: The conditions for a new execution; they do not apply to that of an earlier try.
    :raises StartDenied: the conditions do not allow an execution now.
    :raises StartSkipped: the same, and the task is to be skipped.
    :raises Replaced: another task has cancelled the execution of an earlier try to run its own.
    :raises SubmissionUnknown: a response was lost, and the execution can neither be found nor ruled out.
    """
    finder = ExecutionFinder(submission=submission, policy=policy, clock=clock, jitter=jitter)
    if is_retry and (submission.owner or submission.known_id):
        found = yield from _find_earlier(finder, located)
        if found is not None:
            return Started.reconnected(found)
    if start_policy is not None:
        admission = yield from start_policy.admit(finder)
        if not isinstance(admission, Allowed):
            return admission
        submission = submission.replacing(admission.replaces)
    for attempt in count(1):
        submitted_at = clock()
        try:
            ref = yield endpoints.execute(
                submission.application_id, submission.notebook_id, submission.options
            )
        except LosantError as error:
            found = yield from _after_failure(error, finder, is_last=attempt > policy.retries)
            if found is not None:
                return Started.reconnected(found)
            if not error.may_have_taken_effect:
                yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            return Started(ref=ref, submitted_at=submitted_at)
    raise AssertionError  # the loop above only ends by return or raise


def _find_earlier(finder: ExecutionFinder, located: Located | None) -> Flow[Execution | None]:
    if located is not None and (located.earlier or located.is_searched):
        return located.earlier
    return (yield from finder.find_earlier())


def _after_failure(error: LosantError, finder: ExecutionFinder, *, is_last: bool) -> Flow[Execution | None]:
    """Decide what a failed ``execute`` means: raise, submit again (None), or reconnect to what it started."""
    if not error.may_have_taken_effect:
        if is_last or not error.is_transient:
            raise error
        yield LogLine(f"{error}; submitting again", logging.WARNING)
        return None
    if finder.submission.owner is None:
        raise SubmissionUnknown(f"{error}; without a marker the execution cannot be found") from error
    yield LogLine(f"{error}; searching the execution log for what Losant may have started", logging.WARNING)
    found = yield from finder.find_lost(error)
    if found is not None:
        yield LogLine(f"Reconnecting to execution {found.ref.execution_id} (status: {found.status})")
        return found
    if is_last:
        raise error
    yield LogLine("The execution log shows none; submitting again")
    return None
