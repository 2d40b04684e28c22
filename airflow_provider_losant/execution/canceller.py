# SPDX-License-Identifier: Apache-2.0
"""Cancel a task's execution when the task ends before it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from airflow_provider_losant._compat import AirflowException, AirflowTaskTimeout
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.steps import Interrupted, LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.abandoned import Standstill
    from airflow_provider_losant.api.flows.cancel import CancelResult
    from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow, Log
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import ExecutionRef

KILL_BUDGET = 3.5
"""Seconds for a cancellation inside the signal handler; SIGKILL follows 5 s after SIGTERM."""
LOG_BUDGET = 0.5
"""Seconds for a log line inside the signal handler: the interrupted code may hold the lock of the log."""
FAILURE_BUDGET = 10.0
"""Seconds for a cancellation after a failure, which nothing interrupts."""
CANCEL_RETRIES = 3
CANCEL_PAUSE = 0.5
"""Seconds between two of them, because there is no time for the usual backoff."""


class Canceller:
    """
    Cancels the execution of one task: when it is killed, when its time is over, or after its last try.

    A kill is handled in a signal handler, which must not ask Airflow for anything, because the code that it
    interrupted may hold the lock of the connection to the supervisor. So everything that it needs is in
    memory by then, and it cancels over a connection of its own, in a thread that it waits for no longer than
    ``KILL_BUDGET``.

    If the response to the submission has not come, the execution's id is not known yet. The thread then
    searches the log for the owner's marker, because SIGKILL may come before the response.

    :param client: The client whose flows a kill interrupts.
    :param log: The task's log: a logger's ``log``.
    :param on_kill: Cancel when the task is killed, and when its last try fails.
    :param on_timeout: Cancel when Airflow's ``execution_timeout`` is over.
    :param max_log_lag: Seconds that Losant may lag behind a submission.
    :param standstill: Whether this process stood still, so that another one may wait for the execution now.
    """

    def __init__(
        self,
        client: Client,
        log: Log,
        *,
        on_kill: bool,
        on_timeout: bool,
        max_log_lag: float,
        standstill: Standstill,
    ) -> None:
        self._client = client
        self._log = log
        self._on_kill = on_kill
        self._on_timeout = on_timeout
        self._max_log_lag = max_log_lag
        self._standstill = standstill
        client.is_interrupted = self._is_interrupted
        self._is_killed = False
        self._is_over = False
        self._why: str | None = None
        """The reason for which everything is cancelled; None as long as nothing is."""
        self._search_until = 0.0
        self._tracked: list[ExecutionRef] = []
        self._submitting: ExecutionFinder | None = None
        # By execution id, who cancels it: a signal may interrupt a kill, and a response arrive during one.
        self._claims: dict[str, object] = {}
        self._results: dict[str, CancelResult] = {}
        self._threads: list[Thread] = []

    def track(self, ref: ExecutionRef) -> None:
        """Cancel this execution when the task ends before it, or at once if it was killed before."""
        self._tracked.append(ref)
        self._cancel(KILL_BUDGET)

    def release(self) -> None:
        """Cancel nothing any more: there is no execution, it has ended, or a trigger takes care of it."""
        self._tracked.clear()
        self._submitting = None

    def kill(self) -> None:
        """Interrupt the client's flow and cancel the execution; safe in a signal handler."""
        if self._is_over:  # after execution_timeout, Airflow calls the kill handler, too
            return
        self._is_killed = True
        if not self._on_kill:
            if self._tracked or self._submitting is not None:
                self._run(_write("Not cancelling the execution: cancel_on_kill=False"), LOG_BUDGET)
        elif self._standstill.is_recent:
            self._run(_explain_standstill(self._standstill.seconds), KILL_BUDGET)
        else:
            self._why = "its task was killed"
            self._cancel(KILL_BUDGET)

    def time_out(self) -> None:
        """Cancel the execution after Airflow's ``execution_timeout``."""
        if self._is_killed:
            return
        self._is_over = True
        if self._on_timeout:
            self._why = "the execution_timeout of its task is over"
            self._cancel(FAILURE_BUDGET)

    def give_up(self) -> str:
        """
        Cancel the execution after the last try has failed, because no retry will reconnect to it.

        The result is logged as well.

        :return: What came of it, for the message of the failure; empty if there is no execution.
        """
        if self._is_killed or self._is_over:
            return ""
        self._is_over = True
        if self._on_kill:
            self._why = "the last try of its task has failed"
            self._cancel(FAILURE_BUDGET)
        known = {ref.execution_id: "failed" for ref in self._tracked} | self._results
        fate = "; ".join(f"execution {name} {self._fate(result)}" for name, result in known.items())
        if self._submitting is not None and not known:
            fate = f"whether an execution of {self._submitting.submission} is active is unknown"
        if fate:
            self._log(logging.WARNING, "After the last try, %s", fate)
        return fate

    @contextmanager
    def interruptible(self, submitting: ExecutionFinder | None = None) -> Iterator[None]:
        """
        Run a block that a kill ends.

        :param submitting: The block submits an execution, which this finds when the task ends before its id
            is known.
        :raises AirflowException: the task was killed; what the block has started was cancelled.
        """
        self._submitting = submitting
        try:
            yield
        except AirflowTaskTimeout:
            self.time_out()
            raise
        except BaseException as stop:
            # Airflow 2 raises out of its signal handler; Airflow 3 continues the flow, which is interrupted.
            # Airflow may also raise while the handler waits, so what it has begun is finished here.
            self._cancel(KILL_BUDGET)
            if isinstance(stop, Interrupted):
                raise AirflowException("The task was killed") from None
            raise
        self._submitting = None
        if self._is_killed:
            raise AirflowException("The task was killed")

    def _is_interrupted(self) -> bool:
        self._standstill.note_progress()
        return self._is_killed

    def _cancel(self, budget: float) -> None:
        """Cancel the tracked execution, or else the one being submitted, unless that has been done."""
        if self._why is None:
            return
        self._join(self._search_until)
        unclaimed = tuple(ref for ref in self._tracked if ref.execution_id not in self._claims)
        finder = None if self._tracked or self._claims else self._submitting
        if not (unclaimed or finder):
            return
        if not self._search_until:
            self._search_until = time.monotonic() + budget
        self._run(self._find_and_cancel(unclaimed, finder, self._why), budget)

    def _run(self, flow: Flow[None], budget: float) -> None:
        client = self._client.copy(timeout=budget / 2)
        thread = Thread(target=client.run, args=(flow,), daemon=True)
        self._threads.append(thread)
        thread.start()
        self._join(time.monotonic() + budget)

    def _join(self, until: float) -> None:
        for thread in list(self._threads):
            if thread.ident is not None:  # a signal may arrive before another kill has started its thread
                thread.join(max(0.0, until - time.monotonic()))

    def _find_and_cancel(
        self, refs: Sequence[ExecutionRef], finder: ExecutionFinder | None, why: str
    ) -> Flow[None]:
        if finder is not None:
            refs = yield from finder.find_active(max(0.0, self._search_until - time.monotonic()))
        for ref in refs:
            claim = object()
            # setdefault() is atomic, so of several threads one cancels.
            if self._claims.setdefault(ref.execution_id, claim) is not claim:
                continue
            result = yield from cancel(
                ref, why, max_log_lag=self._max_log_lag, retries=CANCEL_RETRIES, jitter=_short_pause
            )
            self._results[ref.execution_id] = result
            if result == "failed":
                self._claims.pop(ref.execution_id, None)

    def _fate(self, result: str) -> str:
        if result == "failed":
            reason = "could not be cancelled" if self._on_kill else "was not cancelled (cancel_on_kill=False)"
            return f"{reason} and may still use run minutes"
        return "was cancelled, because no retry is left" if result == "requested" else "has ended"


def _write(text: str) -> Flow[None]:
    yield LogLine(text)


def _explain_standstill(seconds: float) -> Flow[None]:
    yield LogLine(
        f"Not cancelling the execution: this process stood still for {seconds:.0f} s, so another try of the "
        "task may be waiting for it",
        logging.WARNING,
    )


def _short_pause(_: float, most: float) -> float:
    return min(CANCEL_PAUSE, most)
