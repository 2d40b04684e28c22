# SPDX-License-Identifier: Apache-2.0
"""Find a task's executions in the execution log, after a lost response or in a later try."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import LosantError, NotLosantApi
from airflow_provider_losant.api.flows.abandoned import split_by_retry
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.log_reader import SEARCH_LIMIT, WHOLE_LOG, LogLimit, read_log
from airflow_provider_losant.api.flows.ownership import replaced_ids
from airflow_provider_losant.api.flows.retry import MAX_RETRY_AFTER, Jitter, backoff
from airflow_provider_losant.api.flows.steps import Clock, LogLine, Sleep
from airflow_provider_losant.api.flows.wait import is_worth_retrying
from airflow_provider_losant.api.model import UNREADABLE

if TYPE_CHECKING:
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.flows.log_reader import LogReading
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
    from airflow_provider_losant.api.model import Execution, ExecutionRef

MAX_PAUSE = 15.0
"""Seconds between two searches of the log."""
SEARCH_PAUSE = 0.5
"""Seconds between two searches in the little time that a kill leaves."""


class SubmissionUnknown(LosantError):
    """The log cannot show whether Losant runs an execution that this try or an earlier one submitted."""

    is_transient = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierTry:
    """
    What one search of a notebook's log shows of earlier tries.

    :param found: The execution to reconnect to; None if there is none.
    :param is_last_shown: The log shows the execution of the try before, so that none can be missing.
    """

    found: Execution | None
    is_last_shown: bool
    reading: LogReading
    listed: Sequence[Execution]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFinder:
    """Searches the execution log for the executions of a submission's owner."""

    submission: Submission
    policy: SubmitPolicy
    clock: Clock = time.time
    jitter: Jitter = random.uniform
    limit: LogLimit = field(default_factory=partial(LogLimit, SEARCH_LIMIT), repr=False, compare=False)

    def find_earlier(self) -> Flow[Execution | None]:
        """
        Return the execution of an earlier try to reconnect to, and cancel the task's abandoned ones.

        If the log does not show an execution of the try before, it may lag, so it is searched again for
        ``max_log_lag``.

        :raises SubmissionUnknown: the log cannot be read, or not back far enough to rule one out.
        """
        started_at = self.clock()
        for search in count():
            is_last = self.clock() - started_at >= self.policy.max_log_lag
            earlier = yield from self.search_earlier(whole=is_last or search % 2 == 1)
            if earlier.found is not None:
                return earlier.found
            if is_last and not earlier.is_last_shown:
                self.check_complete(earlier.reading)
            if is_last or earlier.is_last_shown:
                own = filter(self.submission.owns, earlier.listed)
                ended = ", ".join(f"{it.ref.execution_id} {it.status}" for it in own)
                yield LogLine(
                    f"No execution from an earlier try to reconnect to ({ended or 'none listed'}); "
                    "submitting a new one"
                )
                return None
            if search == 0:
                yield LogLine(
                    "The execution log does not show the earlier try; searching again in case it lags"
                )
            yield Sleep(pause(search))
        raise AssertionError  # the loop above only ends by return or raise

    def search_earlier(self, *, whole: bool) -> Flow[EarlierTry]:
        """
        Search the log once for the execution of an earlier try, and cancel the task's abandoned ones.

        :param whole: Request the log without ``since``. Absence is concluded only from such a log: Losant may
            compare ``since`` with the start of executions, and then one that is queued is missing.
        :raises SubmissionUnknown: the log cannot be read.
        """
        try:
            reading = yield from self._read_log_or_wait(whole=whole)
        except LosantError as error:
            raise self.unknown(error) from error
        found, listed, policy = None, self._summaries(reading.log), self.policy
        chosen, abandoned = split_by_retry(
            self.submission,
            listed,
            reconnect_after_clear=policy.reconnect_after_clear,
            retry_on=policy.retry_on,
        )
        yield from self._cancel_abandoned(abandoned)
        if chosen is not None:
            found = reading.log.complete(chosen)
            which = "an earlier try" if self.submission.owns(chosen) else "before the clear"
            yield LogLine(
                f"Reconnecting to execution {found.ref.execution_id} from {which} (status: {found.status})"
            )
        return EarlierTry(
            found=found, is_last_shown=self._shows_last_try(listed), reading=reading, listed=listed
        )

    def in_notebook(self, notebook_id: str) -> ExecutionFinder:
        """Return a finder for the same owner in another notebook's log."""
        submission = replace(self.submission, notebook_id=notebook_id)
        return replace(self, submission=submission, limit=LogLimit(SEARCH_LIMIT))

    def check_complete(self, reading: LogReading) -> None:
        """
        Do nothing if the log was read completely.

        :raises SubmissionUnknown: it was not.
        """
        if not reading.is_complete:
            raise self.unknown(reading.problem)

    def unknown(self, problem: object) -> SubmissionUnknown:
        """Return the error about executions of the owner that can neither be found nor ruled out."""
        return SubmissionUnknown(
            f"{problem}; whether Losant runs {self.submission} is unknown, a retry searches again"
        )

    def find_unfinished(self) -> Flow[Sequence[Execution]]:
        """
        Return the notebook's executions that have not ended, newest first.

        Earlier ones of the same task, which it did not reconnect to, are among them.

        :raises LogIncomplete: the log shows none, but cannot be read back far enough.
        """
        reading = yield from self._read_log_or_wait(whole=True, only_own=False)
        unfinished = [
            reading.log.complete(it)
            for it in self._summaries(reading.log)
            if not (it.status.is_final or it.status is UNREADABLE)
        ]
        if not unfinished:
            reading.check_complete()
        return unfinished

    def find_replacement(self) -> Flow[Execution | None]:
        """Return an execution of another task, for which one of the owner's executions was cancelled."""
        owner = self.submission.owner
        if owner is None or owner.try_number == 1:
            return None
        reading = yield from self._read_log_or_wait(whole=True)
        listed = self._summaries(reading.log)
        own = {it.ref.execution_id for it in listed if self.submission.owns(it)}
        return next(
            (it for it in listed if it.ref.execution_id not in own and not own.isdisjoint(replaced_ids(it))),
            None,
        )

    def find_lost(self, failure: LosantError) -> Flow[Execution | None]:
        """
        Return the execution of this try after the response to ``execute`` was lost; None if there is none.

        It is searched for as far back as a retry would, because Losant's clock may be far behind.

        :param failure: What came instead of the response. If that was a web page, and only web pages follow,
            the host is probably not Losant's, so the search ends after ``max_log_lag``.
        :raises SubmissionUnknown: the log cannot be read, or not back far enough.
        """
        lost_at = outage_since = self.clock()
        only_pages = isinstance(failure, NotLosantApi)
        for search in count():
            is_last = self.clock() - lost_at >= self.policy.max_log_lag
            try:
                reading = yield from self._read_log(
                    whole=is_last or search % 2 == 1,
                    is_enough=self._shows(self._is_of_this_try),
                )
            except LosantError as error:
                only_pages = only_pages and isinstance(error, NotLosantApi)
                longest = self.policy.max_log_lag if only_pages else self.policy.max_poll_outage
                if not is_worth_retrying(error) or self.clock() - outage_since > longest:
                    raise self.unknown(error) from error
                floor = error.retry_after or 0.0
                outage_since = _without_rate_limit(outage_since, lost_at, error)
            else:
                floor, only_pages = 0.0, False
                found = next((it for it in self._summaries(reading.log) if self._is_of_this_try(it)), None)
                if found is not None:
                    return reading.log.complete(found)
                if is_last:
                    self.check_complete(reading)
                    return None
            yield Sleep(max(floor, pause(search)))
        raise AssertionError  # the loop above only ends by return or raise

    def find_active(self, budget: float) -> Flow[Sequence[ExecutionRef]]:
        """
        Return the task's active executions, for a kill that comes before the id of a submitted one.

        The log may lag, and Losant may process the submission only later. So the log is searched about twice
        a second until it lists an execution of this try, or an active one of an earlier try of the owner. A
        failed search does not end that. Executions from before a clear are returned as well.

        :param budget: Seconds after which no further search begins; there is always a first one.
        """
        submission, started_at = self.submission, self.clock()
        if submission.owner is None and submission.known_id is None:
            return ()
        is_over = partial(self._is_later, started_at + budget)
        incomplete: str | None = None
        active: Sequence[ExecutionRef] = ()
        for search in count():
            problem, pause = None, SEARCH_PAUSE
            try:
                reading = yield from self._read_log(
                    whole=search % 2 == 1,  # as in find_earlier
                    is_enough=self._shows(submission.owns),
                    # What Losant lists after the first search is among the newest.
                    give_up_when=is_over if incomplete is None else _always,
                )
            except LosantError as error:
                problem = str(error)
                if not is_worth_retrying(error):
                    break
                pause = max(pause, error.retry_after or 0.0)
            else:
                of_task = [it for it in self._summaries(reading.log) if submission.is_same_task(it)]
                active = [it.ref for it in of_task if it.status.is_active]
                own = [it for it in of_task if submission.owns(it)]
                is_known = any(it.status.is_active or self._is_of_this_try(it) for it in own)
                if is_known or (submission.owner is None and own):
                    return active
                incomplete = reading.problem if incomplete is None else incomplete
                self.limit.reset()
            if self.clock() - started_at + pause > budget:
                break
            yield Sleep(pause)
        # Only now, because another thread, which a kill has interrupted, may hold the lock of the log.
        if problem or incomplete:
            yield LogLine(
                f"{problem or incomplete}; whether an execution of {submission} is active is unknown",
                logging.ERROR,
            )
        return active

    def _cancel_abandoned(self, executions: Sequence[tuple[Execution, str]]) -> Flow[None]:
        for execution, why in executions:
            if execution.status.is_active and self.policy.cancel_stale:
                yield from cancel(execution.ref, why, retries=self.policy.retries, jitter=self.jitter)

    def _read_log_or_wait(self, *, whole: bool, only_own: bool = True) -> Flow[LogReading]:
        """Read the log, also after an outage: to submit without it could start a second execution."""
        began_at = started_at = self.clock()
        for attempt in count(1):
            try:
                return (yield from self._read_log(whole=whole, only_own=only_own))
            except LosantError as error:
                if not is_worth_retrying(error) or self.clock() - started_at > self.policy.max_poll_outage:
                    raise
                started_at = _without_rate_limit(started_at, began_at, error)
                yield LogLine(f"{error}; nothing is submitted before the log can be read", logging.WARNING)
                pause = backoff(attempt, cap=MAX_PAUSE, floor=error.retry_after, jitter=self.jitter)
                yield Sleep(pause)
        raise AssertionError  # the loop above only ends by return or raise

    def _read_log(
        self,
        *,
        whole: bool,
        only_own: bool = True,
        is_enough: Callable[[ExecutionLog], bool] | None = None,
        give_up_when: Callable[[], bool] | None = None,
    ) -> Flow[LogReading]:
        return read_log(
            self.submission.application_id,
            self.submission.notebook_id,
            back_to=self.policy.back_to,
            since=WHOLE_LOG if whole else self.policy.back_to,
            needed_from=self.policy.first_try_after if only_own else None,
            limit=self.limit,
            is_enough=is_enough,
            give_up_when=give_up_when,
        )

    def _summaries(self, log: ExecutionLog) -> Sequence[Execution]:
        return log.summaries(self.submission.application_id, self.submission.notebook_id)

    def _shows(self, is_wanted: Callable[[Execution], bool]) -> Callable[[ExecutionLog], bool]:
        return lambda log: any(map(is_wanted, self._summaries(log)))

    def _is_later(self, time: float) -> bool:
        return self.clock() > time

    def _is_of_this_try(self, execution: Execution) -> bool:
        owner = self.submission.owner
        return owner is not None and owner.is_of_try(execution, owner.try_number)

    def _shows_last_try(self, recent: Sequence[Execution]) -> bool:
        """
        Tell whether the log shows the execution of the try before this one, so that none can be missing.

        With markers, a stored execution id proves nothing: it may be of a try before that.
        """
        owner = self.submission.owner
        if owner is None:
            return any(it.ref.execution_id == self.submission.known_id for it in recent)
        return any(owner.is_of_try(it, owner.try_number - 1) for it in recent)


def _always() -> bool:
    return True


def _without_rate_limit(outage_since: float, began_at: float, error: LosantError) -> float:
    """
    Return since when an outage lasts if the time in which Losant forbids requests does not count.

    A search has no deadline, so it must end although Losant forbids them again and again.

    :param began_at: When the search began.
    """
    return min(outage_since + (error.retry_after or 0.0), began_at + MAX_RETRY_AFTER)


def pause(search: int) -> float:
    """Return the seconds between a search of the log, from 0, and the next."""
    return min(2.0**search, MAX_PAUSE)
