# SPDX-License-Identifier: Apache-2.0
"""
What has to be so before a run is started: that no other goes on, that there are minutes left.

It is judged by what Losant shows at that moment. Losant has no lock: two tasks that look at the same time
both find the way free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import JSON_ERRORS, InvalidArgument, LosantError, ProtocolError
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import MARKER_KEY
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.api.model import Execution

IfRunning = Literal["start", "wait", "adopt", "skip", "fail", "cancel_previous"]
Window = Literal["day", "billing_period"]
OnExceeded = Literal["fail", "skip"]


class StartDenied(LosantError):
    """The gate is shut, so nothing was started; it may be open another time."""

    is_transient = True


class StartSkipped(LosantError):
    """The gate is shut, and the task is to be skipped for it; nothing was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Nothing is started as long as another run goes on."""

    by: Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPolicy:
    """
    The conditions for a start.

    :param if_running: What to do while another run of the notebook goes on.
    :param max_minutes: Run minutes that the notebook may have used before; None does not ask.
    :param minutes_window: Since when they count: today (UTC), or since the billing period began.
    :param on_exceeded: What to do when it has used them.
    :param waiting_since: Epoch seconds since when the task has waited to submit.
    :param give_up_at: Epoch seconds at which waiting ends.
    :param poll_interval: Seconds between looks.
    :param may_wait_here: Wait in this very flow; otherwise it ends with a :class:`Waiting`.
    """

    if_running: IfRunning = "start"
    max_minutes: float | None = None
    minutes_window: Window = "day"
    on_exceeded: OnExceeded = "fail"
    waiting_since: float
    give_up_at: float
    poll_interval: float
    may_wait_here: bool = True

    @property
    def is_unconditional(self) -> bool:
        """Whether there is no condition at all."""
        return self.if_running == "start" and self.max_minutes is None

    def validate(self) -> StartPolicy:
        """
        Return the gate when its conditions make sense.

        :raises InvalidArgument: one of them does not.
        """
        known = {"if_running": IfRunning, "minutes_window": Window, "on_exceeded": OnExceeded}
        for field, values in known.items():
            if getattr(self, field) not in get_args(values):
                raise InvalidArgument(
                    field, f"{getattr(self, field)!r} is none of {', '.join(get_args(values))}"
                )
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise InvalidArgument("max_minutes", f"{self.max_minutes!r} is not a positive number")
        return self

    def admit(self, finder: ExecutionFinder) -> Flow[Started | Blocked | None]:
        """
        Judge whether a run may be started now: None says yes.

        :return: None, or the run that takes the new one's place, or one that has to be waited for.
        :raises Closed: no, and the task is to fail.
        :raises Skipped: no, and the task is to be skipped.
        """
        if self.if_running == "cancel_previous":
            # For a run that is not started, no other has to go.
            yield from self._check_minutes(finder)
            yield from self._cancel(finder)
        while self.if_running != "start":
            others = yield from self._others(finder)
            adopted = self._to_adopt(others, finder.submission)
            if adopted is not None:
                return adopted
            if not others or self.if_running == "adopt":
                break
            self._deny(others[0])
            if finder.clock() >= self.give_up_at:
                raise StartDenied(f"{_is_active(others[0])}, and the time to wait for it is over")
            if not self.may_wait_here:
                return Blocked(by=others[0])
            yield LogLine(f"{_is_active(others[0])}; waiting for its end")
            yield Sleep(max(0.0, min(self.poll_interval, self.give_up_at - finder.clock())))
        if self.if_running != "cancel_previous":
            yield from self._check_minutes(finder)
        return None

    def _others(self, finder: ExecutionFinder) -> Flow[Sequence[Execution]]:
        others = yield from finder.find_others()
        if self.if_running != "cancel_previous":
            return others
        return [it for it in others if it.queued_time < self.waiting_since]

    def _cancel(self, finder: ExecutionFinder) -> Flow[None]:
        for execution in (yield from self._others(finder)):
            if not execution.status.is_active:
                continue
            done = yield from cancel(
                execution.ref, "a new run is to take its place", retries=finder.policy.retries
            )
            if done == "failed":
                raise StartDenied(f"{_is_active(execution)} and could not be cancelled")

    def _to_adopt(self, others: Sequence[Execution], submission: Submission) -> Started | None:
        """Choose the newest run that was ordered for the same."""
        if self.if_running != "adopt":
            return None
        same = (it for it in others if it.status.can_reconnect and _is_for_the_same(it, submission))
        newest = max(same, key=lambda it: it.queued_time, default=None)
        return None if newest is None else Started.adopted(newest)

    def _deny(self, other: Execution) -> None:
        if self.if_running == "skip":
            raise StartSkipped(_is_active(other))
        if self.if_running == "fail":
            raise StartDenied(_is_active(other))

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
        ids, retries = (
            (finder.submission.application_id, finder.submission.notebook_id),
            finder.policy.retries,
        )
        if self.minutes_window == "day":
            now = datetime.fromtimestamp(finder.clock(), UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            counts = yield from call_with_retry(endpoints.minute_counts(*ids, start=midnight), retries)
            return counts.minutes
        notebook = yield from call_with_retry(endpoints.get_notebook(*ids), retries)
        if notebook.minutes_this_period is None:
            raise ProtocolError(f"Losant does not say how many minutes {finder.submission} has used")
        return notebook.minutes_this_period


def _is_active(execution: Execution) -> str:
    return f"Another run of the notebook goes on: {execution.ref.execution_id} ({execution.status})"


def _is_for_the_same(execution: Execution, submission: Submission) -> bool:
    """Tell whether a run has the order's context, and its query time if the order has any."""
    asked = submission.options.get("relativeTo")
    if asked is not None and (
        execution.relative_to is None or format_timestamp(execution.relative_to) != asked
    ):
        return False
    return bool(_unmarked(execution.template_context) == _unmarked(submission.options.get("templateContext")))


def _unmarked(context: str | None) -> Any:
    try:
        told = json.loads(context or "{}")
    except JSON_ERRORS:
        return context
    return (
        {name: value for name, value in told.items() if name != MARKER_KEY}
        if isinstance(told, Mapping)
        else told
    )
