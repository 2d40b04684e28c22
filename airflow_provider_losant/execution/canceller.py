# SPDX-License-Identifier: Apache-2.0
"""Cancel a task's execution when the task is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from airflow_provider_losant._compat import AirflowException, AirflowTaskTimeout
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.steps import Interrupted

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow, Log
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import ExecutionRef

KILL_BUDGET = 3.5
"""Seconds for a cancellation inside the signal handler; SIGKILL follows 5 s after SIGTERM."""
CANCEL_RETRIES = 3
CANCEL_PAUSE = 0.5
"""Seconds between two of them, because there is no time for the usual backoff."""


class Canceller:
    """
    Cancels the execution of one task from a signal handler.

    The handler must not ask Airflow for anything, because the code that it interrupted may hold the lock of
    the connection to the supervisor. So everything that it needs is in memory by then, and it cancels over a
    connection of its own, in a thread that it waits for no longer than ``KILL_BUDGET``.

    If the response to the submission has not come, the execution's id is not known yet. The thread then
    searches the log for the owner's marker, because SIGKILL may come before the response.

    :param client: The client whose flows a kill interrupts.
    :param log: The task's log: a logger's ``log``.
    :param may_cancel: Whether a kill cancels the execution.
    :param max_log_lag: Seconds that Losant may lag behind a submission.
    """

    def __init__(self, client: Client, log: Log, *, may_cancel: bool, max_log_lag: float) -> None:
        self._client = client
        self._log = log
        self._may_cancel = may_cancel
        self._max_log_lag = max_log_lag
        self._is_killed = False
        self._search_until = 0.0
        self._tracked: list[ExecutionRef] = []
        self._submitting: ExecutionFinder | None = None
        # By execution id, who cancels it: a signal may interrupt a kill, and a response arrive during one.
        self._claims: dict[str, object] = {}
        self._threads: list[Thread] = []

    def track(self, ref: ExecutionRef) -> None:
        """Cancel this execution when the task is killed, or at once if it was killed before."""
        self._tracked.append(ref)
        if self._is_killed:
            self._cancel()

    def release(self) -> None:
        """Cancel nothing any more: a trigger takes care of the execution now, or it has ended."""
        self._tracked.clear()

    def kill(self) -> None:
        """Interrupt the client's flow and cancel the execution; safe in a signal handler."""
        self._is_killed = True
        self._client.is_interrupted = True
        self._search_until = time.monotonic() + KILL_BUDGET
        self._cancel()

    @contextmanager
    def interruptible(self, submitting: ExecutionFinder | None = None) -> Iterator[None]:
        """
        Run a block that a kill ends.

        :param submitting: The block submits an execution, which this finds when the kill comes before its id.
        :raises AirflowException: the task was killed; what the block has started was cancelled.
        """
        self._submitting = submitting
        try:
            yield
        except BaseException as stop:
            # Airflow 2 raises out of its signal handler; Airflow 3 continues the flow, which is interrupted.
            # Airflow may also raise while the handler waits, so what it has begun is finished here.
            if not self._is_killed and isinstance(stop, AirflowTaskTimeout):
                self._search_until = time.monotonic() + KILL_BUDGET
            if self._is_killed or (submitting is not None and isinstance(stop, AirflowTaskTimeout)):
                self._cancel()
            if isinstance(stop, Interrupted):
                raise AirflowException("The task was killed") from None
            raise
        finally:
            self._submitting = None
        if self._is_killed:
            raise AirflowException("The task was killed")

    def _cancel(self) -> None:
        """Cancel the tracked execution, or else the one being submitted, unless that has been done."""
        if not self._may_cancel:
            return
        self._join(self._search_until)
        unclaimed = tuple(ref for ref in self._tracked if ref.execution_id not in self._claims)
        finder = None if self._tracked or self._claims else self._submitting
        if not (unclaimed or finder):
            return
        client = self._client.copy(timeout=KILL_BUDGET / 2)
        flow = self._find_and_cancel(unclaimed, finder)
        thread = Thread(target=client.run, args=(flow,), daemon=True)
        self._threads.append(thread)
        thread.start()
        self._join(time.monotonic() + KILL_BUDGET)

    def _join(self, until: float) -> None:
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def _find_and_cancel(self, refs: Sequence[ExecutionRef], finder: ExecutionFinder | None) -> Flow[None]:
        if finder is not None:
            refs = yield from finder.find_active(max(0.0, self._search_until - time.monotonic()))
        for ref in refs:
            claim = object()
            # setdefault() is atomic, so of several threads one cancels.
            if self._claims.setdefault(ref.execution_id, claim) is not claim:
                continue
            result = yield from cancel(
                ref,
                "its task was killed",
                max_log_lag=self._max_log_lag,
                retries=CANCEL_RETRIES,
                jitter=_short_pause,
            )
            if result == "failed":
                self._claims.pop(ref.execution_id, None)


def _short_pause(_: float, most: float) -> float:
    return min(CANCEL_PAUSE, most)
