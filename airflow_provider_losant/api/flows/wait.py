# SPDX-License-Identifier: Apache-2.0
"""
Watching one execution: a state object that is told what was seen, and says what follows.

It has no clock, no I/O and no loop. When to look is up to the
:class:`~airflow_provider_losant.api.flows.poll_schedule.Lookout` that holds all waits on one notebook.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_losant.api.errors import (
    LosantError,
    NotLosantApi,
    ProtocolError,
    ResponseTooLarge,
    Unauthorized,
)
from airflow_provider_losant.api.flows.steps import LogLine
from airflow_provider_losant.api.model import QUEUED, ExecutionRef
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution, ExecutionLog

SINCE_MARGIN = 300.0
"""Seconds: Losant does not say which of a run's instants ``since`` is compared with, nor by whose clock."""
MISSES_BEFORE_DOUBT = 2
QUEUED_GROWTH = 1.5
QUEUED_AT_MOST = 3.0
"""How many times the interval a wait in Losant's queue may come to."""
SPACING = 1.0
"""Seconds between looks that deadlines bring about."""

Ending = Literal["ended", "deadline", "outage", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """
    How often to look, and for how long.

    :param poll_interval: Seconds between looks.
    :param deadline: Epoch seconds at which the wait is over, whoever waits by then.
    :param max_poll_outage: Seconds without one readable answer after which the wait is given up.
    """

    poll_interval: float
    deadline: float
    max_poll_outage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How a wait ended. It is plain JSON (``to_event``), so that it can cross from a trigger to a task.

    :param ending: ``ended`` (the run is final), ``deadline``, ``outage`` (too long without an answer),
        ``refused`` (Losant answers, but will not tell).
    :param result: What is known of the run, as DAGs see it; holds no signed URL.
    :param is_success: The run ended well.
    :param errors: Losant's execution errors.
    :param error_log: The end of ``result.error.log``, where there is one.
    :param problem: Why the wait was given up.
    :param is_cancelled: We asked Losant to stop the run, and Losant agreed.
    """

    ending: Ending
    result: Mapping[str, Any]
    is_success: bool = False
    errors: Sequence[Mapping[str, str]] = ()
    error_log: str | None = None
    problem: str | None = None
    is_cancelled: bool = False

    def to_event(self) -> dict[str, Any]:
        """Return the JSON dict that a trigger fires."""
        # Not asdict(): it copies every value in it, which thousands of waits that end together would feel.
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return told | {"result": dict(self.result), "errors": [dict(error) for error in self.errors]}

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Outcome:
        """
        Read what a trigger fired.

        :raises ValueError: it is not one of ours.
        """
        try:
            return cls(**event)
        except TypeError as error:
            raise ValueError(f"not the event of a notebook wait: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    What is waited for: one execution by its id, or of those queued since an instant the first to end.

    :param since: Epoch seconds; with an ``execution_id``, about when it was made.
    """

    application_id: str
    notebook_id: str
    execution_id: str | None = None
    since: float

    @classmethod
    def of(cls, ref: ExecutionRef) -> Target:
        """Aim at one execution."""
        return cls(
            application_id=ref.application_id,
            notebook_id=ref.notebook_id,
            execution_id=ref.execution_id,
            since=ref.created_at,
        )

    @property
    def ref(self) -> ExecutionRef | None:
        """The execution that is meant, where it is known beforehand."""
        if self.execution_id is None:
            return None
        return ExecutionRef(
            application_id=self.application_id,
            notebook_id=self.notebook_id,
            execution_id=self.execution_id,
        )

    def pick(self, log: ExecutionLog, known: Execution | None = None) -> Execution | None:
        """
        Return the execution that is meant, when the log shows it.

        :param known: What was picked before; returned itself when there is nothing new.
        """
        if self.execution_id is not None:
            return log.find(self.execution_id, known)
        ended = [it for it in log if it.status.is_final and it.queued_time >= self.since]
        # By their ends, so that it does not depend on when somebody looks.
        return min(ended, key=attrgetter("last_event_time", "queued_time"), default=None)

    def is_settled_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could not show another execution that is meant rather."""
        if self.execution_id is not None:
            return self.execution_id in log
        try:
            return any(it.queued_time < self.since for it in log)
        except ProtocolError:
            return True  # a longer log would be no easier to read

    def __str__(self) -> str:
        if self.execution_id is not None:
            return f"execution {self.execution_id} of notebook {self.notebook_id}"
        since = format_timestamp(datetime.fromtimestamp(self.since, UTC))
        return f"first execution of notebook {self.notebook_id} since {since}"


class Watch:
    """
    One wait.

    :param target: What is waited for.
    :param patience: How long to go on.
    :param first_look: Epoch seconds before which nothing is to be seen, whoever looks.
    """

    is_urgent = False

    def __init__(self, target: Target, patience: Patience, *, first_look: float = 0.0) -> None:
        self.target = target
        self.patience = patience
        self.seen: Execution | None = None
        self.ending: Ending | None = None
        self.problem: str | None = None
        self._first_look = first_look
        self._notes: Sequence[LogLine] = ()
        self._phase = ""
        self._blind_since: float | None = None
        self._misses = 0
        self._queued_looks = 0

    @property
    def application_id(self) -> str:
        """The notebook's application."""
        return self.target.application_id

    @property
    def notebook_id(self) -> str:
        """The notebook."""
        return self.target.notebook_id

    @property
    def poll_interval(self) -> float:
        """Seconds between looks."""
        return self.patience.poll_interval

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end."""
        return self.ending is not None

    @property
    def since(self) -> float:
        """How far back a log has to reach; where that did not help, the clock behind the ids may be off."""
        is_lost = self._misses >= MISSES_BEFORE_DOUBT and self.seeks_far
        return 0.0 if is_lost else self.target.since - SINCE_MARGIN

    @property
    def seeks_far(self) -> bool:
        """Whether it is worth a longer log; after many in vain, only now and then."""
        return not self._misses & (self._misses - 1)

    def is_settled_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could not show another execution that is meant rather."""
        return self.target.is_settled_by(log)

    def is_open(self, now: float) -> bool:
        """Tell whether an answer would be taken in."""
        return now >= min(self._first_look, self.patience.deadline)

    def due(self, last_look: float, stretch: float) -> float:
        """
        Return when to look next.

        A run that stays in Losant's queue is looked at more seldom: it has all of its work before it.

        :param last_look: Epoch seconds.
        :param stretch: By how much to lengthen the interval, so that many watchers spread out.
        """
        slower = min(QUEUED_GROWTH ** max(0, self._queued_looks - 1), QUEUED_AT_MOST)
        return max(self._first_look, last_look + self.patience.poll_interval * slower * stretch)

    def last_due(self, last_look: float) -> float:
        """Return when to look for the last time; one look serves all who give up about then."""
        return max(self.patience.deadline, last_look + min(SPACING, self.patience.poll_interval))

    def saw(self, log: ExecutionLog, now: float) -> bool:
        """Take in an answer; tell whether it brought news."""
        try:
            found = self.target.pick(log, self.seen)
        except ProtocolError as error:
            return self.missed(error, now)
        if found is not None:
            self._follow(found)
        if found is not None or self.target.execution_id is None:
            self._blind_since, self._misses = None, 0
        elif self._miss(now):
            self._note(f"The {self.target} is not listed yet")
        self.expire(now)
        return self._has_news

    def missed(self, error: LosantError, now: float) -> bool:
        """
        Take in that a look failed; tell whether that is news.

        A missed look is not a failed run. Of a row of failures, only the first is worth a line in the log.
        """
        if self._miss(now):
            self._note(f"Could not look at the {self.target}: {error}", logging.WARNING)
        if may_pass(error):
            self.expire(now, str(error))
        else:
            self._end("refused", str(error))
        return self._has_news

    def expire(self, now: float, problem: str = "the run is not in the notebook's log") -> bool:
        """
        End the wait if it is over; tell whether it is.

        :param problem: Why the run could not be seen just now, if so.
        """
        blind = 0.0 if self._blind_since is None else now - self._blind_since
        if self.seen is not None and self.seen.status.is_final:
            self._end("ended")
        elif now >= self.patience.deadline:
            self._end("deadline")
        elif blind > self.patience.max_poll_outage:
            self._end("outage", problem)
        return self.ending is not None

    def take_notes(self) -> Sequence[LogLine]:
        """Hand over what has become worth a line in the log since the last time."""
        notes, self._notes = self._notes, ()
        return notes

    @property
    def _has_news(self) -> bool:
        return bool(self._notes) or self.ending is not None

    def _note(self, text: str, level: int = logging.INFO) -> None:
        self._notes = (*self._notes, LogLine(text, level))

    def _end(self, ending: Ending, problem: str | None = None) -> None:
        self.ending, self.problem = ending, problem

    def _follow(self, found: Execution) -> None:
        self.seen = found
        self._queued_looks = self._queued_looks + 1 if found.status is QUEUED else 0
        if found.phase == self._phase:
            return
        self._phase = found.phase
        if not found.status.is_known:
            self._note(f"Losant gives a status nobody has documented: {found.status}", logging.WARNING)
        self._note(_describe(found))

    def _miss(self, now: float) -> bool:
        """Count a look that did not show the run; tell whether it is the first of its row."""
        self._misses += 1
        self._blind_since = now if self._blind_since is None else self._blind_since
        return self._misses == 1


def may_pass(error: LosantError) -> bool:
    """
    Tell whether looking again can help, where a run may be at stake.

    It can after a token was rotated, in Losant before Airflow, and after a proxy sent something of its own.
    """
    return error.is_transient or isinstance(error, Unauthorized | NotLosantApi | ResponseTooLarge)


def spent(durations: Mapping[str, float | None], max_run_minutes: float | None) -> str:
    """
    Tell in brackets what a run took: its time in the queue apart from its work, and the minutes it costs.

    Losant counts run minutes from the start of the notebook to its end, so nothing else is in them.

    :param durations: Seconds in each phase.
    :param max_run_minutes: What the run may use.
    """
    phases = ", ".join(
        f"{name} {took:g} s" for name, took in durations.items() if took is not None and name != "total"
    )
    ran = durations.get("notebook")
    if ran is None:
        return f" ({phases})" if phases else ""
    limit = "" if max_run_minutes is None else f" of {max_run_minutes:g}"
    return f" ({phases}; {ran / 60:.1f}{limit} run minutes)"


def _describe(execution: Execution) -> str:
    told = spent(execution.durations, execution.max_run_minutes)
    return f"Execution {execution.ref.execution_id}: {execution.phase}{told}"
