# SPDX-License-Identifier: Apache-2.0
"""After Airflow's execution_timeout, cancel_on_timeout decides; the task may wait or be deferred."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_losant._compat import AirflowTaskTimeout
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import NotebookWaitTimedOut
from airflow_provider_losant.execution.deadline import SIGNAL_MARGIN
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import TaskLog, cancels, operations
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.support.processes import wait_for

pytestmark = [
    pytest.mark.usefixtures("losant_connection"),
    # By a thread, because Airflow uses the signal by which pytest-timeout works otherwise.
    pytest.mark.timeout(60, method="thread"),
]

ALLOWED = timedelta(seconds=30)
SOON = 0.3
"""Seconds after the submission at which a waiting task's time is over here; then it is between two polls."""
SETTINGS = pytest.mark.parametrize(
    ("cancel_on_kill", "cancel_on_timeout"), [(True, True), (True, False), (False, True), (False, False)]
)
TRIES = pytest.mark.parametrize("max_tries", [0, 1], ids=["last try", "retry left"])


@pytest.fixture
def hanging(losant: Emulator, notebook: str) -> str:
    """Return a notebook whose executions do not end by themselves."""
    losant.script(notebook, Script(ending="hang"))
    return notebook


def run_as_airflow(operator: Any, ti: Ti) -> Any:
    """
    Execute a task within its execution_timeout, and call on_kill after it, as Airflow's task runner.

    The rest of its time is shortened as soon as it has published its execution.
    """
    push = ti.xcom_push

    def push_and_hurry(key: str, value: Any) -> None:
        push(key, value)
        if key == "losant_notebook_link":
            signal.setitimer(signal.ITIMER_REAL, SOON)

    ti.xcom_push = push_and_hurry  # type: ignore[method-assign]  # of this task instance only
    try:
        module = import_module("airflow.sdk.execution_time.timeout")
    except ImportError:  # before Airflow 3.1
        module = import_module("airflow.utils.timeout")
    try:
        with module.timeout(operator.execution_timeout.total_seconds()):
            return operator.execute(context_of(ti))
    except AirflowTaskTimeout:
        operator.on_kill()
        raise
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def task(notebook: str, ti: Ti, **options: Any) -> Task:
    given = {"poll_interval": 5, "execution_timeout": ALLOWED, **options}
    return Task(lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **given), ti)


@SETTINGS
@TRIES
@BOTH_MODES
def test_cancel_on_timeout_alone_decides_whether_the_execution_is_cancelled(
    losant: Emulator,
    hanging: str,
    *,
    deferrable: bool,
    max_tries: int,
    cancel_on_kill: bool,
    cancel_on_timeout: bool,
) -> None:
    settings = {"cancel_on_kill": cancel_on_kill, "cancel_on_timeout": cancel_on_timeout}
    options: dict[str, Any] = {"poll_interval": 0.02, "execution_timeout": timedelta(seconds=SOON)}
    options = options if deferrable else {}
    one = task(hanging, Ti(max_tries=max_tries), deferrable=deferrable, **settings, **options)

    if deferrable:
        with pytest.raises(NotebookWaitTimedOut, match=r"within execution_timeout \(0\.3 s\)"):
            one.run()
    else:
        with pytest.raises(AirflowTaskTimeout):
            run_as_airflow(one.make(), one.ti)

    (execution,) = losant.executions(hanging)
    assert execution["status"] == ("canceled" if cancel_on_timeout else "inProgress")
    assert cancels(losant) == cancel_on_timeout


@SETTINGS
def test_a_timeout_before_the_response_to_the_submission_is_decided_alike(
    losant: Emulator, hanging: str, *, cancel_on_kill: bool, cancel_on_timeout: bool
) -> None:
    losant.inject("notebook.execute", Fault("slow", seconds=5, processed=True))
    settings = {"cancel_on_kill": cancel_on_kill, "cancel_on_timeout": cancel_on_timeout}
    one = task(hanging, Ti(), execution_timeout=timedelta(seconds=2), **settings)

    with pytest.raises(AirflowTaskTimeout):
        run_as_airflow(one.make(), one.ti)

    (execution,) = losant.executions(hanging)
    assert execution["status"] == ("canceled" if cancel_on_timeout else "inProgress")
    assert cancels(losant) == cancel_on_timeout


def test_a_retry_reconnects_to_an_execution_that_a_timeout_has_left_running(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(notebook=1.5))
    first = task(notebook, Ti(max_tries=1), cancel_on_timeout=False)
    with pytest.raises(AirflowTaskTimeout):
        run_as_airflow(first.make(), first.ti)

    result = task(notebook, Ti(try_number=2, max_tries=1), poll_interval=0.02).run()

    assert [it["id"] for it in losant.executions(notebook)] == [result["execution_id"]]
    assert operations(losant).count("notebook.execute") == 1


def test_a_kill_during_the_wait_is_decided_by_cancel_on_kill(losant: Emulator, hanging: str) -> None:
    for cancel_on_kill in (False, True):
        operator = task(
            hanging, Ti(), execution_timeout=None, cancel_on_kill=cancel_on_kill, cancel_on_timeout=False
        ).make()
        timer = threading.Timer(0.5, operator.on_kill)
        timer.start()
        with pytest.raises(Exception, match="killed"):
            operator.execute(context_of(Ti()))
        timer.join()

    assert [it["status"] for it in losant.executions(hanging)] == ["canceled", "inProgress"]


def run_and_interrupt(losant: Emulator, operator: Any, handle: Callable[[], None]) -> None:
    """Run a task until a signal handler, which is called while it waits, has ended it."""

    def send() -> None:
        wait_for(lambda: "notebook.logs" in operations(losant), what="the wait", timeout=20, every=0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: handle())
    sender = threading.Thread(target=send)
    sender.start()
    try:
        operator.execute(context_of(Ti()))
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_timeout_of_a_task_that_was_killed_is_decided_by_cancel_on_kill(
    losant: Emulator, hanging: str
) -> None:
    operator = task(hanging, Ti(), cancel_on_kill=False, cancel_on_timeout=True, poll_interval=0.02).make()

    def kill_and_time_out() -> None:
        operator.on_kill()
        raise AirflowTaskTimeout("Timeout")

    with pytest.raises(AirflowTaskTimeout):
        run_and_interrupt(losant, operator, kill_and_time_out)

    assert cancels(losant) == 0


def test_a_kill_after_a_standstill_cancels_nothing_because_another_try_may_wait(
    losant: Emulator, hanging: str, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    for name in ("TASK_INSTANCE_HEARTBEAT_TIMEOUT", "SCHEDULER_ZOMBIE_TASK_THRESHOLD"):
        monkeypatch.setenv(f"AIRFLOW__SCHEDULER__{name}", "1")
    operator = task(hanging, Ti(), execution_timeout=None, poll_interval=0.02).make()

    def stand_still() -> None:
        time.sleep(1.1)
        operator.on_kill()

    with pytest.raises(AirflowException, match="killed"):
        run_and_interrupt(losant, operator, stand_still)

    assert cancels(losant) == 0
    assert re.search(r"Not cancelling the execution: this process stood still for \d+ s", task_log())


@SETTINGS
def test_a_deferred_task_passes_both_settings_to_its_trigger(
    hanging: str, *, cancel_on_kill: bool, cancel_on_timeout: bool
) -> None:
    settings = {"cancel_on_kill": cancel_on_kill, "cancel_on_timeout": cancel_on_timeout}

    with pytest.raises(TaskDeferred) as deferred:
        task(hanging, Ti(), deferrable=True, **settings).make().execute(context_of(Ti()))

    stored = deferred.value.trigger.serialize()[1]
    assert {name: stored[name] for name in settings} == settings


@pytest.mark.parametrize("cancel_on_timeout", [True, False])
def test_a_wait_in_a_worker_ends_also_when_the_exception_of_airflow_is_lost(
    losant: Emulator, hanging: str, *, cancel_on_timeout: bool
) -> None:
    """Python ignores an exception that a signal handler raises while a destructor is running."""
    began = datetime.now(UTC) - timedelta(seconds=SIGNAL_MARGIN + 1)
    operator = LosantNotebookExecuteOperator(
        task_id="report",
        notebook_id=hanging,
        poll_interval=0.05,
        execution_timeout=timedelta(seconds=2),
        cancel_on_timeout=cancel_on_timeout,
    )

    with pytest.raises(NotebookWaitTimedOut, match=r"within execution_timeout \(2 s\)"):
        operator.execute(context_of(Ti(start_date=began)))

    assert cancels(losant) == cancel_on_timeout
