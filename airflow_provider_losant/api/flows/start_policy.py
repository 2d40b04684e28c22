# SPDX-License-Identifier: Apache-2.0
"""
The conditions for a submission: no other execution is active, and run minutes are left.

They are checked against what Losant shows at that moment. Losant has no lock, so two tasks that check at the
same time may both submit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import JSON_ERRORS, LosantError, ProtocolError
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import MARKER_KEY
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.defaults import IfRunning, OnExceeded, Window
    from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.api.model import Execution


class StartDenied(LosantError):
    """The conditions do not allow a submission now; nothing was submitted."""

    is_transient = True


class StartSkipped(LosantError):
    """The conditions do not allow a submission, and the task is to be skipped; nothing was submitted."""


class Replaced(LosantError):
    """Another task has cancelled the execution of an earlier try to run its own; nothing was submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """
    The submission may happen now.

    :param replaces: IDs of the executions that were cancelled for it.
    """

    replaces: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """
    Nothing is submitted as long as another execution is active.

    :param by: That execution.
    :param replaces: IDs of the executions that have been cancelled for the submission so far.
    """

    by: Execution
    replaces: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPolicy:
    """
    The conditions for a submission.

    :param if_running: What to do while another execution of the notebook is active.
    :param max_minutes: Run minutes that the notebook may have used before; None is no limit.
    :param minutes_window: Since when they count: today (UTC), or since the billing period began.
    :param on_exceeded: What to do when it has used more.
    :param replaces: IDs of the executions that the task has cancelled before, in another process.
    :param give_up_at: Epoch seconds at which waiting ends.
    :param poll_interval: Seconds between polls.
    :param may_wait_here: Wait in the worker; otherwise :meth:`admit` returns what blocks the submission.
    """

    if_running: IfRunning = "start"
    max_minutes: float | None = None
    minutes_window: Window = "day"
    on_exceeded: OnExceeded = "fail"
    replaces: Sequence[str] = ()
    give_up_at: float
    poll_interval: float
    may_wait_here: bool = True

    @property
    def is_unconditional(self) -> bool:
        """Whether there are no conditions."""
        return self.if_running == "start" and self.max_minutes is None

    def admit(self, finder: ExecutionFinder) -> Flow[Started | Blocked | Allowed]:
        """
        Decide whether the submission may happen now.

        An earlier execution of the task itself, to which it did not reconnect, is always waited for.

        :return: That it may, or the execution to wait for instead, or what blocks the submission.
        :raises StartDenied: it may not happen, and the task is to fail.
        :raises StartSkipped: it may not happen, and the task is to be skipped.
        :raises Replaced: another task has cancelled the execution of an earlier try to run its own.
        """
        replaces = list(self.replaces)
        if self.if_running == "cancel_previous":
            yield from self._check_replaced(finder)
            # If the minutes are used up, no other execution is cancelled.
            yield from self._check_minutes(finder)
        while self.if_running != "start":
            active = yield from finder.find_unfinished()
            if self.if_running == "cancel_previous":
                yield from self._cancel(active, finder, replaces)
            blocking = self._blocking(active, finder.submission)
            if isinstance(blocking, Started):
                return blocking
            if blocking is None:
                break
            if finder.clock() >= self.give_up_at:
                raise StartDenied(f"{_active(blocking)}; the time to wait for it is over")
            if not self.may_wait_here:
                return Blocked(by=blocking, replaces=replaces)
            yield LogLine(f"{_active(blocking)}; waiting for it to end")
            yield Sleep(max(0.0, min(self.poll_interval, self.give_up_at - finder.clock())))
        if self.if_running != "cancel_previous":
            yield from self._check_minutes(finder)
        return Allowed(replaces=replaces)

    def _blocking(self, active: Sequence[Execution], submission: Submission) -> Execution | Started | None:
        """Return the execution to wait for before the submission, or instead of it; None if there is none."""
        if self.if_running == "adopt":
            same = (it for it in active if it.status.can_reconnect and _is_equivalent(it, submission))
            newest = max(same, key=lambda it: it.queued_time, default=None)
            if newest is not None:
                return Started.reconnected(newest, is_owned=submission.is_same_task(newest))
        own = next(filter(submission.is_same_task, active), None)
        other = next((it for it in active if not submission.is_same_task(it)), None)
        if other is None or self.if_running == "adopt":
            return own
        self._deny(other)
        return other

    def _check_replaced(self, finder: ExecutionFinder) -> Flow[None]:
        """Raise if another task has cancelled the owner's execution, which must not be cancelled in turn."""
        replacement = yield from finder.find_replacement()
        if replacement is not None:
            raise Replaced(
                "Another task has cancelled the execution of an earlier try, and runs "
                f"{replacement.ref.execution_id} instead ({replacement.status})"
            )

    def _cancel(
        self, active: Sequence[Execution], finder: ExecutionFinder, replaces: list[str]
    ) -> Flow[None]:
        for execution in active:
            if not execution.status.is_active or execution.ref.execution_id in replaces:
                continue
            result = yield from cancel(
                execution.ref, "a new execution replaces it", retries=finder.policy.retries
            )
            if result == "failed":
                raise StartDenied(f"{_active(execution)}; it could not be cancelled")
            if result == "requested":  # otherwise it has ended by itself, and its task may run it again
                replaces.append(execution.ref.execution_id)

    def _deny(self, other: Execution) -> None:
        if self.if_running == "skip":
            raise StartSkipped(_active(other))
        if self.if_running == "fail":
            raise StartDenied(_active(other))

    def _check_minutes(self, finder: ExecutionFinder) -> Flow[None]:
        if self.max_minutes is None:
            return
        used = yield from self._used_minutes(finder)
        if used < self.max_minutes:
            return
        since = "today (UTC)" if self.minutes_window == "day" else "in this billing period"
        limit = f"max_minutes is {self.max_minutes:g}"
        text = f"{finder.submission} has used {used:g} run minutes {since}, and {limit}"
        raise StartSkipped(text) if self.on_exceeded == "skip" else StartDenied(text)

    def _used_minutes(self, finder: ExecutionFinder) -> Flow[float]:
        ids = finder.submission.application_id, finder.submission.notebook_id
        retries = finder.policy.retries
        if self.minutes_window == "day":
            now = datetime.fromtimestamp(finder.clock(), UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            counts = yield from call_with_retry(endpoints.minute_counts(*ids, start=midnight), retries)
            return counts.minutes
        notebook = yield from call_with_retry(endpoints.get_notebook(*ids), retries)
        if notebook.minutes_this_period is None:
            raise ProtocolError(f"Losant does not report the run minutes of {finder.submission}")
        return notebook.minutes_this_period


def _active(execution: Execution) -> str:
    ref, status = execution.ref, execution.status
    return f"Another execution of the notebook is still active: {ref.execution_id} ({status})"


def _is_equivalent(execution: Execution, submission: Submission) -> bool:
    """Tell whether an execution has the submission's template context, and its query time if it has one."""
    requested = submission.options.get("relativeTo")
    used = execution.relative_to
    if requested is not None and (used is None or format_timestamp(used) != requested):
        return False
    own = submission.options.get("templateContext")
    return bool(_without_marker(execution.template_context) == _without_marker(own))


def _without_marker(text: str | None) -> Any:
    try:
        context = json.loads(text or "{}")
    except JSON_ERRORS:
        return text
    if not isinstance(context, Mapping):
        return context
    return {name: value for name, value in context.items() if name != MARKER_KEY}
