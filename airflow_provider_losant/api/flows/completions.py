# SPDX-License-Identifier: Apache-2.0
"""
Find every execution of a notebook that ends, each once, no matter who started it.

Like a :class:`~airflow_provider_losant.api.flows.wait.Wait` the feed gets responses and has no clock, no I/O
and no loop; unlike a wait it never ends. Its checkpoint is plain JSON, so that another process can continue.

Thousands may end at once, or faster than they can be delivered. So what waits for its delivery is stored as
JSON text, which is a fraction of the size of the objects, and each delivery has only what it changes in the
checkpoint.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import SHAPE_ERRORS
from airflow_provider_losant.api.execution_log import SLICE
from airflow_provider_losant.api.fields import MAX_EVENT
from airflow_provider_losant.api.flows.execution_filter import ExecutionFilter
from airflow_provider_losant.api.flows.log_reader import SINCE_MARGIN
from airflow_provider_losant.api.flows.poll_schedule import PollDemand
from airflow_provider_losant.api.flows.skipped_entries import SkippedEntries
from airflow_provider_losant.api.flows.steps import LogLine
from airflow_provider_losant.api.flows.wait import responds_again

if TYPE_CHECKING:
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.model import Execution

Result = dict[str, Any]
INITIAL_LOOKBACK = 24 * 3600.0
"""Seconds that the first poll goes back, to find active executions."""
OVERLAP = 900.0
"""Seconds for which an execution may be missing in the log after later ones are listed."""
STALE_AFTER = 48 * 3600.0
"""Seconds after which an execution that has not ended no longer keeps the requested log long."""
BATCH_FRAME = 100
"""Bytes of JSON around the results of a batch."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """
    What a delivery changes in the checkpoint.

    :param since: The checkpoint's new ``since``.
    :param delivered: The ids that it adds, and when each was queued.
    """

    since: float
    delivered: dict[str, float]


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """
    Which completions have been delivered.

    All timestamps are Losant's own, because its clock may differ from the clock of the triggerer.

    :param since: Epoch seconds; everything that was queued before has been handled.
    :param delivered: What was queued since and has ended, by execution id: when it was queued.
    """

    since: float = -inf
    delivered: dict[str, float] = field(default_factory=dict)

    def advance(self, progress: Progress) -> None:
        """Add what has been delivered, after everything that was found before it."""
        self.delivered.update(progress.delivered)
        if progress.since > self.since:  # only then, so that thousands of deliveries take linear time
            self.since = progress.since
            self.delivered = {name: at for name, at in self.delivered.items() if at >= self.since}

    def copy(self) -> Checkpoint:
        """Return a copy that can advance on its own."""
        return Checkpoint(since=self.since, delivered=dict(self.delivered))

    def to_json(self) -> dict[str, Any]:
        """Return what to store."""
        return {"since": self.since, "delivered": dict(self.delivered)}

    @classmethod
    def from_json(cls, stored: Any) -> Checkpoint:
        """
        Read what was stored, also by a version that stores more or less.

        :raises ValueError: it is not a checkpoint.
        """
        try:
            delivered = {str(name): float(queued) for name, queued in (stored.get("delivered") or {}).items()}
            return cls(since=float(stored["since"]), delivered=delivered)
        except SHAPE_ERRORS as error:
            raise ValueError(f"not a checkpoint: {type(error).__name__} {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    Executions that have ended and are delivered together, or only a change of the checkpoint.

    :param results: What has ended, as :meth:`.Execution.to_result` returns it, in the order of the ends.
    :param progress: What the delivery changes in the checkpoint.
    """

    results: list[Result]
    progress: Progress


class CompletionFeed:
    """
    The executions of one notebook that end from now on.

    It is a :class:`~airflow_provider_losant.api.flows.poll_schedule.Subscriber` that is never done. What
    ended before the first poll is not delivered; what is active then will be.

    :param statuses: Names of the statuses to deliver.
    :param context_contains: JSON text of an object that the template context contains; None for any.
    :param poll_interval: Seconds between polls.
    :param now: Epoch seconds.
    :param checkpoint: Where another feed has stopped; None begins anew.
    :param batch: Deliver all that has ended together, as far as an event has room, instead of each alone.
    :param complete: Completes each result when it is delivered.
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
        batch: bool = False,
        context_contains: str | None = None,
        complete: Callable[[Result], Result] = lambda result: result,
    ) -> None:
        self.application_id = application_id
        self.notebook_id = notebook_id
        self._poll_interval = poll_interval
        self._is_first_poll = checkpoint is None  # before it, every execution looks new
        self._filter = ExecutionFilter.of(statuses, context_contains)
        self._since = now - INITIAL_LOOKBACK if checkpoint is None else checkpoint.since
        # All that has been found, and of it what is not part of a delivery.
        self._found = {} if checkpoint is None else dict(checkpoint.delivered)
        self._passed: dict[str, float] = {}
        self._pending: deque[_Pending] = deque()
        self._batch = batch
        self._complete = complete
        self._work: tuple[ExecutionLog, Iterator[None]] | None = None
        self._logs: list[LogLine] = []
        self._skipped = SkippedEntries(notebook_id)
        self._failing_since: float | None = None

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

    def on_response(self, log: ExecutionLog, now: float) -> bool | None:
        """Process a response; return whether there is something new to report, None for another call."""
        if self._work is None or self._work[0] is not log:
            self._work = log, self._process(log, now)
        for _ in self._work[1]:
            return None
        self._work = None
        if self._failing_since is not None:
            self._logs.append(responds_again(self._failing_since, now, self._polled))
            self._failing_since = None
        return bool(self._pending or self._logs or self._skipped.has_logs)

    def on_error(self, error: LosantError, now: float) -> bool:
        """Process a failed poll; only the first in a row is logged."""
        if self._failing_since is not None:
            return False
        self._failing_since = now
        self._logs.append(LogLine(f"Polling {self._polled} failed: {error}", logging.WARNING))
        return True

    def on_tick(self, now: float) -> bool:
        """Ignore that time has passed: the feed has no deadline."""
        return False

    def next_delivery(self) -> Delivery | None:
        """Return what is delivered next, and forget it; None if nothing has been found since."""
        delivery: Delivery | None = None
        room = MAX_EVENT - BATCH_FRAME
        while self._pending and (delivery is None or self._batch):
            pending = self._pending[0]
            results = [self._complete(json.loads(pending.result))] if pending.result else []
            room -= len(json.dumps(results))
            if delivery is None:
                delivery = Delivery(results=[], progress=Progress(since=pending.since, delivered={}))
            elif room < 0:
                break
            self._pending.popleft()
            delivery.results.extend(results)
            delivery.progress.since = pending.since
            delivery.progress.delivered.update(pending.passed)
            if pending.result:
                delivery.progress.delivered[pending.execution_id] = pending.queued_time
        return delivery

    def drain_logs(self) -> Sequence[LogLine]:
        """Return the lines for the triggerer's log that have come up since the last call."""
        lines, self._logs = [*self._skipped.drain_logs(), *self._logs], []
        return lines

    @property
    def _polled(self) -> str:
        return f"the executions of notebook {self.notebook_id}"

    def _process(self, log: ExecutionLog, now: float) -> Iterator[None]:
        """Process a response; each step is short, so that the event loop may do other work in between."""
        new = [it for it in log.ids if it not in self._found]
        executions: list[tuple[float, int, Execution]] = []
        for start in range(0, len(new), SLICE):
            for execution in self._skipped.readable(log, new[start : start + SLICE]):
                executions.append((execution.last_event_time, len(executions), execution))
            yield
        executions.sort()
        active = []
        for number, (_, _, execution) in enumerate(executions, 1):
            queued = execution.queued_time
            if execution.status.is_final:
                self._add(execution, queued, log)
            elif queued > now - STALE_AFTER and queued >= self._since:
                active.append(queued)
            if number % SLICE == 0:
                yield
        self._advance(log, active)
        if self._is_first_poll:
            self._is_first_poll = False
            self._pending.append(_Pending(since=self._since, passed=self._take_passed()))

    def _add(self, execution: Execution, queued: float, log: ExecutionLog) -> None:
        execution_id = execution.ref.execution_id
        self._found[execution_id] = queued
        is_excluded = self._filter is not None and not self._filter.accepts(execution, log)
        if queued < self._since or self._is_first_poll or is_excluded:
            self._passed[execution_id] = queued
            return
        pending = _Pending(
            since=self._since,
            passed=self._take_passed(),
            execution_id=execution_id,
            queued_time=queued,
            result=json.dumps(execution.to_result()).encode(),
        )
        self._pending.append(pending)

    def _take_passed(self) -> Mapping[str, float]:
        if not self._passed:
            return _NONE
        passed, self._passed = self._passed, {}
        return passed

    def _advance(self, log: ExecutionLog, active: Sequence[float]) -> None:
        """Look back less far, as far as nothing can be missed by that."""
        newest = max((*self._found.values(), *active), default=-inf)
        self._since = max(self._since, min((*active, newest - OVERLAP)))
        self._found = {name: at for name, at in self._found.items() if at >= self._since or name in log}
        self._passed = {name: at for name, at in self._passed.items() if at >= self._since}


_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """
    An execution that has ended and is still to be delivered, in as little memory as possible.

    :param since: The ``since`` of the checkpoint once it has been delivered.
    :param passed: What else the checkpoint has to contain then: what is not delivered to anyone.
    :param result: The result as JSON; empty if there is only a checkpoint to store.
    """

    since: float
    passed: Mapping[str, float]
    execution_id: str = ""
    queued_time: float = 0.0
    result: bytes = b""
