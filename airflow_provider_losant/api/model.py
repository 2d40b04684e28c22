# SPDX-License-Identifier: Apache-2.0
"""
Losant's notebooks and executions as typed values.

``from_api`` builds each from Losant's JSON and keeps that JSON as ``raw``, which ``repr`` omits because it
contains signed URLs. Unknown keys are ignored. Only this module translates Losant's spelling.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from airflow_provider_losant.api.fields import (
    MAX_NAME,
    execution_errors,
    fit_files,
    integer,
    losant_id,
    number,
    objects,
    one_line,
    short_string,
    short_string_or_none,
    string,
    string_or_none,
    timestamp,
    timestamp_or_none,
)
from airflow_provider_losant.api.timestamps import format_timestamp

ERROR_LOG = "result.error.log"


@dataclass(frozen=True, slots=True)
class Status:
    """
    What an execution's status means for a task that waits for it.

    :param name: Losant's spelling.
    :param is_final: The execution has ended; its status will not change.
    :param is_success: The execution completed without an error.
    :param can_reconnect: A retry reconnects to this execution instead of submitting a new one.
    :param is_active: The execution uses, or will use, run minutes, and was not requested to cancel.
    :param is_known: Losant documents this status.
    """

    name: str
    is_final: bool = False
    is_success: bool = False
    can_reconnect: bool = False
    is_active: bool = False
    is_known: bool = True

    @classmethod
    def of(cls, name: str) -> Status:
        """Return the status of that name; an undocumented one counts as active and not final."""
        return STATUSES.get(name) or cls(
            one_line(name[:MAX_NAME]), can_reconnect=True, is_active=True, is_known=False
        )

    def __str__(self) -> str:
        return self.name


STATUSES: Mapping[str, Status] = {
    status.name: status
    for status in (
        Status("queued", can_reconnect=True, is_active=True),
        Status("inProgress", can_reconnect=True, is_active=True),
        Status("completed", is_final=True, is_success=True, can_reconnect=True),
        Status("errored", is_final=True),
        Status("timeout", is_final=True),
        Status("canceling"),
        Status("canceled", is_final=True),
    )
}
"""All documented statuses (source: Losant's ``notebookExecutionLogs`` schema)."""

QUEUED, COMPLETED, TIMEOUT = (STATUSES[name] for name in ("queued", "completed", "timeout"))
CANCELING, CANCELED = (STATUSES[name] for name in ("canceling", "canceled"))
UNREADABLE = Status("unreadable", can_reconnect=True, is_active=True, is_known=False)
"""Of an entry whose status is missing or not text: the execution may be active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRef:
    """The three ids that identify an execution."""

    application_id: str
    notebook_id: str
    execution_id: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} of notebook {self.notebook_id}"

    @property
    def created_at(self) -> float:
        """Epoch seconds at which Losant created the id: the first four bytes of any MongoDB ObjectId."""
        return float(int(self.execution_id[:8], 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    One input or output file of an execution.

    :param size: Bytes; None if unknown.
    :param url: A signed URL that expires. It is a secret: it grants access to the file.
    """

    name: str
    size: int | None = None
    content_type: str | None = None
    url: str | None = field(default=None, repr=False)

    @classmethod
    def files_from_api(cls, files: Mapping[str, Mapping[str, Any]] | None) -> Mapping[str, File]:
        if not files:
            return _NO_FILES
        return {
            name: cls(
                name=name,
                size=integer(it, "size"),
                content_type=short_string_or_none(it, "contentType"),
                url=string_or_none(it, "url"),
            )
            for name, it in files.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """
    One execution of a notebook, as the notebook's execution log lists it.

    A timestamp is None until its event has happened.

    :param errors: The first 20 execution errors, cut to 2,000 characters; a last one counts the others.
    """

    ref: ExecutionRef
    status: Status
    relative_to: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    inputs_at: datetime | None = None
    notebook_at: datetime | None = None
    outputs_at: datetime | None = None
    max_run_minutes: float | None = None
    inputs: Mapping[str, File] = field(default_factory=dict)
    outputs: Mapping[str, File] = field(default_factory=dict)
    errors: Sequence[Mapping[str, str]] = ()
    template_context: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> Execution:
        """Parse one entry of a notebook's execution log."""
        return cls(
            ref=ExecutionRef(
                application_id=short_string(entry, "applicationId"),
                notebook_id=short_string(entry, "notebookId"),
                execution_id=losant_id(execution_id_of(entry), field="notebookExecutionId"),
            ),
            status=Status.of(string(entry, "status")),
            relative_to=timestamp_or_none(entry, "executionRelativeTo"),
            queued_at=timestamp_or_none(entry, "runQueuedAt"),
            started_at=timestamp_or_none(entry, "runStartedAt"),
            inputs_at=timestamp_or_none(entry, "inputsCompletedAt"),
            notebook_at=timestamp_or_none(entry, "notebookCompletedAt"),
            outputs_at=timestamp_or_none(entry, "outputsCompletedAt"),
            max_run_minutes=number(entry, "maxAllowedRunMinutes"),
            inputs=File.files_from_api(entry.get("inputInfo")),
            outputs=File.files_from_api(entry.get("outputInfo")),
            errors=execution_errors(entry, "executionErrors"),
            template_context=string_or_none(entry, "templateContext"),
            raw=entry,
        )

    @property
    def queued_time(self) -> float:
        """Epoch seconds at which it was queued; the id's timestamp if Losant returns none."""
        return self.queued_at.timestamp() if self.queued_at else self.ref.created_at

    @property
    def last_event_time(self) -> float:
        """Epoch seconds of its latest known event; of a finished execution, its end."""
        return self._last_event_at.timestamp() if self._last_event_at else self.queued_time

    @property
    def phase(self) -> str:
        """The status, and while the execution is in progress, its current step."""
        if self.status.is_final or self.started_at is None:
            return self.status.name
        done = (self.inputs_at, self.notebook_at, self.outputs_at)
        step = ("reading inputs", "running the notebook", "saving outputs", "finishing")
        return f"{self.status}: {step[sum(at is not None for at in done)]}"

    @property
    def durations(self) -> dict[str, float | None]:
        """Seconds spent in each phase that has ended, and in total so far."""
        spans = [_seconds_between(*pair) for pair in itertools.pairwise(self._milestones)]
        names = ("queue", "inputs", "notebook", "outputs", "total")
        return dict(zip(names, (*spans, _seconds_between(self.queued_at, self._last_event_at)), strict=True))

    def to_result(self) -> dict[str, Any]:
        """Return the JSON dict that is the task's result (XCom): bounded, and without a signed URL."""
        files = self.outputs.items()
        outputs = {name: {"size": it.size, "content_type": it.content_type} for name, it in files}
        return {
            "execution_id": self.ref.execution_id,
            "notebook_id": self.ref.notebook_id,
            "application_id": self.ref.application_id,
            "status": self.status.name,
            "relative_to": _format_or_none(self.relative_to),
            "queued_at": _format_or_none(self.queued_at),
            "started_at": _format_or_none(self.started_at),
            "finished_at": self._finished_at,
            "durations": self.durations,
            "max_run_minutes": self.max_run_minutes,
            **fit_files({name: {"size": it.size} for name, it in self.inputs.items()}, outputs),
        }

    @property
    def _milestones(self) -> tuple[datetime | None, ...]:
        return (self.queued_at, self.started_at, self.inputs_at, self.notebook_at, self.outputs_at)

    @property
    def _last_event_at(self) -> datetime | None:
        return max((at for at in self._milestones if at is not None), default=None)

    @property
    def _finished_at(self) -> str | None:
        if not self.status.is_final:
            return None
        return _format_or_none(self.outputs_at or self.notebook_at)


_NO_FILES: Mapping[str, File] = MappingProxyType({})


def execution_id_of(entry: Mapping[str, Any]) -> Any:
    """Return the id of an entry of the execution log, of whatever type it is; None if it has none."""
    return entry.get("notebookExecutionId") or entry.get("id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """
    A notebook in Losant: the Jupyter file with its configured inputs and outputs.

    :param file_url: A signed URL of the Jupyter file that expires. It is a secret: it grants access.
    :param minutes_this_period: Run minutes used in the current billing period.
    """

    id: str
    application_id: str
    name: str
    description: str | None = None
    file_name: str | None = None
    file_url: str | None = field(default=None, repr=False)
    image_version: str | None = None
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    minutes_this_period: float | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> Notebook:
        """Parse one notebook of Losant's response."""
        return cls(
            id=losant_id(entry.get("notebookId") or entry["id"], field="notebookId"),
            application_id=string(entry, "applicationId"),
            name=string(entry, "name"),
            description=string_or_none(entry, "description"),
            file_name=string_or_none(entry, "jupyterFileName"),
            file_url=string_or_none(entry, "jupyterFileUrl"),
            image_version=string_or_none(entry, "imageVersion"),
            inputs=objects(entry, "inputs"),
            outputs=objects(entry, "outputs"),
            minutes_this_period=number(entry.get("stats") or {}, "minutesThisPeriod"),
            raw=entry,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCount:
    """
    The usage of one day.

    :param date: The start of the day.
    :param minutes: Run minutes, as a whole number.
    :param completed: Number of executions that completed; ``errored``, ``canceled`` and ``timeout`` likewise.
    """

    date: datetime
    minutes: int
    completed: int
    errored: int
    canceled: int
    timeout: int

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> DayCount:
        """Parse one day of Losant's response; a missing number is zero."""
        names = ("minutes", "completed", "errored", "canceled", "timeout")
        counts = {name: integer(entry, name) or 0 for name in names}
        return cls(date=timestamp(entry, "date"), **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteCounts:
    """
    A notebook's usage between two timestamps.

    :param days: The days with executions, as Losant lists them.
    """

    start: datetime
    end: datetime
    days: Sequence[DayCount]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, response: Mapping[str, Any]) -> MinuteCounts:
        """Parse Losant's response."""
        return cls(
            start=timestamp(response, "start"),
            end=timestamp(response, "end"),
            days=tuple(DayCount.from_api(entry) for entry in response["counts"]),
            raw=response,
        )

    @property
    def minutes(self) -> int:
        """The run minutes of all days."""
        return sum(day.minutes for day in self.days)


def _format_or_none(timestamp: datetime | None) -> str | None:
    return None if timestamp is None else format_timestamp(timestamp)


def _seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 3)
