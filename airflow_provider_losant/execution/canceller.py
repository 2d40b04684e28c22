# SPDX-License-Identifier: Apache-2.0
"""What a task holds its run by, so that a kill stops the run and not only the task."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_losant._compat import AirflowException, AirflowTaskTimeout
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.api.flows.steps import FileFlow, Flow, Interrupted
from airflow_provider_losant.api.flows.submission import Started
from airflow_provider_losant.api.flows.submit import submit_once

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.flows.steps import Log
    from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")

KILL_BUDGET = 3.5
"""Seconds for a cancel inside the signal handler; SIGKILL follows 5 s after SIGTERM."""


class Canceller:
    """
    The run of one task, within reach of a signal handler.

    In there nothing may be asked of Airflow (its channel to the supervisor may be held by the very code
    that was interrupted), so all it takes is in memory by then, and the cancel has a connection of its own,
    in a thread that is not waited for longer than ``KILL_BUDGET``.

    :param may_cancel: Whether a kill cancels.
    """

    def __init__(self, *, may_cancel: bool) -> None:
        self._may_cancel = may_cancel
        self._is_killed = False
        self._client: Client | None = None
        self._log: Log | None = None
        # A list, since pop() hands the run to exactly one of two takers, even when one interrupts the other.
        self._running: list[ExecutionRef] = []

    def attach(self, client: Client, log: Log) -> None:
        """Get hold of what a kill will need."""
        self._client, self._log = client, log
        self._running.clear()
        client.is_interrupted = self._is_killed

    def track(self, ref: ExecutionRef) -> None:
        """Take responsibility for a run; when the kill has come before, this is where it takes effect."""
        self._running.append(ref)
        self._check()

    def release(self) -> None:
        """Leave the run to somebody else: a trigger, or nobody."""
        self._running.clear()

    def start(
        self,
        client: Client,
        submission: Submission,
        policy: SubmitPolicy,
        *,
        start_policy: StartPolicy | None,
        is_retry: bool,
    ) -> Started | Blocked:
        """
        Start the order's run and hold it, unless it is somebody else's.

        :raises AirflowException: the task was killed; what had begun was stopped.
        """
        try:
            started = client.run(
                submit_once(submission, policy, start_policy=start_policy, is_retry=is_retry)
            )
        except BaseException as stop:
            # Airflow 2 raises out of its signal handler; Airflow 3 lets the flow go on, which then halts.
            if self._is_killed or isinstance(stop, AirflowTaskTimeout):
                self._within_budget(ExecutionFinder(submission=submission, policy=policy).cancel_lost())
            if isinstance(stop, Interrupted):
                raise AirflowException(f"Killed before Losant had named the run of {submission}") from None
            raise
        if isinstance(started, Started) and started.is_owned:
            self.track(started.ref)
        return started

    def run(self, client: Client, flow: Flow[T] | FileFlow[T]) -> T:
        """
        Carry a flow out while the run is held.

        :raises AirflowException: the task was killed meanwhile; the result is not worth having any more.
        """
        try:
            answer = client.run(flow)
        except Interrupted:
            raise AirflowException("Killed") from None
        self._check()
        return answer

    def kill(self) -> None:
        """Stop the run and whatever flow is under way; fit for a signal handler."""
        self._is_killed = True
        if self._client is not None:
            self._client.is_interrupted = True
        self._cancel()

    def _check(self) -> None:
        if self._is_killed:
            self._cancel()
            raise AirflowException("Killed")

    def _cancel(self) -> None:
        try:
            ref = self._running.pop()
        except IndexError:
            return
        self._within_budget(cancel(ref, "its task was killed"))

    def _within_budget(self, flow: Flow[Any]) -> None:
        """Carry out a flow in the little time a kill leaves."""
        if not self._may_cancel or self._client is None or self._log is None:
            return
        settings = replace(self._client.settings, timeout=KILL_BUDGET / 2)
        thread = Thread(target=_run_alone, args=(settings, self._log, flow), daemon=True)
        thread.start()
        thread.join(KILL_BUDGET)


def _run_alone(settings: Settings, log: Log, flow: Flow[Any]) -> None:
    from airflow_provider_losant.api.http.client import Client

    Client(settings, log).run(flow)
