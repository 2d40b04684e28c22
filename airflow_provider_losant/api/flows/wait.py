# SPDX-License-Identifier: Apache-2.0
"""
Wait for one execution: a state object that gets responses and decides what follows from them.

It has no clock, no I/O and no loop. Its notebook's
:class:`~airflow_provider_losant.api.flows.poll_schedule.PollSchedule` decides when to poll.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import (
    LosantError,
    NotLosantApi,
    ProtocolError,
    ResponseTooLarge,
    Unauthorized,
)
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.execution_filter import ExecutionFilter, FirstToEnd
from airflow_provider_losant.api.flows.log_reader import SINCE_MARGIN, WHOLE_LOG
from airflow_provider_losant.api.flows.outcome import format_durations
from airflow_provider_losant.api.flows.poll_schedule import PollDemand
from airflow_provider_losant.api.flows.skipped_entries import SkippedEntries
from airflow_provider_losant.api.flows.steps import LogLine
from airflow_provider_losant.api.model import QUEUED, ExecutionRef
from airflow_provider_losant.api.timestamps import DAY, format_elapsed, format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.flows.outcome import Ending
    from airflow_provider_losant.api.model import Execution

FAILURES_BEFORE_FULL_LOG = 2
QUEUED_GROWTH = 1.5
MAX_QUEUED_SLOWDOWN = 3.0
"""The longest interval between polls of a queued execution, in multiples of ``poll_interval``."""
REPORT_INTERVAL = 3_600.0
"""Seconds after which a wait that continues is logged again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitConfig:
    """
    How often to poll, and for how long.

    :param poll_interval: Seconds between polls.
    :param deadline: Epoch seconds at which the wait is over, in whatever process it is by then.
    :param max_poll_outage: Seconds without a readable response after which the wait is given up, not counting
        those of ``Retry-After``.
    :param not_found_after: Seconds after the creation of an ``execution_id`` from which on the wait ends if
        the complete log does not list the execution; None to wait on.
    """

    poll_interval: float
    deadline: float
    max_poll_outage: float
    not_found_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The execution to wait for: the one with an id, or the first to end of those queued since a timestamp.

    :param since: Epoch seconds; with an ``execution_id``, roughly when that execution was created.
    :param statuses: Without an ``execution_id``: the final statuses that count; empty for all.
    :param context_contains: Without an ``execution_id``: a JSON object that the template context contains.
    """

    application_id: str
    notebook_id: str
    execution_id: str | None = None
    since: float
    statuses: Sequence[str] = ()
    context_contains: str | None = None

    @classmethod
    def of(cls, ref: ExecutionRef) -> Target:
        """Make the target of one execution."""
        return cls(
            application_id=ref.application_id,
            notebook_id=ref.notebook_id,
            execution_id=ref.execution_id,
            since=ref.created_at,
        )

    @property
    def ref(self) -> ExecutionRef | None:
        """The execution, where its id is known beforehand."""
        if self.execution_id is None:
            return None
        return ExecutionRef(
            application_id=self.application_id,
            notebook_id=self.notebook_id,
            execution_id=self.execution_id,
        )

    def select(self, log: ExecutionLog, known: Execution | None, skipped: SkippedEntries) -> Execution | None:
        """
        Return the execution to wait for, if the log shows it.

        :param known: What was selected before; returned itself when nothing has changed.
        :param skipped: Reports the entries that cannot be parsed, where any execution may be selected.
        """
        if self.execution_id is not None:
            return log.find(self.execution_id, known)
        skipped.report(log)
        return log.first_to_end(self.since)

    def is_satisfied_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could not lead to another choice."""
        if self.execution_id is not None:
            return self.execution_id in log
        return log.reaches_back_to(self.since)

    def __str__(self) -> str:
        if self.execution_id is not None:
            return f"execution {self.execution_id} of notebook {self.notebook_id}"
        since = format_timestamp(datetime.fromtimestamp(self.since, UTC))
        statuses = f" with status {' or '.join(self.statuses)}" if self.statuses else ""
        context = f" with {one_line(self.context_contains)} in its context" if self.context_contains else ""
        return f"first execution of notebook {self.notebook_id} since {since}{statuses}{context}"


class Wait:
    """
    One wait for one execution.

    :param target: The execution to wait for.
    :param config: How often to poll, and for how long.
    :param not_before: Epoch seconds before which responses are ignored.
    :param is_unlisted: The log did not list the execution, so the whole log is wanted.
    :ivar demand: When the next poll is wanted; None once the wait is over.
    :ivar execution: The execution as the latest readable response showed it.
    :ivar ending: How the wait ended; None while it continues.
    :ivar problem: Why the wait was given up.
    """

    def __init__(
        self, target: Target, config: WaitConfig, *, not_before: float = 0.0, is_unlisted: bool = False
    ) -> None:
        self.target = target
        self.config = config
        self.execution: Execution | None = None
        self.ending: Ending | None = None
        self.problem: str | None = None
        self._not_before = not_before
        self._logs: Sequence[LogLine] = ()
        self._skipped = SkippedEntries(target.notebook_id)
        self._phase = ""
        self._outage_since: float | None = None
        self._unreadable_since: float | None = None
        self._reports: int | None = None
        self._failures = FAILURES_BEFORE_FULL_LOG if is_unlisted else 0
        self._queued_polls = 0
        wanted = ExecutionFilter.of(target.statuses, target.context_contains)
        self._search = None if wanted is None else FirstToEnd(wanted, target.since)
        self.demand = self._next_demand()

    @property
    def application_id(self) -> str:
        """The notebook's application."""
        return self.target.application_id

    @property
    def notebook_id(self) -> str:
        """The notebook."""
        return self.target.notebook_id

    def is_satisfied_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could not lead to another choice."""
        return self.target.is_satisfied_by(log)

    def on_response(self, log: ExecutionLog, now: float) -> bool | None:
        """Process a response; return whether there is something new to report, None for another call."""
        if self.target.execution_id is None and not log.parse_slice():
            return None
        if self._search is not None and not self._search.step(log):
            return None
        try:
            found = self._select(log)
        except ProtocolError as error:
            return self.on_error(error, now)
        if self._unreadable_since is not None:
            self._logs = (*self._logs, responds_again(self._unreadable_since, now, f"the {self.target}"))
            self._unreadable_since = None
        if found is not None:
            self._update(found)
        if found is not None or self.target.execution_id is None:
            self._outage_since, self._failures = None, 0
        elif self.expects_listing(now) and log.rules_out(self.target.execution_id, self.target.since - DAY):
            self._end("not_found", "the complete execution log of the notebook does not list it")
            return True
        elif self._count_failure(now):
            self._log(f"The execution log does not list the {self.target} yet")
        return self.on_tick(now)

    def expects_listing(self, now: float) -> bool:
        """Tell whether the execution has never been seen, and is so old that Losant lists it if it exists."""
        after = self.config.not_found_after
        is_unseen = self.target.execution_id is not None and self.execution is None
        return is_unseen and after is not None and now >= self.target.since + after

    def on_error(self, error: LosantError, now: float) -> bool:
        """
        Process a failed poll; return whether there is something new to report.

        A failed poll is not a failed execution. Of consecutive failures only the first is logged.
        """
        self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
        if self._count_failure(now):
            self._log(f"Polling the {self.target} failed: {error}", logging.WARNING)
        if is_worth_retrying(error):
            # While Losant forbids requests, there is no outage.
            since = now if self._outage_since is None else self._outage_since
            self._outage_since = since + (error.retry_after or 0.0)
            return self.on_tick(now, str(error))
        self._end("refused", str(error))
        return True

    def on_tick(self, now: float, problem: str = "the execution log does not list the execution") -> bool:
        """
        End the wait if its time is over; return whether there is something new to report.

        :param problem: Why the latest poll did not show the execution, if it did not.
        """
        outage = 0.0 if self._outage_since is None else now - self._outage_since
        if self.execution is not None and self.execution.status.is_final:
            self._end("ended")
        elif now >= self.config.deadline:
            self._end("deadline")
        elif outage > self.config.max_poll_outage:
            self._end("outage", problem)
        else:
            self._report(now)
        self.demand = self._next_demand()
        return bool(self._logs) or self._skipped.has_logs or self.ending is not None

    def drain_logs(self) -> Sequence[LogLine]:
        """Return the lines for the task log that have come up since the last call."""
        lines, self._logs = (*self._skipped.drain_logs(), *self._logs), ()
        return lines

    def _select(self, log: ExecutionLog) -> Execution | None:
        if self._search is None:
            return self.target.select(log, self.execution, self._skipped)
        self._skipped.report(log)
        return self._search.take()

    def _next_demand(self) -> PollDemand | None:
        if self.ending is not None:
            return None
        # After many failures a longer log is worth a request only now and then: at powers of two.
        wants_longer_log = not self._failures & (self._failures - 1)
        # If it is not listed, the clock that made its id may be wrong, so the whole log is searched.
        is_missing = self._failures >= FAILURES_BEFORE_FULL_LOG and wants_longer_log
        return PollDemand(
            interval=self.config.poll_interval,
            # All the work of a queued execution is still to come, so it is polled less often.
            slowdown=min(QUEUED_GROWTH ** max(0, self._queued_polls - 1), MAX_QUEUED_SLOWDOWN),
            since=WHOLE_LOG if is_missing else self.target.since - SINCE_MARGIN,
            not_before=self._not_before,
            deadline=self.config.deadline,
            wants_longer_log=wants_longer_log,
        )

    def _log(self, text: str, level: int = logging.INFO) -> None:
        self._logs = (*self._logs, LogLine(text, level))

    def _end(self, ending: Ending, problem: str | None = None) -> None:
        self.ending, self.problem, self.demand = ending, problem, None

    def _report(self, now: float) -> None:
        """Log every hour that the wait continues, and what will end it."""
        reports = max(0, int((now - self.target.since) // REPORT_INTERVAL))  # Losant's clock may be ahead
        if self._reports is None:
            self._reports = reports  # the first line follows when the next hour is over
        if reports <= self._reports:
            return
        self._reports = reports
        status = "has still not ended" if self.target.execution_id is None else "is still not listed"
        if self.execution is not None:
            status = f"is still {self.execution.phase}"
        elapsed = format_elapsed(reports * REPORT_INTERVAL)
        end, reason = self._latest_end
        at = format_timestamp(datetime.fromtimestamp(end, UTC))
        self._log(
            f"After {elapsed}, the {self.target} {status}; the wait ends at {at} ({reason}) at the latest"
        )

    @property
    def _latest_end(self) -> tuple[float, str]:
        """When the wait ends if the execution does not, and which argument says so."""
        end, reason = self.config.deadline, "timeout"
        if self._outage_since is not None and self._outage_since + self.config.max_poll_outage < end:
            end, reason = self._outage_since + self.config.max_poll_outage, "max_poll_outage"
        return end, reason

    def _update(self, found: Execution) -> None:
        self.execution = found
        self._queued_polls = self._queued_polls + 1 if found.status is QUEUED else 0
        if found.phase == self._phase:
            return
        self._phase = found.phase
        if not found.status.is_known:
            self._log(f"Losant reported an undocumented status: {found.status}", logging.WARNING)
        durations = format_durations(found.durations, found.max_run_minutes)
        self._log(f"Execution {found.ref.execution_id}: {found.phase}{durations}")

    def _count_failure(self, now: float) -> bool:
        """Count a poll that did not show the execution; return whether it is the first in a row."""
        self._failures += 1
        self._outage_since = now if self._outage_since is None else self._outage_since
        return self._failures == 1


def responds_again(since: float, now: float, what: str) -> LogLine:
    """
    Return what is logged when a log can be polled again.

    :param since: Epoch seconds of the first failed poll.
    :param what: What is polled.
    """
    return LogLine(f"Losant responds again after {format_elapsed(now - since)} (polling {what})")


def is_worth_retrying(error: LosantError) -> bool:
    """
    Tell whether polling again may help, where an execution may be active.

    It may after a token was rotated in Losant before Airflow, and after a proxy sent a response of its own.
    """
    return error.is_transient or isinstance(error, Unauthorized | NotLosantApi | ResponseTooLarge)
