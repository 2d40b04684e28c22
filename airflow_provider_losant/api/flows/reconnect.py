# SPDX-License-Identifier: Apache-2.0
"""Finding an order's runs in the notebook's log, where lost answers and dead workers left them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError, NotLosantApi
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import try_number
from airflow_provider_losant.api.flows.retry import Jitter, backoff
from airflow_provider_losant.api.flows.steps import Clock, Flow, LogLine, Sleep
from airflow_provider_losant.api.flows.wait import is_worth_retrying

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
    from airflow_provider_losant.api.model import Execution, ExecutionLog

FIRST_LIMIT = 100
LOOK_CAP = 15.0


class SubmissionUnknown(LosantError):
    """The answer to ``execute`` was lost, and nothing tells whether Losant started a run."""

    is_transient = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFinder:
    """An order's view of the log."""

    submission: Submission
    policy: SubmitPolicy
    clock: Clock = time.time
    jitter: Jitter = random.uniform

    def find_earlier(self) -> Flow[Execution | None]:
        """
        Find what earlier tries left behind: take over the run worth having, stop the others.

        When the log shows nothing of the try before, it may be lagging: it is looked at again for a while.
        """
        begun = self.clock()
        for look in count():
            recent = yield from self._log_for_sure(begun - self.policy.lookback)
            ours = [it for it in recent if self.submission.owns(it)]
            worth = sorted((it for it in ours if it.status.can_reconnect), key=_completed_then_oldest)
            yield from self._stop(
                [it for it in recent if self.submission.supersedes(it)], "the task was cleared since"
            )
            yield from self._stop(worth[1:], "another run of this task is further")
            if worth:
                yield LogLine(
                    f"Took over execution {worth[0].ref.execution_id} of an earlier try ({worth[0].status})"
                )
                return worth[0]
            is_late = self.clock() - begun >= self.policy.max_log_lag
            if is_late or self._accounts_for_last_try(recent):
                endings = ", ".join(f"{it.ref.execution_id} {it.status}" for it in ours)
                yield LogLine(f"No run of an earlier try to take over ({endings or 'none'}): starting afresh")
                return None
            if look == 0:
                yield LogLine("The log does not show the try before; looking again in case it lags")
            yield Sleep(_pause(look))
        raise AssertionError  # the loop above only ends by return or raise

    def find_others(self) -> Flow[Sequence[Execution]]:
        """List the runs of the notebook that go on and are not of this task, newest first."""
        recent = yield from self._log_for_sure(self.clock() - self.policy.lookback)
        return [it for it in recent if not (it.status.is_final or self.submission.is_same_task(it))]

    def find_lost(self) -> Flow[Execution | None]:
        """
        Find the run of this very try after the answer to ``execute`` was lost, or rule it out.

        It is looked for as far back as a retry would, for Losant's clock may be far behind ours.

        :raises SubmissionUnknown: the log cannot be read.
        """
        lost_at = self.clock()
        for look in count():
            try:
                recent = yield from self._log(lost_at - self.policy.lookback)
            except NotLosantApi:
                raise  # neither the order nor this look met Losant: nothing was taken
            except LosantError as error:
                if not is_worth_retrying(error) or self._is_over(lost_at):
                    raise SubmissionUnknown(
                        f"whether Losant runs {self.submission} is unknown; a retry looks again ({error})"
                    ) from error
                floor = error.retry_after or 0.0
            else:
                floor = 0.0
                found = next((it for it in recent if self._is_of_this_try(it)), None)
                if found is not None or self.clock() - lost_at >= self.policy.max_log_lag:
                    return found
            yield Sleep(max(floor, _pause(look)))
        raise AssertionError  # the loop above only ends by return or raise

    def cancel_lost(self, looks: int = 3) -> Flow[None]:
        """
        Stop what an interrupted start, or a try before it, has brought about, its id not being known.

        :param looks: How often to look, a second apart, as the log may lag.
        """
        for look in range(looks):
            yield Sleep(min(look, 1))
            try:
                recent = yield from self._log(self.clock() - self.policy.lookback)
            except LosantError as error:
                yield LogLine(
                    f"Whether a run of {self.submission} goes on is unknown: {error}", logging.ERROR
                )
                return
            ours = [it for it in recent if self.submission.owns(it) and it.status.is_active]
            yield from self._stop(ours, "its task was killed")
            if ours:
                return

    def _stop(self, executions: Sequence[Execution], why: str) -> Flow[None]:
        for execution in executions:
            if execution.status.is_active and self.policy.cancel_stale:
                yield from cancel(execution.ref, why, retries=self.policy.retries, jitter=self.jitter)

    def _log_for_sure(self, since: float) -> Flow[Sequence[Execution]]:
        """Read the log, however long it takes within bounds: without it, starting could be starting twice."""
        began = self.clock()
        for attempt in count(1):
            try:
                return (yield from self._log(since))
            except LosantError as error:
                if not is_worth_retrying(error) or self._is_over(began):
                    raise
                yield LogLine(f"{error}; nothing is started before the log can be read", logging.WARNING)
                pause = backoff(attempt, cap=LOOK_CAP, floor=error.retry_after, jitter=self.jitter)
                yield Sleep(pause)
        raise AssertionError  # the loop above only ends by return or raise

    def _log(self, since: float) -> Flow[Sequence[Execution]]:
        """Read the whole log since an instant, as far as Losant gives it."""
        limit = FIRST_LIMIT
        while True:
            log: ExecutionLog = yield endpoints.execution_logs(
                self.submission.application_id, self.submission.notebook_id, limit=limit, since=since
            )
            if len(log) < limit or limit >= endpoints.MAX_LOG_LIMIT:
                return list(log)
            limit = min(limit * 4, endpoints.MAX_LOG_LIMIT)

    def _is_over(self, began: float) -> bool:
        return self.clock() - began > self.policy.max_poll_outage

    def _is_of_this_try(self, execution: Execution) -> bool:
        owner = self.submission.owner
        return owner is not None and owner.owns(execution) and try_number(execution) == owner.try_number

    def _accounts_for_last_try(self, recent: Sequence[Execution]) -> bool:
        """
        Tell whether the log shows the run of the try before this one, so that none can be hidden.

        With marks, what is noted down proves nothing: it may be of a try before that.
        """
        owner = self.submission.owner
        if owner is None:
            return any(it.ref.execution_id == self.submission.known_id for it in recent)
        return any(owner.is_same_task(it) and try_number(it) == owner.try_number - 1 for it in recent)


def _pause(look: int) -> float:
    return min(2.0**look, LOOK_CAP)


def _completed_then_oldest(execution: Execution) -> tuple[bool, float]:
    return not execution.status.is_success, execution.queued_time
