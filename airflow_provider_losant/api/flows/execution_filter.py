# SPDX-License-Identifier: Apache-2.0
"""Choose executions by their status and their template context."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.execution_log import SLICE
from airflow_provider_losant.api.fields import is_same_json
from airflow_provider_losant.api.payloads import encode_context

if TYPE_CHECKING:
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.model import Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """
    Which of the executions that have ended are wanted.

    :param statuses: Names of final statuses; empty for any.
    :param context: What the template context has to contain; empty for any template context.
    """

    statuses: Collection[str]
    context: Mapping[str, Any]

    @classmethod
    def of(cls, statuses: Collection[str], context_contains: str | None) -> ExecutionFilter | None:
        """
        Make the filter of validated arguments; None if they exclude nothing.

        :param context_contains: A JSON object, as :func:`parse_context_contains` returns it.
        """
        context = json.loads(context_contains) if context_contains else {}
        return cls(statuses=statuses, context=context) if statuses or context else None

    def accepts(self, execution: Execution, log: ExecutionLog) -> bool:
        """
        Tell whether an execution is wanted.

        :param log: The response that lists it.
        """
        if self.statuses and execution.status.name not in self.statuses:
            return False
        if not self.context:
            return True
        try:
            return _contains(log.template_context(execution), self.context)
        except RecursionError:  # it is nested deeper than any template context that a person wrote
            return False


class FirstToEnd:
    """
    Search responses for the execution that ended first of those that a filter accepts.

    :param since: Epoch seconds since when it must have been queued.
    """

    def __init__(self, wanted: ExecutionFilter, since: float) -> None:
        self._filter = wanted
        self._since = since
        self._search: tuple[ExecutionLog, Iterator[Execution | None]] | None = None
        self._found: Execution | None = None

    def step(self, log: ExecutionLog) -> bool:
        """
        Search the next entries of a response that has been parsed; return whether the search is over.

        Each step is short, so that the event loop may do other work in between.
        """
        if self._search is None or self._search[0] is not log:
            self._search = log, self._find(log)
        for found in self._search[1]:
            if found is None:
                return False
            self._found = found
        self._search = None
        return True

    def take(self) -> Execution | None:
        """Return what the search has found, and forget it, because it belongs to one response."""
        found, self._found = self._found, None
        return found

    def _find(self, log: ExecutionLog) -> Iterator[Execution | None]:
        # The first None also lets hundreds of searches of one response follow each other in short steps.
        for number, (queued_time, execution) in enumerate(log.ended):
            if number % SLICE == 0:
                yield None
            if queued_time >= self._since and self._filter.accepts(execution, log):
                yield execution
                return


def parse_context_contains(value: Mapping[str, Any] | str | None) -> str | None:
    """
    Return an argument ``context_contains`` as JSON text; None if it is empty.

    :param value: A mapping, or the JSON text of an object.
    :raises InvalidArgument: it is neither.
    """
    text = encode_context(value, field="context_contains")
    return text if text and json.loads(text) else None


def _contains(found: Any, wanted: Any) -> bool:
    """Tell whether a value is the wanted one, or an object that has its keys with values that contain its."""
    if not isinstance(wanted, dict):
        return is_same_json(found, wanted)
    if not isinstance(found, dict):
        return False
    # A loop, because all() with a generator takes several times as long, for each entry and each wait.
    for key, value in wanted.items():  # noqa: SIM110 - as above
        if key not in found or not _contains(found[key], value):
            return False
    return True
