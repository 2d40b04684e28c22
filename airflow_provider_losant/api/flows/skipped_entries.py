# SPDX-License-Identifier: Apache-2.0
"""Skip the entries of an execution log that cannot be parsed, and log each once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import ProtocolError
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Execution

MAX_REPORTED = 20
"""Entries of one log that get a line each: a log may list thousands, and hundreds of tasks may wait."""


class SkippedEntries:
    """
    The entries of a notebook's log that were skipped: one of an unknown shape must not hide the others.

    :param notebook_id: The notebook, for the log lines.
    """

    def __init__(self, notebook_id: str) -> None:
        self._notebook_id = notebook_id
        self._reported: set[str] = set()
        self._logs: list[LogLine] = []

    @property
    def has_logs(self) -> bool:
        """Whether an entry has been skipped since the lines were drained."""
        return bool(self._logs)

    def readable(self, log: ExecutionLog, ids: Iterable[str] | None = None) -> Iterator[Execution]:
        """
        Yield the executions that can be parsed.

        :param ids: The ids of those that are wanted; by default all.
        """
        self._forget(log)
        for execution_id, found in log.parse(ids):
            if isinstance(found, ProtocolError):
                self._report(execution_id, found)
            else:
                yield found

    def report(self, log: ExecutionLog) -> None:
        """Report the executions that cannot be parsed."""
        self._forget(log)
        for execution_id, error in log.unreadable:
            self._report(execution_id, error)

    def drain_logs(self) -> Sequence[LogLine]:
        """Return the lines for the log that have come up since the last call."""
        lines, self._logs = self._logs, []
        return lines

    def _forget(self, log: ExecutionLog) -> None:
        """Forget what is no longer listed, so that this does not grow for ever."""
        self._reported = {it for it in self._reported if not it or it in log}

    def _report(self, execution_id: str, error: ProtocolError) -> None:
        if execution_id in self._reported or len(self._reported) > MAX_REPORTED:
            return
        self._reported.add(execution_id)
        if len(self._reported) > MAX_REPORTED:
            text = f"Ignoring further executions of notebook {self._notebook_id} without a line for each"
        else:
            name = one_line(execution_id) or "without an id"
            text = f"Ignoring execution {name} of notebook {self._notebook_id}: {error}"
        self._logs.append(LogLine(text, logging.WARNING))


def read_executions(call: Call[ExecutionLog], notebook_id: str, retries: int) -> Flow[list[Execution]]:
    """Return the executions in a response with a log; those that cannot be parsed are only logged."""
    log: ExecutionLog = yield from call_with_retry(call, retries)
    skipped = SkippedEntries(notebook_id)
    executions = list(skipped.readable(log))
    yield from skipped.drain_logs()
    return executions
