# SPDX-License-Identifier: Apache-2.0
"""Cancel a task's execution when the task is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowException, AirflowTaskTimeout
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.steps import Interrupted

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow, Log
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.api.settings import Settings

KILL_BUDGET = 3.5
"""Seconds for a cancellation inside the signal handler; SIGKILL follows 5 s after SIGTERM."""
CANCEL_RETRIES = 3
CANCEL_PAUSE = 0.5
"""Seconds between two of them, because there is no time for the usual backoff."""
WHY = "its task was killed"


class Canceller:
    """
    Cancels the execution of one task from a signal handler.

    The handler must not ask Airflow for anything, because the code that it interrupted may hold the lock of
    the connection to the supervisor. So everything that it needs is in memory by then, and it cancels over a
    connection of its own, in a thread that it waits for no longer than ``KILL_BUDGET``.

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
        # A list, since pop() gives the execution to one of two callers, even if one interrupts the other.
        self._tracked: list[ExecutionRef] = []

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
        self._cancel()

    @contextmanager
    def interruptible(self, submitting: ExecutionFinder | None = None) -> Iterator[None]:
        """
        Run a block that a kill ends.

        :param submitting: The block submits an execution, which this finds when the kill comes before its id.
        :raises AirflowException: the task was killed; what the block has started was cancelled.
        """
        try:
            yield
        except BaseException as stop:
            # Airflow 2 raises out of its signal handler; Airflow 3 continues the flow, which is interrupted.
            if submitting is not None and (self._is_killed or isinstance(stop, AirflowTaskTimeout)):
                self._within_budget(submitting.cancel_lost())
            if isinstance(stop, Interrupted):
                raise AirflowException("The task was killed") from None
            raise
        if self._is_killed:
            raise AirflowException("The task was killed")

    def _cancel(self) -> None:
        try:
            ref = self._tracked.pop()
        except IndexError:
            return
        self._within_budget(
            cancel(ref, WHY, max_log_lag=self._max_log_lag, retries=CANCEL_RETRIES, jitter=_short_pause)
        )

    def _within_budget(self, flow: Flow[Any]) -> None:
        """Carry out a flow in the little time that a kill leaves."""
        if not self._may_cancel:
            return
        settings = replace(self._client.settings, timeout=KILL_BUDGET / 2)
        thread = Thread(target=_run_alone, args=(settings, self._log, flow), daemon=True)
        thread.start()
        thread.join(KILL_BUDGET)


def _short_pause(_: float, most: float) -> float:
    return min(CANCEL_PAUSE, most)


def _run_alone(settings: Settings, log: Log, flow: Flow[Any]) -> None:
    from airflow_provider_losant.api.http.client import Client

    Client(settings, log).run(flow)
