# SPDX-License-Identifier: Apache-2.0
"""
A model of Losant for tests that run real flows against it, without sockets and with a clock of their own.

It stores executions, has a log that may lag, may be long, and may have entries of other clients in any shape,
and its requests may be lost before or after they take effect. It may return fewer entries than requested,
refuse a high ``limit``, compare ``since`` with the start of executions, and have another clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import (
    BadRequest,
    LosantError,
    NotFound,
    RateLimited,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.ownership import MARKER_KEY, Owner
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.model import ExecutionRef, Status
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID, entry, iso, owner

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

EARLY = "2020-01-01T00:00:00+00:00"
ODD: tuple[Any, ...] = (
    {"status": "completed"},
    "not an object",
    None,
    {"id": 7},
    {"id": "f" * 24, "status": "errored", "executionErrors": ["boom"], "runQueuedAt": "yesterday"},
    {"id": "0" * 24, "status": ["queued"], "templateContext": 5},
    {"id": "e" * 24, "status": "queued", "runQueuedAt": "9999-12-31T23:59:59-14:00"},
    {"id": "d" * 24, "status": "queued", "templateContext": '{"airflow": {"dag_id": 5, "try_number": "1"}}'},
)
"""Entries of other clients that have another shape than Losant documents."""


def strangers_of(whose: Owner) -> list[Owner]:
    """Return owners whose executions that owner's task must leave alone: other tasks, other deployments."""
    staging = replace(whose, deployment="https://staging.example", dag_run_start=EARLY, try_number=0)
    return [
        replace(whose, task_id="another"),
        replace(whose, map_index=7),
        replace(whose, region="another iteration"),
        staging,
        replace(staging, max_tries=whose.max_tries - 1),
        replace(whose, run_id="another"),
        replace(staging, deployment=""),
    ]


@dataclass(kw_only=True)
class Run:
    """
    An execution in the model.

    :param at: When it was queued, by the clock of the test.
    :param listed_at: From when on the log shows it, by the same clock.
    """

    id: str
    at: float
    listed_at: float
    context: str
    status: str = "queued"
    cancelled_at: float = 0.0

    @property
    def is_active(self) -> bool:
        return Status.of(self.status).is_active

    @property
    def marker(self) -> Owner:
        """The owner that the marker names."""
        fields = json.loads(self.context)[MARKER_KEY]
        return Owner(**{name: fields[name] for name in Owner.__slots__})

    @property
    def identity(self) -> tuple[Any, ...]:
        """What the executions of all tries of an owner have in common."""
        it = self.marker
        return it.dag_id, it.task_id, it.run_id, it.map_index, it.dag_run_start, it.max_tries


@dataclass(kw_only=True)
class LosantModel:
    """
    Stores executions and responds as Losant; its clock advances only when a test or a flow says so.

    :param lag: Seconds until the log shows an execution that is submitted now.
    :param cap: The most entries that a response has, whatever the ``limit``.
    :param refuses_above: The highest ``limit`` that it accepts.
    :param since_field: The timestamp that ``since`` is compared with: ``queued`` or ``started``.
    :param skew: Seconds that Losant's clock is ahead of the test's.
    """

    lag: float = 0.0
    cap: int | None = None
    refuses_above: int | None = None
    since_field: str = "queued"
    skew: float = 0.0
    now: float = 1_700_000_000.0
    runs: list[Run] = field(default_factory=list)
    log: list[Run | dict[str, Any] | Any] = field(default_factory=list)
    """Executions that flows have submitted, and entries of other clients; oldest first."""
    cancel_requests: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    @property
    def shows_all(self) -> bool:
        """Whether no execution can be missing in the log, however long it is."""
        return self.cap is None and self.refuses_above is None

    def add_foreign(self, count: int, whose: Owner | None = None) -> None:
        """
        Add entries of other clients, among them some of an odd shape, and some with markers.

        :param whose: The owner that the markers are similar to.
        """
        strangers = strangers_of(whose or owner())
        for number in range(len(self.log), len(self.log) + count):
            if number % 7 == 1:
                self.log.append(ODD[number % len(ODD)])
                continue
            marker = strangers[number % 10].add_marker({}) if number % 10 < len(strangers) else {}
            execution_id = f"{int(self.now + self.skew):08x}{number:012x}ffff"
            self.log.append(entry("inProgress", execution_id, templateContext=json.dumps(marker)))

    def find(self, execution_id: str | None) -> Run:
        return next(it for it in self.runs if it.id == execution_id)

    def active(self, identity: tuple[Any, ...] | None = None) -> list[Run]:
        return [it for it in self.runs if it.is_active and identity in {None, it.identity}]

    def listed(self) -> list[Run]:
        """Return the executions that the log shows by now."""
        return [it for it in self.runs if it.listed_at <= self.now]

    def end_by_time(self, *, canceling: float, running: float) -> None:
        """End the executions that have been canceling, or running, for so many seconds."""
        for it in self.runs:
            if it.status == "canceling" and self.now - it.cancelled_at >= canceling:
                it.status = "canceled"
            if it.is_active and self.now - it.at >= running:
                it.status = "completed"

    def perform(self, step: Any, fault: str = "ok") -> Any:
        """Carry out a step of a flow; returns its result or its error."""
        if isinstance(step, Sleep):
            self.now += step.seconds
            return None
        if isinstance(step, LogLine):
            return None
        self.now += 0.01
        try:
            return self._request(step, fault)
        except LosantError as error:
            return error

    def cancel(self, execution_id: str) -> None:
        """Cancel an execution as Losant does."""
        self.cancel_requests.append(execution_id)
        for it in self.runs:
            if it.id == execution_id and it.is_active:
                it.status, it.cancelled_at = "canceling", self.now
                return
        raise NotFound(404, "NotFound", "Execution was not found")

    def _request(self, call: Call[Any], fault: str) -> Any:
        if fault == "refused":
            raise TransportError("refused", was_sent=False)
        if fault == "limited":
            raise RateLimited(429, "", "slow down", retry_after=2.0)
        if fault == "lost_there":
            raise TransportError("lost")
        if fault == "failed_there":
            raise ServerError(502, "", "bad gateway")
        response = self._respond(call)
        if fault == "lost_back":
            raise TransportError("lost")
        if fault == "failed_back":
            raise ServerError(503, "", "unavailable")
        return response

    def _respond(self, call: Call[Any]) -> Any:
        match call.operation:
            case "notebook.execute":
                return self._execute(call.json or {})
            case "notebook.logs":
                return self._logs(call.query)
            case _:
                return self.cancel(call.query["executionId"])

    def _execute(self, options: Mapping[str, Any]) -> ExecutionRef:
        run = Run(
            id=f"{int(self.now + self.skew):08x}{len(self.runs):016x}",
            at=self.now,
            listed_at=self.now + self.lag,
            context=options["templateContext"],
        )
        self.runs.append(run)
        self.log.append(run)
        return ExecutionRef(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=run.id)

    def _logs(self, query: Mapping[str, str]) -> ExecutionLog:
        limit = int(query["limit"])
        if self.refuses_above is not None and limit > self.refuses_above:
            raise BadRequest(400, "Validation", "limit is too large")
        since = int(query["since"]) / 1000 if "since" in query else None
        listed: list[Any] = []
        for it in reversed(self.log):
            if not isinstance(it, Run):
                listed.append(it)
            elif self._is_listed(it, since):
                at = iso(it.at + self.skew)
                listed.append(entry(it.status, it.id, templateContext=it.context, runQueuedAt=at))
        return ExecutionLog(listed[: limit if self.cap is None else min(limit, self.cap)])

    def _is_listed(self, run: Run, since: float | None) -> bool:
        if run.listed_at > self.now:
            return False
        has_time = self.since_field == "queued" or run.status != "queued"
        return since is None or (has_time and run.at + self.skew >= since)
