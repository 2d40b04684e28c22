# SPDX-License-Identifier: Apache-2.0
"""
Watching one execution: a state object that is told what was seen, and says what follows.

It has no clock, no I/O and no loop, so one poll can serve many of them: ask each for its ``window``,
send one request that covers all, and show each the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_losant.api.errors import LosantError, NotLosant, Unauthorized
from airflow_provider_losant.api.instants import spell
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.api.retry import Jitter, backoff
from airflow_provider_losant.api.steps import Note

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution

SINCE_MARGIN = 300.0
"""Seconds: Losant does not say which of a run's instants ``since`` is compared with, nor by whose clock."""
FIRST_LIMIT = 20
WIDEST_LIMIT = 1_000

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
        return asdict(self) | {"errors": [dict(error) for error in self.errors]}

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
    What is waited for: one execution by its id, or the first queued after an instant that ends.

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

    def pick(self, recent: Sequence[Execution]) -> Execution | None:
        """Return the execution that is meant, when the answer shows it."""
        if self.execution_id is not None:
            return next((it for it in recent if it.ref.execution_id == self.execution_id), None)
        ended = [it for it in recent if it.status.is_final and it.queued >= self.since]
        return min(ended, key=attrgetter("queued"), default=None)

    def is_settled_by(self, found: Execution | None, recent: Sequence[Execution]) -> bool:
        """Tell whether a longer page could not show another execution that is meant rather."""
        if self.execution_id is not None:
            return found is not None
        return any(it.queued < self.since for it in recent)

    def __str__(self) -> str:
        if self.execution_id is not None:
            return f"execution {self.execution_id} of notebook {self.notebook_id}"
        since = spell(datetime.fromtimestamp(self.since, UTC))
        return f"first execution of notebook {self.notebook_id} since {since}"


class Watch:
    """
    One wait.

    :param target: What is waited for.
    :param patience: How long to go on.
    :param started_at: Epoch seconds now.
    :param jitter: Randomness, so that many watchers spread out.
    """

    def __init__(self, target: Target, patience: Patience, started_at: float, jitter: Jitter) -> None:
        self.target = target
        self.patience = patience
        self.seen: Execution | None = None
        self.is_page_too_short = False
        self._jitter = jitter
        self._blind_since: float | None = None
        self._phase = ""
        self._misses = 0
        self._next_look = started_at
        self._limit = FIRST_LIMIT
        self._since = target.since - SINCE_MARGIN

    @property
    def window(self) -> tuple[int, float]:
        """The ``limit`` and ``since`` of a request that is wide enough to show the run."""
        return self._limit, self._since

    def pause(self, now: float) -> float:
        """Return the seconds until the next look; the last one is at the deadline."""
        return max(0.0, min(self._next_look, self.patience.deadline) - now)

    def saw(self, recent: Sequence[Execution], now: float) -> Iterator[Note]:
        """Take in an answer; say what is worth a line in the log."""
        found = self.target.pick(recent)
        is_cut = len(recent) >= self._limit and not self.target.is_settled_by(found, recent)
        self.is_page_too_short = is_cut and self._limit < WIDEST_LIMIT
        if self.is_page_too_short:
            self._limit = min(self._limit * 4, WIDEST_LIMIT)
            self._next_look = now
            return
        self._next_look = now + self._interval()
        if found is None and self.target.execution_id is not None:
            yield from self._not_listed(now)
            return
        self._blind_since, self._misses = None, 0
        if found is not None:
            yield from self._follow(found)

    def missed(self, error: LosantError, now: float) -> Iterator[Note]:
        """
        Take in that a look failed; a missed look is not a failed run.

        Of a row of failures, only the first is worth a line in the log.
        """
        self.is_page_too_short = False
        self._miss(now)
        self._next_look = now + backoff(
            self._misses,
            cap=self.patience.poll_interval,
            floor=error.retry_after,
            jitter=self._jitter,
        )
        if self._misses == 1:
            yield Note(f"Could not look at the {self.target}: {error}", logging.WARNING)

    def is_out_too_long(self, now: float) -> bool:
        """Tell whether look after look has not shown the run, for longer than we forgive."""
        return self._blind_since is not None and now - self._blind_since > self.patience.max_poll_outage

    def _follow(self, found: Execution) -> Iterator[Note]:
        self.seen = found
        if found.phase == self._phase:
            return
        self._phase = found.phase
        if not found.status.is_known:
            yield Note(f"Losant gives a status nobody has documented: {found.status}", logging.WARNING)
        yield Note(_describe(found))

    def _not_listed(self, now: float) -> Iterator[Note]:
        self._miss(now)
        if self._misses > 2:  # noqa: PLR2004 - the clock behind the ids may be off, so look further back
            self._since = 0.0
        if self._misses == 1:
            yield Note(f"The {self.target} is not listed yet")

    def _miss(self, now: float) -> None:
        self._misses += 1
        self._blind_since = now if self._blind_since is None else self._blind_since

    def _interval(self) -> float:
        return self.patience.poll_interval * self._jitter(0.9, 1.1)


def may_pass(error: LosantError) -> bool:
    """
    Tell whether looking again can help, where a run may be at stake.

    It can after a token was rotated, in Losant before Airflow, and after a proxy showed a page of its own.
    """
    return error.is_passing or isinstance(error, Unauthorized | NotLosant)


def _describe(execution: Execution) -> str:
    spent = [f"{name} {seconds:g} s" for name, seconds in execution.durations.items() if seconds is not None]
    return f"Execution {execution.ref.execution_id}: {execution.phase}" + (
        f" ({', '.join(spent)})" if spent else ""
    )
