# SPDX-License-Identifier: Apache-2.0
"""
A task that is killed while Losant has not responded to its submission.

Airflow 2 raises in its signal handler, at any point of the running code. Airflow 3 only calls ``on_kill``,
after which the interrupted code waits for the response again, until SIGKILL ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_losant._compat import AirflowTaskTimeout
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.execution.canceller import KILL_BUDGET
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import TaskLog, operations, set_connection
from tests.provider.tasks import Ti, context_of
from tests.support.network import Network
from tests.support.processes import wait_for

CANCEL, LOGS, EXECUTE = "notebook.cancelExecution", "notebook.logs", "notebook.execute"
SILENCE = 1.0
"""Seconds without a response after which a request times out, so that a test does not wait for SIGKILL."""

BOTH_AIRFLOWS = pytest.mark.parametrize("raises", [False, True], ids=["Airflow 3", "Airflow 2"])


class Terminated(BaseException):
    """What the signal handler of Airflow 2 raises."""


@pytest.fixture(autouse=True)
def endless(losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let executions run until they are cancelled, and Losant start one but not respond."""
    set_connection(monkeypatch, losant, extra={"timeout": SILENCE})
    losant.script(notebook, Script(ending="hang"))
    losant.inject(EXECUTE, Fault("hang", seconds=20, processed=True))


def set_slow_response(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, seconds: float, *, processed: bool = True
) -> None:
    """Let the response to the submission be late, but not so late that the request times out."""
    set_connection(monkeypatch, losant, extra={"timeout": 10.0})
    losant.clear_faults()
    losant.inject(EXECUTE, Fault("slow", seconds=seconds, processed=processed))


def operator(notebook: str, **options: Any) -> LosantNotebookExecuteOperator:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return LosantNotebookExecuteOperator(**given)


@dataclass
class Kills:
    """The epoch seconds at which signals arrived, and those at which ``on_kill`` returned."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """The seconds that the longest call of ``on_kill`` took."""
        return max(end - begin for begin, end in zip(sorted(self.began), sorted(self.ended), strict=True))


def run_and_kill(
    task: LosantNotebookExecuteOperator, when: Callable[[], Any], *, raises: bool, signals: int = 1
) -> Kills:
    """
    Run a task, and kill it when a condition is true.

    :param raises: The signal handler raises, as that of Airflow 2.
    :param signals: How many signals, half a second apart.
    """
    kills = Kills()

    def on_signal(*_: object) -> None:
        kills.began.append(time.time())
        try:
            task.on_kill()
        finally:
            kills.ended.append(time.time())
        if raises:
            raise Terminated

    def send() -> None:
        for _ in range(500):
            if when():
                break
            time.sleep(0.02)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.5)

    before = signal.signal(signal.SIGUSR1, on_signal)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises((Terminated, AirflowException)):
            task.execute(context_of(Ti()))
    finally:
        while sender.is_alive():
            with contextlib.suppress(Terminated):
                sender.join()
        signal.signal(signal.SIGUSR1, before)
    return kills


def assert_cancelled_once(losant: Emulator, notebook: str, *, cancels: int = 1) -> None:
    assert [it["status"] for it in losant.executions(notebook)] == ["canceled"]
    assert operations(losant).count(CANCEL) == cancels
    assert operations(losant).count(EXECUTE) == 1


def assert_cancelled_by_the_kill(losant: Emulator, notebook: str, kills: Kills, *, cancels: int = 1) -> None:
    """Check that the execution was cancelled once, and before ``on_kill`` returned within its budget."""
    assert_cancelled_once(losant, notebook, cancels=cancels)
    last = [it.at for it in losant.requests if it.operation == CANCEL][-1]
    assert last <= kills.ended[0]
    assert kills.longest < KILL_BUDGET


@BOTH_AIRFLOWS
def test_a_kill_uses_the_proxy_and_the_certificates_that_the_task_has_read(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, *, raises: bool
) -> None:
    def is_submitted() -> bool:
        if EXECUTE not in operations(losant):
            return False
        network.bundle.unlink(missing_ok=True)
        for name in network.environment:
            monkeypatch.delenv(name, raising=False)
        return True

    with Network(losant.url, "tls through proxy") as network:
        for name, value in network.environment.items():
            monkeypatch.setenv(name, value)
        set_connection(monkeypatch, losant, host=network.base_url, extra={"timeout": SILENCE})
        kills = run_and_kill(operator(notebook), is_submitted, raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills)


@BOTH_AIRFLOWS
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferrable"])
def test_a_kill_finds_and_cancels_the_execution_before_the_response_comes(
    losant: Emulator, notebook: str, *, deferrable: bool, raises: bool
) -> None:
    task = operator(notebook, deferrable=deferrable)

    kills = run_and_kill(task, lambda: losant.executions(notebook), raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills)


@BOTH_AIRFLOWS
@pytest.mark.parametrize(
    "fault",
    [
        Fault("server_error"),
        Fault("html"),
        Fault("html", status=200),
        Fault("reset_before"),
        Fault("truncated"),
        Fault("hang", seconds=10),
    ],
    ids=lambda it: f"{it.kind} {it.status or ''}",
)
def test_a_search_that_fails_is_followed_by_another(
    losant: Emulator, notebook: str, *, fault: Fault, raises: bool
) -> None:
    losant.inject(LOGS, fault)

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills)


@BOTH_AIRFLOWS
def test_a_log_that_lags_is_searched_until_it_lists_the_execution(
    losant: Emulator, notebook: str, *, raises: bool
) -> None:
    losant.switches.listing_lag = 1.5

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills)


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_kill_before_the_connection_is_known_submits_nothing(
    losant: Emulator, notebook: str, *, cancel_on_kill: bool
) -> None:
    task = operator(notebook, cancel_on_kill=cancel_on_kill)
    task.on_kill()

    with pytest.raises(AirflowException, match="The task was killed"):
        task.execute(context_of(Ti()))

    # A retry also searches the log, for an execution of an earlier try.
    assert set(operations(losant)) == ({LOGS} if cancel_on_kill else set())


@BOTH_AIRFLOWS
def test_an_execution_that_can_only_be_cancelled_later_is_cancelled_again(
    losant: Emulator, notebook: str, *, raises: bool
) -> None:
    losant.switches.cancel_lag = 0.7

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills, cancels=2)


@BOTH_AIRFLOWS
@pytest.mark.parametrize("fault", [Fault("html"), Fault("server_error"), Fault("reset_before")], ids=repr)
def test_a_cancel_that_fails_once_is_repeated(
    losant: Emulator, notebook: str, *, fault: Fault, raises: bool
) -> None:
    losant.inject(CANCEL, fault)

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=raises)

    assert_cancelled_by_the_kill(losant, notebook, kills, cancels=2)


@BOTH_AIRFLOWS
@pytest.mark.parametrize("slow", [None, CANCEL, LOGS], ids=["fast", "slow cancel", "slow search"])
def test_two_kills_cancel_once(losant: Emulator, notebook: str, *, slow: str | None, raises: bool) -> None:
    """The second signal interrupts the handler of the first, if that is still waiting for Losant."""
    if slow:
        losant.inject(slow, Fault("slow", seconds=1.2))

    run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=raises, signals=2)

    assert_cancelled_once(losant, notebook)


def test_a_submission_that_losant_processes_only_after_the_kill_is_cancelled_once(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_slow_response(losant, monkeypatch, 1.5, processed=False)

    kills = run_and_kill(operator(notebook), lambda: EXECUTE in operations(losant), raises=False)

    assert_cancelled_by_the_kill(losant, notebook, kills)


@pytest.mark.parametrize("seconds", [2.5, 3.8], ids=["during the kill", "after the kill"])
def test_when_the_search_finds_nothing_the_response_leads_to_the_cancel(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    set_slow_response(losant, monkeypatch, seconds)
    losant.switches.listing_lag = 60.0

    run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=False)

    assert_cancelled_once(losant, notebook)


def test_a_response_that_arrives_while_a_search_hangs_leads_to_the_cancel(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_slow_response(losant, monkeypatch, 3.7)
    losant.inject(LOGS, Fault("hang", seconds=10), times=10)

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=False)

    assert_cancelled_once(losant, notebook)
    (cancelled,) = [it for it in losant.requests if it.operation == CANCEL]
    assert cancelled.at - kills.began[0] < 5.0  # when SIGKILL comes


def test_a_search_that_ends_after_the_response_does_not_cancel_again(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_slow_response(losant, monkeypatch, KILL_BUDGET + 0.1)
    losant.switches.listing_lag = 1.0
    losant.inject(LOGS, Fault("slow", seconds=KILL_BUDGET / 2 - 0.1, processed=True), times=2)

    run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=False)

    assert_cancelled_once(losant, notebook)


# By a thread, because Airflow uses the signal by which pytest-timeout works otherwise.
@pytest.mark.timeout(120, method="thread")
def test_an_execution_timeout_during_the_submission_cancels_once(losant: Emulator, notebook: str) -> None:
    """Airflow raises in the submission, and calls ``on_kill`` afterwards."""
    losant.switches.listing_lag = 1.0
    task = operator(notebook, execution_timeout=timedelta(seconds=30))

    def on_alarm(*_: object) -> None:
        raise AirflowTaskTimeout("Timeout")

    def send() -> None:
        wait_for(lambda: losant.executions(notebook), what="the submission", timeout=20)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, on_alarm)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(AirflowTaskTimeout):
            task.execute(context_of(Ti()))
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)
    task.on_kill()

    assert_cancelled_once(losant, notebook)


@BOTH_AIRFLOWS
@pytest.mark.parametrize(
    "options", [{"cancel_on_kill": False}, {"durable": False}], ids=["cancel_on_kill=False", "no marker"]
)
def test_a_kill_that_may_not_cancel_or_cannot_find_anything_searches_for_nothing(
    losant: Emulator, notebook: str, task_log: TaskLog, *, options: dict[str, Any], raises: bool
) -> None:
    run_and_kill(operator(notebook, **options), lambda: losant.executions(notebook), raises=raises)

    assert operations(losant) == [EXECUTE]
    is_left = "Not cancelling the execution: cancel_on_kill=False" in task_log()
    assert is_left == ("cancel_on_kill" in options)


def test_a_kill_that_cannot_read_the_log_says_that_the_execution_may_be_active(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    losant.inject(LOGS, Fault("server_error"), times=100)

    kills = run_and_kill(operator(notebook), lambda: losant.executions(notebook), raises=True)

    assert kills.longest < KILL_BUDGET + 1.0
    assert "whether an execution of notebook" in task_log()


def test_a_kill_does_not_cancel_the_execution_of_another_task(losant: Emulator, notebook: str) -> None:
    losant.clear_faults()
    operator(notebook, wait_for_completion=False).execute(context_of(Ti(task_id="other")))
    losant.inject(EXECUTE, Fault("hang", seconds=20, processed=True))

    run_and_kill(operator(notebook), lambda: len(losant.executions(notebook)) > 1, raises=True)

    assert [it["status"] for it in losant.executions(notebook)] == ["canceled", "inProgress"]


def test_a_second_kill_while_the_first_starts_to_cancel_does_not_stop_it(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may arrive between any two steps of the handler of another one."""
    set_slow_response(losant, monkeypatch, 0.5)
    task = operator(notebook)

    class InterruptedThread(threading.Thread):
        def start(self) -> None:
            monkeypatch.undo()
            task.on_kill()
            super().start()

    threading.Timer(0.2, task.on_kill).start()
    monkeypatch.setattr("airflow_provider_losant.execution.canceller.Thread", InterruptedThread)
    with pytest.raises(AirflowException, match="killed"):
        task.execute(context_of(Ti()))

    assert [it["status"] for it in losant.executions(notebook)] == ["canceled"]
    assert operations(losant).count(CANCEL) == 1
