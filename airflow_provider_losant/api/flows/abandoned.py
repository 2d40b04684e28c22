# SPDX-License-Identifier: Apache-2.0
"""
Decide whether a task waits for an execution. Only an execution that no task waits for is cancelled.

A kill handler, a trigger, the orphan sweep and a retry learn of it in different ways, but all of them decide
here. What they have in common: a state in which Airflow still runs the task, or will, means that a try of the
task reconnects to the execution or cancels it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_losant.api.defaults import RETRY_ON
from airflow_provider_losant.api.model import CANCELED

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Clock
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.api.model import Execution, Status

ENDED_STATES = frozenset({None, "success", "failed", "skipped", "upstream_failed", "removed"})
"""States of a task instance that Airflow does not run any more; None is one that was cleared or deleted."""
WAITING_STATES = frozenset({"running", "deferred"})
"""States in which the XComs of a task instance are those of its current try."""
STANDSTILL_MEMORY = 120.0
"""Seconds after a standstill within which Airflow may stop the process because of it."""


def why_abandoned(state: str | None, execution_id: str, awaited_id: str | None = None) -> str | None:
    """
    Return why no task waits for an execution; None if its task does, or may.

    :param state: State of the task instance that has submitted it; None if it was cleared or deleted.
    :param awaited_id: ID of the execution for which the task instance waits, where that is known. An XCom
        contains it, in the states :data:`WAITING_STATES`.
    """
    if state in ENDED_STATES:
        return f"its task is {state or 'cleared or deleted'}"
    if awaited_id is not None and awaited_id != execution_id:
        return f"its task waits for execution {awaited_id}"
    return None


def is_last_try(try_number: int, max_tries: int) -> bool:
    """Tell whether Airflow does not retry the task after this try fails, so that nothing will reconnect."""
    return try_number > max_tries


def split_by_retry(
    submission: Submission,
    listed: Sequence[Execution],
    *,
    reconnect_after_clear: bool,
    retry_on: Collection[str] = RETRY_ON,
) -> tuple[Execution | None, list[tuple[Execution, str]]]:
    """
    Return the execution that a retry reconnects to, and the abandoned ones of its task, with the reason.

    After a completed execution, the oldest is preferred: another try may have reconnected to it already.

    One that has ended with a status that is not in ``retry_on`` counts, too, so that its failure is that of
    the task. Except a canceled one, which the earlier try may have cancelled itself when it was killed.

    :param listed: The executions in the log.
    :param reconnect_after_clear: Also the latest execution from before a clear, if the owner has none.
    :param retry_on: Statuses after which a retry submits a new execution.
    """
    own = [it for it in listed if submission.owns(it)]
    older = [it for it in listed if submission.owns_older(it)]
    final = [it for it in own if _is_final_failure(it.status, retry_on)]
    candidates = sorted((it for it in own if it.status.can_reconnect), key=_completed_then_oldest) + final
    chosen = candidates[0] if candidates else None
    cleared = [it for it in older if submission.owns_before_clear(it)]
    if reconnect_after_clear and cleared and not own:
        latest = max(cleared, key=_queued_time)
        chosen = latest if latest.status.can_reconnect else None
    abandoned = [(it, "its task has been cleared since") for it in older if it is not chosen]
    abandoned += [(it, "its task has another execution") for it in candidates if it is not chosen]
    return chosen, abandoned


class Standstill:
    """
    Notices that this process stood still for so long that Airflow may have started another try elsewhere.

    That try has reconnected to the execution, so a kill of this one must not cancel it. The wall clock is
    compared, because other clocks stop while a machine is suspended.

    :param longest: Seconds that the process may stand still: fewer than Airflow waits for its heartbeat.
    """

    def __init__(self, longest: float, clock: Clock = time.time) -> None:
        self._longest = longest
        self._clock = clock
        self._seen_at = clock()
        self._ended_at = -inf
        self.seconds = 0.0
        """How long the latest standstill lasted."""

    @classmethod
    def before(cls, heartbeat_timeout: float, request_timeout: float, clock: Clock = time.time) -> Standstill:
        """
        Notice what is shorter than Airflow's heartbeat timeout, but if possible not a slow request.

        :param heartbeat_timeout: Seconds without a heartbeat after which Airflow starts another try.
        :param request_timeout: Seconds that a host may be silent in a request.
        """
        longest = min(max(heartbeat_timeout / 2, 2 * request_timeout), 0.9 * heartbeat_timeout)
        return cls(longest, clock)

    def note_progress(self) -> None:
        """Note that the process runs; to be called more often than ``longest``."""
        now = self._clock()
        gap, self._seen_at = now - self._seen_at, now
        if gap < 0:  # the clock was set back
            self._ended_at += gap
        if gap > self._longest:
            self._ended_at, self.seconds = now, gap

    @property
    def is_recent(self) -> bool:
        """Whether the process stood still until just now."""
        self.note_progress()
        return self._seen_at - self._ended_at < STANDSTILL_MEMORY


def _is_final_failure(status: Status, retry_on: Collection[str]) -> bool:
    is_failure = status.is_final and not status.is_success and status is not CANCELED
    return is_failure and status.name not in retry_on


def _queued_time(execution: Execution) -> float:
    return execution.queued_time


def _completed_then_oldest(execution: Execution) -> tuple[bool, float]:
    return not execution.status.is_success, execution.queued_time
