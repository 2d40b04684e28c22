# SPDX-License-Identifier: Apache-2.0
"""
Gathering every execution of a notebook that ends, each once, whoever started it.

Like a :class:`~airflow_provider_losant.api.flows.wait.Watch` it is told what was seen and has no clock, no
I/O and no loop; unlike one it is never over. What it has told is plain JSON, so that another process can go
on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import ProtocolError
from airflow_provider_losant.api.flows.steps import LogLine
from airflow_provider_losant.api.flows.wait import SINCE_MARGIN

if TYPE_CHECKING:
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.model import Execution, ExecutionLog

FIRST_REACH = 24 * 3600.0
"""Seconds that the first look goes back, to find what is under way."""
OVERLAP = 900.0
"""Seconds for which an execution may be missing in the log after later ones are in it."""
STUCK = 48 * 3600.0
"""Seconds after which one that has not ended no longer keeps the log from getting shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What has been told.

    All instants are Losant's own, as its clock and ours may differ.

    :param since: Epoch seconds; what was queued before is done with.
    :param told: What was queued since and has ended, by its id: when it was queued.
    """

    since: float
    told: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what to keep."""
        return {"since": self.since, "told": dict(self.told)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Progress:
        """Read what was kept; a later version may have kept more."""
        return cls(since=kept["since"], told=kept["told"])


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """
    Something that has been found out.

    :param execution: What has ended; None when there is only something to remember.
    :param progress: What has been told once this has been.
    """

    execution: Execution | None
    progress: Progress


class Harvest:
    """
    The executions of one notebook that end from now on.

    It is an :class:`~airflow_provider_losant.api.flows.poll_schedule.Onlooker` that is never over. What
    has ended before the first look is nobody's news; what is under way then will be.

    :param statuses: Names of the statuses that are of interest.
    :param poll_interval: Seconds between looks.
    :param now: Epoch seconds.
    :param progress: What another one has told; None begins anew.
    """

    is_over = False
    seeks_far = True

    def __init__(
        self,
        application_id: str,
        notebook_id: str,
        *,
        statuses: Collection[str],
        poll_interval: float,
        now: float,
        progress: Progress | None = None,
    ) -> None:
        self.application_id = application_id
        self.notebook_id = notebook_id
        self.poll_interval = poll_interval
        self.is_urgent = progress is None  # until the first look nobody knows what is new
        self._statuses = statuses
        self._begin = now - FIRST_REACH if progress is None else progress.since
        self._done = {} if progress is None else dict(progress.told)
        self._news: Sequence[News] = ()
        self._notes: Sequence[LogLine] = ()
        self._unreadable: set[str] = set()
        self._is_blind = False

    @property
    def since(self) -> float:
        return self._begin - SINCE_MARGIN

    def is_open(self, now: float) -> bool:
        return True

    def is_settled_by(self, log: ExecutionLog) -> bool:
        return any(it.queued_time < self._begin for it in self._read(log, log.ids))

    def due(self, last_look: float, stretch: float) -> float:
        return -inf if self.is_urgent else last_look + self.poll_interval * stretch

    def last_due(self, last_look: float) -> float:
        return inf

    def saw(self, log: ExecutionLog, now: float) -> bool:
        fresh = list(self._read(log, (it for it in log.ids if it not in self._done)))
        for execution in sorted(fresh, key=attrgetter("last_event_time")):
            if execution.status.is_final:
                self._take_in(execution)
        under_way = [
            it.queued_time
            for it in fresh
            if not it.status.is_final and it.queued_time > now - STUCK and self._counts(it)
        ]
        self._forget(log, under_way)
        if self.is_urgent:
            self.is_urgent = False
            self._tell(None)
        self._is_blind = False
        return bool(self._news or self._notes)

    def missed(self, error: LosantError, now: float) -> bool:
        is_news = not self._is_blind
        if is_news:
            self._note(f"Could not look at the executions of notebook {self.notebook_id}: {error}")
        self._is_blind = True
        return is_news

    def expire(self, now: float) -> bool:
        return False

    def take_news(self) -> Sequence[News]:
        """Hand over what has been found out since the last time."""
        news, self._news = self._news, ()
        return news

    def take_notes(self) -> Sequence[LogLine]:
        notes, self._notes = self._notes, ()
        return notes

    def _read(self, log: ExecutionLog, ids: Iterable[str]) -> Iterator[Execution]:
        """Read what can be read: one entry of an unknown shape is not to hide all others."""
        for execution_id in ids:
            try:
                found = log.find(execution_id)
            except ProtocolError as error:
                if execution_id not in self._unreadable:
                    self._unreadable.add(execution_id)
                    self._note(
                        f"Execution {execution_id} of notebook {self.notebook_id} is passed over: {error}"
                    )
                continue
            if found is not None:
                yield found

    def _counts(self, execution: Execution) -> bool:
        return execution.queued_time >= self._begin

    def _take_in(self, execution: Execution) -> None:
        self._done[execution.ref.execution_id] = execution.queued_time
        if self._counts(execution) and not self.is_urgent and execution.status.name in self._statuses:
            self._tell(execution)

    def _tell(self, execution: Execution | None) -> None:
        told = {name: queued for name, queued in self._done.items() if queued >= self._begin}
        news = News(execution=execution, progress=Progress(since=self._begin, told=told))
        self._news = (*self._news, news)

    def _forget(self, log: ExecutionLog, under_way: Sequence[float]) -> None:
        """Look less far back, as far as nothing can be missed by it."""
        newest = max((*self._done.values(), *under_way), default=-inf)
        self._begin = max(self._begin, min((*under_way, newest - OVERLAP)))
        self._done = {
            name: queued for name, queued in self._done.items() if queued >= self._begin or name in log
        }
        self._unreadable = {name for name in self._unreadable if name in log}

    def _note(self, text: str) -> None:
        self._notes = (*self._notes, LogLine(text, logging.WARNING))
