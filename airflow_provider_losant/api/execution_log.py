# SPDX-License-Identifier: Apache-2.0
"""
A response of a notebook's execution log.

The log lists the executions of all users of the notebook. So an entry that cannot be parsed must not
hide the others, and raises only for those who want exactly that execution.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from math import inf
from operator import attrgetter
from typing import Any

from airflow_provider_losant.api.errors import JSON_ERRORS, SHAPE_ERRORS, LosantError, ProtocolError
from airflow_provider_losant.api.fields import losant_id, one_line, timestamp_or_none
from airflow_provider_losant.api.model import UNREADABLE, Execution, ExecutionRef, Status, execution_id_of

MIN_TIME = 1e9
"""Epoch seconds (in 2001) before which no execution can be; an earlier timestamp is not believed."""
SLICE = 200
"""Entries that are parsed before the event loop may do other work: a few milliseconds."""


class ExecutionLog:
    """
    A notebook's latest executions, newest first; each entry is parsed on first access, and only then.

    One log serves thousands of waits, most of which find nothing new in it.

    :param entries: The entries as Losant returns them, which may have any shape.
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        ids = [_execution_id(entry) for entry in entries]
        self._size = len(ids)
        self._entries: dict[str, Mapping[str, Any]] = {
            name: entry for name, entry in zip(ids, entries, strict=True) if name
        }
        self._has_entry_without_id = None in ids
        self._parsed: dict[str, Execution | ProtocolError] = {}
        self._unparsed = iter(self._entries)
        self._summaries: Sequence[Execution] | None = None
        self._contexts: dict[str, Any] = {}
        self._is_without_since, self._may_be_cut = False, True

    def __len__(self) -> int:
        """Return the number of entries in the response, also of those without an id."""
        return self._size

    def __contains__(self, execution_id: object) -> bool:
        return execution_id in self._entries

    @property
    def ids(self) -> Collection[str]:
        """The ids of all executions."""
        return self._entries.keys()

    def find(self, execution_id: str, known: Execution | None = None) -> Execution | None:
        """
        Return one execution; None if the log does not list it.

        :param known: The execution as found before; returned itself if its entry has not changed.
        :raises ProtocolError: the entry has an unknown shape.
        """
        entry = self._entries.get(execution_id)
        if entry is None:
            return None
        if known is not None and known.raw == entry:
            return known
        found = self._parse(execution_id)
        if isinstance(found, ProtocolError):
            raise ProtocolError(str(found))  # not the same object, which would get longer with each traceback
        return found

    def parse_slice(self) -> bool:
        """
        Parse the next :data:`SLICE` entries; return whether all have been parsed.

        A caller in an event loop, which a long log would block, calls this until it returns true.
        """
        ids = list(islice(self._unparsed, SLICE))
        for execution_id in ids:
            self._parse(execution_id)
        return len(ids) < SLICE

    @cached_property
    def unreadable(self) -> Sequence[tuple[str, ProtocolError]]:
        """The id and the error of each entry that cannot be parsed; all without an id have one together."""
        return [(name, it) for name, it in self.parse() if isinstance(it, ProtocolError)]

    def first_to_end(self, since: float) -> Execution | None:
        """
        Return the execution that ended first of those queued since a time; None if none has ended.

        :param since: Epoch seconds.
        """
        queued_times, first_since = self._ends
        position = bisect_left(queued_times, since)
        return first_since[position] if position < len(first_since) else None

    @cached_property
    def ended(self) -> Sequence[tuple[float, Execution]]:
        """When each ended execution was queued (epoch seconds), and the execution, in order of the ends."""
        ended = sorted(self._ended, key=attrgetter("last_event_time", "queued_time"))
        return [(it.queued_time, it) for it in ended]

    def template_context(self, execution: Execution) -> Any:
        """
        Return the template context of an execution of this log as a JSON value; None if it is not JSON.

        It is parsed once, because hundreds of waits may compare it.
        """
        execution_id = execution.ref.execution_id
        if execution_id not in self._contexts:
            try:
                self._contexts[execution_id] = json.loads(execution.template_context or "null")
            except JSON_ERRORS:
                self._contexts[execution_id] = None
        return self._contexts[execution_id]

    def set_request(self, since: float, *, may_be_cut: bool) -> None:
        """
        Remember how the response was requested.

        :param since: Epoch seconds; 0 for a request without ``since``.
        :param may_be_cut: Losant may have more entries than it returned.
        """
        self._is_without_since, self._may_be_cut = since <= 0, may_be_cut

    def rules_out(self, execution_id: str, back_to: float) -> bool:
        """
        Tell whether there is certainly no such execution.

        The response must have been requested without ``since``, because Losant does not document which
        timestamp it compares with it; and an entry without a readable id may be any execution.

        :param back_to: Epoch seconds; a log that may be cut is good enough if it reaches back to then.
        """
        if execution_id in self or self._has_entry_without_id or not self._is_without_since:
            return False
        return not self._may_be_cut or self.reaches_back_to(back_to)

    def parse(self, ids: Iterable[str] | None = None) -> Iterator[tuple[str, Execution | ProtocolError]]:
        """
        Parse each entry; for one that cannot be parsed there is an error instead.

        :param ids: The ids of the entries; by default all. An entry without an id has an empty one.
        """
        if ids is None and self._has_entry_without_id:
            yield "", ProtocolError("the execution has no id")
        for execution_id in self._entries if ids is None else ids:
            yield execution_id, self._parse(execution_id)

    def summaries(self, application_id: str, notebook_id: str) -> Sequence[Execution]:
        """
        Return the executions with the fields by which an owner finds its own, whatever the others contain.

        These are the id, the status, the template context, and the times of the queueing and the query. An
        entry without a valid id is left out.

        :param application_id: The application whose log this is.
        :param notebook_id: The notebook whose log this is.
        """
        if self._summaries is None:
            summaries = (_summary(entry, application_id, notebook_id) for entry in self._entries.values())
            self._summaries = [it for it in summaries if it is not None]
        return self._summaries

    def complete(self, summary: Execution) -> Execution:
        """Return an execution with all fields; the summary itself, if the other fields cannot be parsed."""
        try:
            return self.find(summary.ref.execution_id) or summary
        except ProtocolError:
            return summary

    def reaches_back_to(self, since: float) -> bool:
        """
        Tell whether the oldest entry is older than a time, so that none since then is cut off.

        Both times of the entry have to be older, the one in its id and that of its queueing, because an
        absurd timestamp of a single entry must not make a log look complete.

        :param since: Epoch seconds.
        """
        for entry in reversed(self._entries.values()):
            summary = _summary(entry, "", "")
            times = () if summary is None else (summary.queued_time, summary.ref.created_at)
            if times and min(times) > MIN_TIME:
                return max(times) < since
        return False

    def _parse(self, execution_id: str) -> Execution | ProtocolError:
        found = self._parsed.get(execution_id)
        if found is None:
            found = self._parsed[execution_id] = _parse(self._entries[execution_id])
        return found

    @property
    def _ended(self) -> Iterator[Execution]:
        return (it for _, it in self.parse() if isinstance(it, Execution) and it.status.is_final)

    @cached_property
    def _ends(self) -> tuple[Sequence[float], Sequence[Execution]]:
        """
        When each ended execution was queued, in order; and for each of these times, which ended first since.

        Hundreds of waits may ask that of one log.
        """
        ended = sorted(self._ended, key=attrgetter("queued_time"))
        first_since: list[Execution] = []
        first, first_end = None, (inf, inf)
        for execution in reversed(ended):
            # By the time of the end, so that the choice does not depend on when the log is polled.
            end = execution.last_event_time, execution.queued_time
            if first is None or end <= first_end:
                first, first_end = execution, end
            first_since.append(first)
        return [it.queued_time for it in ended], first_since[::-1]


def _execution_id(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return None
    found = execution_id_of(entry)
    return found.lower() if found and isinstance(found, str) else None


def _parse(entry: Mapping[str, Any]) -> Execution | ProtocolError:
    try:
        return Execution.from_api(entry)
    except SHAPE_ERRORS as error:
        return ProtocolError(f"an execution has an unknown shape: {type(error).__name__} {one_line(error)}")


def _summary(entry: Mapping[str, Any], application_id: str, notebook_id: str) -> Execution | None:
    try:
        execution_id = losant_id(_execution_id(entry), field="notebookExecutionId")
    except LosantError:
        return None
    status, context = entry.get("status"), entry.get("templateContext")
    return Execution(
        ref=ExecutionRef(application_id=application_id, notebook_id=notebook_id, execution_id=execution_id),
        status=Status.of(status) if isinstance(status, str) else UNREADABLE,
        relative_to=_timestamp(entry, "executionRelativeTo"),
        queued_at=_timestamp(entry, "runQueuedAt"),
        template_context=context if isinstance(context, str) else None,
        raw=entry,
    )


def _timestamp(entry: Mapping[str, Any], key: str) -> datetime | None:
    try:
        return timestamp_or_none(entry, key)
    except SHAPE_ERRORS:
        return None
