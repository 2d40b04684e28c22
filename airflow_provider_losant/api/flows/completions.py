# SPDX-License-Identifier: Apache-2.0
"""
Find every execution of a notebook that ends, each once, no matter who started it.

Like a :class:`~airflow_provider_losant.api.flows.wait.Wait` the feed gets responses and has no clock, no I/O
and no loop; unlike a wait it never ends. Its checkpoint is plain JSON, so that another process can continue.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.flows.log_reader import SINCE_MARGIN
from airflow_provider_losant.api.flows.poll_schedule import PollDemand
from airflow_provider_losant.api.flows.skipped_entries import SkippedEntries
from airflow_provider_losant.api.flows.steps import LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.model import Execution

INITIAL_LOOKBACK = 24 * 3600.0
"""Seconds that the first poll goes back, to find active executions."""
OVERLAP = 900.0
"""Seconds for which an execution may be missing in the log after later ones are listed."""
STALE_AFTER = 48 * 3600.0
"""Seconds after which an execution that has not ended no longer keeps the requested log long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    Which completions have been delivered.

    All timestamps are Losant's own, because its clock may differ from the clock of the triggerer.

    :param since: Epoch seconds; everything that was queued before has been handled.
    :param delivered: What was queued since and has ended, by execution id: when it was queued.
    """

    since: float
    delivered: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what to store."""
        return {"since": self.since, "delivered": dict(self.delivered)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Checkpoint:
        """Read what was stored; a later version may have stored more."""
        return cls(since=stored["since"], delivered=stored["delivered"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """
    An execution that has ended, or only a new checkpoint.

    :param execution: What has ended; None when there is only a checkpoint to store.
    :param checkpoint: The checkpoint once this has been delivered.
    """

    execution: Execution | None
    checkpoint: Checkpoint


class CompletionFeed:
    """
    The executions of one notebook that end from now on.

    It is a :class:`~airflow_provider_losant.api.flows.poll_schedule.Subscriber` that is never done. What
    ended before the first poll is not delivered; what is active then will be.

    :param statuses: Names of the statuses to deliver.
    :param poll_interval: Seconds between polls.
    :param now: Epoch seconds.
    :param checkpoint: Where another feed has stopped; None begins anew.
    """

    def __init__(
        self,
        application_id: str,
        notebook_id: str,
        *,
        statuses: Collection[str],
        poll_interval: float,
        now: float,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.application_id = application_id
        self.notebook_id = notebook_id
        self._poll_interval = poll_interval
        self._is_first_poll = checkpoint is None  # before it, every execution looks new
        self._statuses = statuses
        self._since = now - INITIAL_LOOKBACK if checkpoint is None else checkpoint.since
        self._delivered = {} if checkpoint is None else dict(checkpoint.delivered)
        self._completions: Sequence[Completion] = ()
        self._logs: Sequence[LogLine] = ()
        self._skipped = SkippedEntries(notebook_id)
        self._has_failed = False

    @property
    def demand(self) -> PollDemand:
        """When the next poll is wanted: always."""
        return PollDemand(
            interval=self._poll_interval,
            since=self._since - SINCE_MARGIN,
            is_immediate=self._is_first_poll,
        )

    def is_satisfied_by(self, log: ExecutionLog) -> bool:
        """Tell whether the log reaches back far enough."""
        return log.reaches_back_to(self._since)

    def on_response(self, log: ExecutionLog, now: float) -> bool:
        """Process a response; return whether there is something new to report."""
        new = list(self._skipped.readable(log, [it for it in log.ids if it not in self._delivered]))
        for execution in sorted(new, key=attrgetter("last_event_time")):
            if execution.status.is_final:
                self._deliver(execution)
        active = [
            it.queued_time
            for it in new
            if not it.status.is_final and it.queued_time > now - STALE_AFTER and self._is_recent(it)
        ]
        self._advance(log, active)
        if self._is_first_poll:
            self._is_first_poll = False
            self._append(None)
        self._has_failed = False
        return bool(self._completions or self._logs or self._skipped.has_logs)

    def on_error(self, error: LosantError, now: float) -> bool:
        """Process a failed poll; only the first in a row is logged."""
        is_first = not self._has_failed
        if is_first:
            self._log(f"Polling the executions of notebook {self.notebook_id} failed: {error}")
        self._has_failed = True
        return is_first

    def on_tick(self, now: float) -> bool:
        """Ignore that time has passed: the feed has no deadline."""
        return False

    def drain_completions(self) -> Sequence[Completion]:
        """Return the completions that have been found since the last call."""
        completions, self._completions = self._completions, ()
        return completions

    def drain_logs(self) -> Sequence[LogLine]:
        """Return the lines for the triggerer's log that have come up since the last call."""
        lines, self._logs = (*self._skipped.drain_logs(), *self._logs), ()
        return lines

    def _is_recent(self, execution: Execution) -> bool:
        return execution.queued_time >= self._since

    def _deliver(self, execution: Execution) -> None:
        self._delivered[execution.ref.execution_id] = execution.queued_time
        is_wanted = execution.status.name in self._statuses
        if self._is_recent(execution) and not self._is_first_poll and is_wanted:
            self._append(execution)

    def _append(self, execution: Execution | None) -> None:
        delivered = {name: queued for name, queued in self._delivered.items() if queued >= self._since}
        checkpoint = Checkpoint(since=self._since, delivered=delivered)
        self._completions = (*self._completions, Completion(execution=execution, checkpoint=checkpoint))

    def _advance(self, log: ExecutionLog, active: Sequence[float]) -> None:
        """Look back less far, as far as nothing can be missed by that."""
        newest = max((*self._delivered.values(), *active), default=-inf)
        self._since = max(self._since, min((*active, newest - OVERLAP)))
        self._delivered = {
            name: queued for name, queued in self._delivered.items() if queued >= self._since or name in log
        }

    def _log(self, text: str) -> None:
        self._logs = (*self._logs, LogLine(text, logging.WARNING))
