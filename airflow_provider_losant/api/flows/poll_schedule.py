# SPDX-License-Identifier: Apache-2.0
"""Looking out for all waits on one notebook at once: a state object without a clock, I/O or a loop."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from airflow_provider_losant.api.errors import BadRequest, LosantError, ResponseTooLarge
from airflow_provider_losant.api.flows.retry import Jitter, backoff

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import LogLine
    from airflow_provider_losant.api.model import ExecutionLog

FIRST_LIMIT = 20
GROWTH = 8
DEEPEST_LIMIT = 10_000
"""How long a log is asked for where many wait; what has ended stays in it, so it only gets longer."""


class Onlooker(Protocol):
    """Somebody for whom to look at a notebook's log, and who decides what it means."""

    @property
    def application_id(self) -> str: ...
    @property
    def notebook_id(self) -> str: ...
    @property
    def poll_interval(self) -> float:
        """Seconds between looks."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to look for."""

    @property
    def is_urgent(self) -> bool:
        """Whether the first look is not to wait for its turn."""

    @property
    def since(self) -> float:
        """How far back a log has to reach: epoch seconds."""

    @property
    def seeks_far(self) -> bool:
        """Whether it is worth a longer log."""

    def is_open(self, now: float) -> bool:
        """Tell whether an answer would be taken in."""

    def is_settled_by(self, log: ExecutionLog) -> bool:
        """Tell whether a longer log could show nothing that matters."""

    def due(self, last_look: float, stretch: float) -> float:
        """Return when to look next; many spread out by lengthening their intervals a little."""

    def last_due(self, last_look: float) -> float:
        """Return when to look for the last time."""

    def saw(self, log: ExecutionLog, now: float) -> bool:
        """Take in an answer; tell whether it brought news."""

    def missed(self, error: LosantError, now: float) -> bool:
        """Take in that a look failed; tell whether that is news."""

    def expire(self, now: float) -> bool:
        """Take in that there was no look; tell whether that ends it."""

    def take_notes(self) -> Sequence[LogLine]:
        """Hand over what has become worth a line in the log since the last time."""


class Lookout:
    """
    All waits on one notebook, which one request answers: how far it has to reach, and when it is due.

    :param jitter: Randomness, so that many watchers spread out.
    """

    def __init__(self, application_id: str, notebook_id: str, jitter: Jitter = random.uniform) -> None:
        self.application_id = application_id
        self.notebook_id = notebook_id
        self._opens_at = inf
        self._jitter = jitter
        # A dict, as that keeps the order in which they came.
        self._watches: dict[Onlooker, None] = {}
        self._asked: Sequence[Onlooker] = ()
        self._is_in_vain = False
        self._last_look = self._asked_at = -inf
        self._stretch = 1.0
        self._due = inf
        self._misses = 0
        self._retry_at = self._barred_until = -inf
        self._limit = self._reach = FIRST_LIMIT
        self._furthest = DEEPEST_LIMIT

    @classmethod
    def of(cls, watch: Onlooker, jitter: Jitter = random.uniform) -> Lookout:
        """Look out for one wait alone."""
        lookout = cls(watch.application_id, watch.notebook_id, jitter)
        lookout.join(watch)
        return lookout

    def join(self, watch: Onlooker, opens_at: float = -inf) -> None:
        """
        Let a wait have its part in the next look.

        :param opens_at: Epoch seconds before which it is content without any, except for its deadline.
        """
        self._watches[watch] = None
        self._opens_at = min(self._opens_at, opens_at)
        self._due = min(self._due, self._due_for(watch))

    def leave(self, watch: Onlooker) -> None:
        """Look out for a wait no longer."""
        self._watches.pop(watch, None)

    def pause(self, now: float) -> float:
        """Return the seconds until the next look."""
        return max(0.0, self._due - now)

    def is_barred(self, now: float) -> bool:
        """Tell whether Losant has asked not to be asked yet."""
        return now < self._barred_until

    def ask(self, now: float) -> tuple[int, float]:
        """Return the ``limit`` and ``since`` of a request that is wide enough for all who want to see."""
        self._asked = tuple(watch for watch in self._watches if watch.is_open(now))
        self._asked_at, self._is_in_vain = now, False
        self._limit = max(self._limit, 2 * len(self._asked))
        self._reach = min(self._limit, self._furthest)
        return self._reach, min((watch.since for watch in self._asked), default=now)

    def saw(self, log: ExecutionLog, now: float) -> list[Onlooker]:
        """Take in an answer; return the waits to show it to: none, if a longer one is needed."""
        self._misses = 0
        is_full = len(log) >= self._reach
        hidden = is_full and any(it.seeks_far and not it.is_settled_by(log) for it in self._present)
        if hidden and self._reach < self._furthest:
            self._limit, self._is_in_vain = self._reach * GROWTH, True
            return []
        if hidden:
            self._limit = FIRST_LIMIT  # the longest log did not help: no use to read it each time
        # Counted from the question, but where answers are slow, Losant gets its rest all the same.
        self._last_look = max(self._asked_at, now - self._shortest / 2)
        self._stretch = self._jitter(1.0, 1.05)  # never sooner than asked for
        return self._present

    def missed(self, error: LosantError, now: float) -> list[Onlooker]:
        """Take in that a look failed; return the waits that have to bear it."""
        if isinstance(error, BadRequest | ResponseTooLarge) and self._reach > FIRST_LIMIT:
            # Losant documents no longest log, so ours may be longer than it gives, or than we take.
            self._furthest, self._is_in_vain = self._reach // 2, True
            return []
        self._misses += 1
        self._last_look = now
        floor = error.retry_after
        self._retry_at = now + backoff(self._misses, cap=self._shortest, floor=floor, jitter=self._jitter)
        self._barred_until = now + (floor or 0.0)
        return self._present

    def skip(self, now: float) -> list[Onlooker]:
        """Do without a look, as Losant bars us; return the waits whose time may be up all the same."""
        self.ask(now)
        self._last_look = now
        return self._present

    def plan(self) -> None:
        """Settle when to look next, after all have taken in what there was."""
        going_on = (watch for watch in self._watches if not watch.is_over)
        self._due = -inf if self._is_in_vain else min(map(self._due_for, going_on), default=inf)

    @property
    def _shortest(self) -> float:
        """The shortest interval that somebody wants."""
        return min((watch.poll_interval for watch in self._watches), default=0.0)

    @property
    def _present(self) -> list[Onlooker]:
        """Those who wait for the answer and are still there."""
        return [watch for watch in self._asked if watch in self._watches and not watch.is_over]

    def _due_for(self, watch: Onlooker) -> float:
        regular = self._retry_at if self._misses else watch.due(self._last_look, self._stretch)
        return min(max(regular, self._opens_at), watch.last_due(self._last_look))
