# SPDX-License-Identifier: Apache-2.0
"""When one notebook's log is polled next, and how far back, for all subscribers: without a clock or I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Protocol

from airflow_provider_losant.api.flows.log_reader import LogLimit
from airflow_provider_losant.api.flows.retry import Jitter, backoff

if TYPE_CHECKING:
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.flows.steps import LogLine

DEADLINE_SPACING = 1.0
"""Seconds between polls that deadlines cause; one poll serves all deadlines in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollDemand:
    """
    When a subscriber wants a poll, and what the response has to cover.

    :param interval: Seconds between polls.
    :param slowdown: Factor by which the interval is lengthened at the moment.
    :param since: Epoch seconds that the log has to reach back to.
    :param not_before: Epoch seconds before which no poll is wanted and no response accepted.
    :param deadline: Epoch seconds at which a poll is wanted in any case.
    :param is_immediate: The first poll is wanted at once.
    :param wants_longer_log: A longer log is worth another request when the response may hide something.
    """

    interval: float
    slowdown: float = 1.0
    since: float = 0.0
    not_before: float = -inf
    deadline: float = inf
    is_immediate: bool = False
    wants_longer_log: bool = True

    def accepts(self, now: float) -> bool:
        """Tell whether a response at this time (epoch seconds) is wanted."""
        return now >= min(self.not_before, self.deadline)

    def next_poll_at(self, last_poll: float, stretch: float) -> float:
        """
        Return the epoch seconds of the next regular poll.

        :param stretch: Factor that spreads out the polls of many processes.
        """
        if self.is_immediate:
            return -inf
        return max(self.not_before, last_poll + self.interval * self.slowdown * stretch)

    def final_poll_at(self, last_poll: float) -> float:
        """Return the epoch seconds of the poll at the deadline."""
        return max(self.deadline, last_poll + min(DEADLINE_SPACING, self.interval))


class Subscriber(Protocol):
    """Who waits for the responses of a notebook's polls, and decides what they mean."""

    @property
    def application_id(self) -> str: ...
    @property
    def notebook_id(self) -> str: ...
    @property
    def demand(self) -> PollDemand | None:
        """When the next poll is wanted; None once the subscriber is done."""

    def is_satisfied_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could not show anything more that matters."""

    def on_response(self, log: ExecutionLog, now: float) -> bool | None:
        """
        Process a response; return whether there is something new to report.

        None asks for another call with the same response: a long one is processed in slices, between which
        the event loop may do other work.
        """

    def on_error(self, error: LosantError, now: float) -> bool:
        """Process a failed poll; return whether there is something new to report."""

    def on_tick(self, now: float) -> bool:
        """Process that time has passed without a poll; return whether there is something new to report."""

    def drain_logs(self) -> Sequence[LogLine]:
        """Return the lines for the task log that have come up since the last call."""


class PollSchedule:
    """
    The polls of one notebook's log for all its subscribers.

    It is passed epoch seconds, but remembers times of a clock that is never set back: after a correction of
    the wall clock, no poll comes later than before it.

    :param jitter: Randomness that spreads out the polls of many processes.
    """

    def __init__(self, application_id: str, notebook_id: str, jitter: Jitter = random.uniform) -> None:
        self.application_id = application_id
        self.notebook_id = notebook_id
        self._opens_at = inf
        self._jitter = jitter
        # In the order in which they joined; by how much the clock had been set back by then.
        self._subscribers: dict[Subscriber, float] = {}
        self._latest = self._set_back = 0.0
        self._recipients: Sequence[Subscriber] = ()
        self._needs_retry = False
        self._last_poll = self._requested_at = -inf
        self._requested_since = inf
        self._stretch = 1.0
        self._next_poll_at = inf
        self._failures = 0
        self._retry_at = self._rate_limited_until = -inf
        self._limit = LogLimit()

    @classmethod
    def of(cls, subscriber: Subscriber, jitter: Jitter = random.uniform) -> PollSchedule:
        """Make the schedule of a single subscriber."""
        schedule = cls(subscriber.application_id, subscriber.notebook_id, jitter)
        schedule.join(subscriber)
        return schedule

    def join(self, subscriber: Subscriber, now: float | None = None, turn: float = 0.0) -> None:
        """
        Add a subscriber.

        :param now: Epoch seconds; None for the time of the last call.
        :param turn: Seconds from now in which it needs no poll, except at its deadline.
        """
        opens_at = self._steady(self._latest if now is None else now) + turn
        self._subscribers[subscriber] = self._set_back
        self._opens_at = min(self._opens_at, opens_at)
        self._next_poll_at = min(self._next_poll_at, self._next_poll_for(subscriber))

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.pop(subscriber, None)

    def delay(self, now: float) -> float:
        """Return the seconds until the next poll."""
        return max(0.0, self._next_poll_at - self._steady(now))

    def is_rate_limited(self, now: float) -> bool:
        """Tell whether Losant's ``Retry-After`` has not passed yet."""
        return self._steady(now) < self._rate_limited_until

    def next_request(self, now: float) -> tuple[int, float]:
        """Return ``limit`` and ``since`` of a request whose response serves all who accept one now."""
        self._requested_at, self._needs_retry = self._steady(now), False
        self._recipients, since = self._accepting(self._requested_at, default=now)
        self._requested_since = since
        return self._limit.next_limit(at_least=2 * len(self._recipients)), since

    def on_response(self, log: ExecutionLog, now: float) -> list[Subscriber]:
        """Process a response; return the subscribers that get it: none, if a longer log is needed first."""
        self._failures = 0
        is_full = self._limit.is_full(len(log))
        log.set_request(self._requested_since, may_be_cut=is_full or self._limit.may_be_capped(len(log)))
        hides_some = is_full and any(
            it.demand is not None and it.demand.wants_longer_log and not it.is_satisfied_by(log)
            for it in self._present
        )
        if hides_some and self._limit.grow():
            self._needs_retry = True
            return []
        if hides_some:
            self._limit.reset()  # the longest log did not help, so it is not requested every time
        # Counted from the request, but Losant gets a pause also where its responses are slow.
        self._last_poll = max(self._requested_at, self._steady(now) - self._shortest_interval / 2)
        self._stretch = self._jitter(1.0, 1.05)  # never sooner than requested
        return self._present

    def on_error(self, error: LosantError, now: float) -> list[Subscriber]:
        """Process a failed poll; return the subscribers that get the error."""
        if self._limit.shrink(error):
            self._needs_retry = True
            return []
        self._failures += 1
        self._last_poll = self._steady(now)
        floor, cap = error.retry_after, self._shortest_interval
        pause = backoff(self._failures, cap=cap, floor=floor, jitter=self._jitter)
        self._retry_at = self._last_poll + pause
        self._rate_limited_until = self._last_poll + (floor or 0.0)
        return self._present

    def skip_poll(self, now: float) -> list[Subscriber]:
        """Leave out a poll because of a rate limit; return whose deadlines may have passed."""
        self.next_request(now)
        self._last_poll = self._requested_at
        return self._present

    def reschedule(self) -> None:
        """Compute the next poll time after all subscribers have processed the response."""
        times = map(self._next_poll_for, self._subscribers)
        self._next_poll_at = -inf if self._needs_retry else min(times, default=inf)

    def _steady(self, now: float) -> float:
        """Return the same time by a clock that is never set back."""
        self._set_back += max(0.0, self._latest - now)
        self._latest = now
        return now + self._set_back

    def _accepting(self, steady: float, default: float) -> tuple[Sequence[Subscriber], float]:
        """Return the subscribers that accept a response now, and how far back it has to reach."""
        demands = ((it, self._demand_of(it)) for it in self._subscribers)
        accepting = [(it, demand.since) for it, demand in demands if demand and demand.accepts(steady)]
        return tuple(it for it, _ in accepting), min((since for _, since in accepting), default=default)

    def _demand_of(self, subscriber: Subscriber) -> PollDemand | None:
        """
        Return a subscriber's demand, with the times of the steady clock.

        Only its deadline keeps following the wall clock, which other processes compare it with.
        """
        demand = subscriber.demand
        if demand is None or not self._set_back:
            return demand
        not_before = demand.not_before + self._subscribers[subscriber]
        return replace(demand, not_before=not_before, deadline=demand.deadline + self._set_back)

    @property
    def _shortest_interval(self) -> float:
        return min((it.demand.interval for it in self._subscribers if it.demand), default=0.0)

    @property
    def _present(self) -> list[Subscriber]:
        """The subscribers that the request was made for and that still wait."""
        return [it for it in self._recipients if it in self._subscribers and it.demand is not None]

    def _next_poll_for(self, subscriber: Subscriber) -> float:
        demand = self._demand_of(subscriber)
        if demand is None:
            return inf
        regular = self._retry_at if self._failures else demand.next_poll_at(self._last_poll, self._stretch)
        return min(max(regular, self._opens_at), demand.final_poll_at(self._last_poll))
