# SPDX-License-Identifier: Apache-2.0
"""
Read a notebook's execution log, and tell whether it was read to its end.

This module decides ``limit`` and ``since`` of every request for the log. Losant returns the newest entries
and has no paging, and it documents neither a maximum of ``limit`` nor which timestamp it compares with
``since``. So a response may hide an execution, and "there is none" follows only from a complete log.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import BadRequest, LogIncomplete, ResponseTooLarge
from airflow_provider_losant.api.flows.retry import Jitter, call_with_retry
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.execution_log import ExecutionLog
    from airflow_provider_losant.api.flows.steps import Flow

FIRST_LIMIT = 20
"""Entries to request where the execution is probably among the newest."""
SEARCH_LIMIT = 100
"""Entries to request where several executions are searched for."""
LIMIT_GROWTH = 8
MAX_LIMIT = 10_000
"""The longest log that is requested: ended executions stay in it, so it only gets longer."""
ROUND_LIMITS = (20, 50, 100, 200, 250, 500, 1_000, 2_000, 2_500, 5_000)
"""What a maximum of Losant's may be: limits to try when one is refused."""
SMALLEST_CAP = 50
"""Entries from which on a response of a round size may be cut; a shorter log has such a size too often."""
SINCE_MARGIN = 300.0
"""Seconds; Losant does not document which timestamp it compares with ``since``, nor by which clock."""
WHOLE_LOG = 0.0
"""The ``since`` of a request without one."""


class LogLimit:
    """
    The ``limit`` of the next request, and what the responses so far have shown.

    It grows while a full response may hide something, shrinks when Losant refuses it or the response is too
    large, and remembers what Losant accepts.

    :param first: The limit of the first request.
    """

    def __init__(self, first: int = FIRST_LIMIT) -> None:
        self._first = first
        self._wanted = self._current = first
        self._max = MAX_LIMIT
        self._most_entries = 0
        self._full_sizes: set[int] = set()

    def next_limit(self, at_least: int = 0) -> int:
        """
        Return the limit of the next request.

        :param at_least: The entries that the response has to hold.
        """
        self._wanted = max(self._wanted, at_least)
        self._current = min(self._wanted, self._max)
        return self._current

    def is_full(self, size: int) -> bool:
        """
        Tell whether a response has as many entries as were requested, and remember how many it has.

        :param size: The number of its entries.
        """
        self._most_entries = max(self._most_entries, size)
        if size < self._current:
            return False
        self._full_sizes.add(size)
        return True

    def may_be_capped(self, size: int) -> bool:
        """
        Tell whether Losant may return no more entries than a response had, whatever the limit.

        It may if the response has as many as an earlier full one, or a round number of entries, and no
        response has had more.

        :param size: The number of its entries.
        """
        is_round = size >= SMALLEST_CAP and size in ROUND_LIMITS
        return size >= self._most_entries and (is_round or size in self._full_sizes)

    def grow(self) -> bool:
        """Raise the limit; return whether the next request has a higher one."""
        if self._current >= self._max:
            return False
        self._wanted = self._current * LIMIT_GROWTH
        return True

    def reset(self) -> None:
        """Return to the first limit."""
        self._wanted = self._first

    def shrink(self, error: LosantError) -> bool:
        """
        Lower the limit if it may be the cause of an error; return whether a request with it is worthwhile.

        Losant documents no maximum, so the limit may be higher than it allows, or than can be read.
        """
        if not isinstance(error, BadRequest | ResponseTooLarge):
            return False
        lower = max((it for it in ROUND_LIMITS if it < self._current), default=None)
        # No limit helped, so it is not the cause, and a later request may have any again.
        self._max = MAX_LIMIT if lower is None else lower
        return lower is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReading:
    """
    What was read of a notebook's execution log.

    :param log: The longest response.
    :param is_complete: It holds all executions since the wanted time.
    :param problem: What is missing, for a message; empty if it is complete.
    """

    log: ExecutionLog
    is_complete: bool
    problem: str = ""

    def check_complete(self) -> None:
        """
        Do nothing if the log is complete.

        :raises LogIncomplete: it is not, so it does not show whether there is an execution.
        """
        if not self.is_complete:
            raise LogIncomplete(self.problem)


def read_log(
    application_id: str,
    notebook_id: str,
    *,
    back_to: float,
    limit: LogLimit,
    since: float | None = None,
    needed_from: float | None = None,
    is_enough: Callable[[ExecutionLog], bool] | None = None,
    give_up_when: Callable[[], bool] | None = None,
    retries: int = 0,
    jitter: Jitter = random.uniform,
) -> Flow[LogReading]:
    """
    Read a notebook's log with growing limits, until it reaches back far enough.

    :param back_to: Epoch seconds back to which executions are wanted.
    :param limit: Decides the limits; use one for all readings of a flow, as it learns what Losant accepts.
    :param since: Epoch seconds from which on Losant is asked for entries: by default ``back_to``;
        :data:`WHOLE_LOG` for a request without ``since``.
    :param needed_from: Epoch seconds from which on an execution must not be missing; by default ``back_to``.
        Where Losant may have more entries, the log counts as complete if it reaches back so far.
    :param is_enough: Read no further if this is true of a response.
    :param give_up_when: Read no further if this is true after a response.
    :param retries: How often a failed request is retried.
    """
    since = back_to if since is None else since
    while True:
        call = endpoints.execution_logs(application_id, notebook_id, limit=limit.next_limit(), since=since)
        try:
            log = yield from call_with_retry(call, retries, jitter)
        except (BadRequest, ResponseTooLarge) as error:
            if not limit.shrink(error):
                raise
            continue
        is_full = limit.is_full(len(log))
        if log.reaches_back_to(back_to) or (is_enough is not None and is_enough(log)):
            return LogReading(log=log, is_complete=True)
        if not is_full and not limit.may_be_capped(len(log)):
            return LogReading(log=log, is_complete=True)
        if not is_full or (give_up_when is not None and give_up_when()) or not limit.grow():
            needed_from = back_to if needed_from is None else needed_from
            if log.reaches_back_to(needed_from):
                return LogReading(log=log, is_complete=True)
            return LogReading(log=log, is_complete=False, problem=_problem(notebook_id, log, needed_from))


def _problem(notebook_id: str, log: ExecutionLog, back_to: float) -> str:
    start = "its beginning" if back_to == -inf else format_timestamp(datetime.fromtimestamp(back_to, UTC))
    return (
        f"The execution log of notebook {notebook_id} could not be read back to {start}: "
        f"Losant returned only its latest {len(log):,} entries"
    )
