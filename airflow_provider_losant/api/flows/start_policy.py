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
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.ownership import KEY
from airflow_provider_losant.api.flows.steps import Note, Sleep
from airflow_provider_losant.api.flows.submission import Started
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.polling import Flow
    from airflow_provider_losant.api.flows.reconnect import Search
    from airflow_provider_losant.api.flows.submission import Order
    from airflow_provider_losant.api.model import Execution

IfRunning = Literal["start", "wait", "adopt", "skip", "fail", "cancel_previous"]
Window = Literal["day", "billing_period"]
OnExceeded = Literal["fail", "skip"]


class Closed(LosantError):
    """The gate is shut, so nothing was started; it may be open another time."""

    is_transient = True


class Skipped(LosantError):
    """The gate is shut, and the task is to be skipped for it; nothing was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Nothing is started as long as another run goes on."""

    execution: Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """
    The conditions for a start.

    :param if_running: What to do while another run of the notebook goes on.
    :param max_minutes: Run minutes that the notebook may have used before; None does not ask.
    :param minutes_window: Since when they count: today (UTC), or since the billing period began.
    :param on_exceeded: What to do when it has used them.
    :param began: Epoch seconds at which the task came to the gate.
    :param give_up_at: Epoch seconds at which waiting ends.
    :param poll_interval: Seconds between looks.
    :param may_wait_here: Wait in this very flow; otherwise it ends with a :class:`Waiting`.
    """

    if_running: IfRunning = "start"
    max_minutes: float | None = None
    minutes_window: Window = "day"
    on_exceeded: OnExceeded = "fail"
    began: float
    give_up_at: float
    poll_interval: float
    may_wait_here: bool = True

    @property
    def is_open(self) -> bool:
        """Whether there is no condition at all."""
        return self.if_running == "start" and self.max_minutes is None

    def check(self) -> Gate:
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

    def admit(self, search: Search) -> Flow[Started | Waiting | None]:
        """
        Judge whether a run may be started now: None says yes.

        :return: None, or the run that takes the new one's place, or one that has to be waited for.
        :raises Closed: no, and the task is to fail.
        :raises Skipped: no, and the task is to be skipped.
        """
        if self.if_running == "cancel_previous":
            # For a run that is not started, no other has to go.
            yield from self._check_minutes(search)
            yield from self._cancel(search)
        while self.if_running != "start":
            others = yield from self._others(search)
            adopted = self._to_adopt(others, search.order)
            if adopted is not None:
                return adopted
            if not others or self.if_running == "adopt":
                break
            self._turn_away(others[0])
            if search.clock() >= self.give_up_at:
                raise Closed(f"{_goes_on(others[0])}, and the time to wait for it is over")
            if not self.may_wait_here:
                return Waiting(execution=others[0])
            yield Note(f"{_goes_on(others[0])}; waiting for its end")
            yield Sleep(max(0.0, min(self.poll_interval, self.give_up_at - search.clock())))
        if self.if_running != "cancel_previous":
            yield from self._check_minutes(search)
        return None

    def _others(self, search: Search) -> Flow[Sequence[Execution]]:
        others = yield from search.others()
        if self.if_running != "cancel_previous":
            return others
        return [it for it in others if it.queued_time < self.began]

    def _cancel(self, search: Search) -> Flow[None]:
        for execution in (yield from self._others(search)):
            if not execution.status.is_active:
                continue
            done = yield from polling.cancel(
                execution.ref, "a new run is to take its place", retries=search.terms.retries
            )
            if done == "failed":
                raise Closed(f"{_goes_on(execution)} and could not be cancelled")

    def _to_adopt(self, others: Sequence[Execution], order: Order) -> Started | None:
        """Choose the newest run that was ordered for the same."""
        if self.if_running != "adopt":
            return None
        same = (it for it in others if it.status.can_reconnect and _is_for_the_same(it, order))
        newest = max(same, key=lambda it: it.queued_time, default=None)
        return None if newest is None else Started.adopted(newest)

    def _turn_away(self, other: Execution) -> None:
        if self.if_running == "skip":
            raise Skipped(_goes_on(other))
        if self.if_running == "fail":
            raise Closed(_goes_on(other))

    def _check_minutes(self, search: Search) -> Flow[None]:
        if self.max_minutes is None:
            return
        used = yield from self._used_minutes(search)
        if used < self.max_minutes:
            return
        since = "today (UTC)" if self.minutes_window == "day" else "in this billing period"
        text = (
            f"{search.order} has used {used:g} run minutes {since}, and max_minutes is {self.max_minutes:g}"
        )
        raise Skipped(text) if self.on_exceeded == "skip" else Closed(text)

    def _used_minutes(self, search: Search) -> Flow[float]:
        ids, retries = (search.order.application_id, search.order.notebook_id), search.terms.retries
        if self.minutes_window == "day":
            now = datetime.fromtimestamp(search.clock(), UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            counts = yield from polling.repeat(endpoints.minute_counts(*ids, start=midnight), retries)
            return counts.minutes
        notebook = yield from polling.repeat(endpoints.get_notebook(*ids), retries)
        if notebook.minutes_this_period is None:
            raise ProtocolError(f"Losant does not say how many minutes {search.order} has used")
        return notebook.minutes_this_period


def _goes_on(execution: Execution) -> str:
    return f"Another run of the notebook goes on: {execution.ref.execution_id} ({execution.status})"


def _is_for_the_same(execution: Execution, order: Order) -> bool:
    """Tell whether a run has the order's context, and its query time if the order has any."""
    asked = order.options.get("relativeTo")
    if asked is not None and (
        execution.relative_to is None or format_timestamp(execution.relative_to) != asked
    ):
        return False
    return bool(_unmarked(execution.template_context) == _unmarked(order.options.get("templateContext")))


def _unmarked(context: str | None) -> Any:
    try:
        told = json.loads(context or "{}")
    except JSON_ERRORS:
        return context
    return {name: value for name, value in told.items() if name != KEY} if isinstance(told, Mapping) else told
