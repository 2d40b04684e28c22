# SPDX-License-Identifier: Apache-2.0
"""What a task log says during a long wait, after an outage, and after a clear or a mark, in both modes."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from airflow_provider_losant.api.flows.polling import wait_for_execution
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.triggers.event_stream import Subscription, completions
from tests.provider.conftest import TaskLog, cancels
from tests.provider.tasks import BOTH_MODES, Task, Ti, fire, fire_together, trigger

pytestmark = pytest.mark.usefixtures("losant_connection")

LOGS = "notebook.logs"
AGAIN = re.compile(r"Losant responds again after (\d+) s \(polling the execution ")


def make_task(notebook: str, *, deferrable: bool) -> Task:
    return Task(
        lambda: LosantNotebookExecuteOperator(
            task_id="report", notebook_id=notebook, deferrable=deferrable, poll_interval=0.05, timeout=30
        )
    )


@BOTH_MODES
def test_the_end_of_an_outage_is_in_the_task_log(
    losant: Emulator, notebook: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.5))
    losant.inject(LOGS, Fault("server_error"), times=2)

    assert make_task(notebook, deferrable=deferrable).run()["status"] == "completed"

    log = task_log()
    assert log.count("Polling the execution") == 1
    assert len(AGAIN.findall(log)) == 1


@BOTH_MODES
def test_an_outage_followed_by_a_rate_limit_is_one_line_with_the_time_of_both(
    losant: Emulator, notebook: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.5))
    losant.inject(LOGS, Fault("reset_before"))
    losant.inject(LOGS, Fault("rate_limited", retry_after=2))

    assert make_task(notebook, deferrable=deferrable).run()["status"] == "completed"

    (seconds,) = AGAIN.findall(task_log())
    assert int(seconds) >= 2


def test_every_wait_for_a_notebook_logs_the_end_of_the_outage_once(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    losant.script(notebook, Script(notebook=0.5))
    executions = [LosantHook().execute_notebook(notebook) for _ in range(20)]
    losant.inject(LOGS, Fault("server_error"), times=3)

    fire_together([trigger(losant, notebook, it) for it in executions])

    log = task_log()
    assert [log.count(f"(polling the execution {it} of notebook {notebook})") for it in executions] == [
        1
    ] * 20


def test_an_event_trigger_logs_the_end_of_an_outage(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    async def first() -> Any:
        subscription = Subscription(
            losant_conn_id="losant_default",
            application_id=None,
            notebook_id=notebook,
            statuses=["completed"],
            poll_interval=0.05,
        )
        async with asyncio.timeout(20):
            async for payload, _ in completions(subscription):
                if payload is not None:
                    return payload
                losant.inject(LOGS, Fault("server_error"), times=2)
                await asyncio.to_thread(LosantHook().execute_notebook, notebook)
        raise AssertionError("no event")

    assert asyncio.run(first())["status"] == "completed"

    log = task_log()
    assert log.count(f"Polling the executions of notebook {notebook} failed") == 1
    assert log.count(f"(polling the executions of notebook {notebook})") == 1


@pytest.mark.parametrize("deferred", [False, True], ids=["waiting", "deferred"])
def test_a_long_wait_is_logged_when_another_hour_is_over(
    losant: Emulator, notebook: str, running: str, task_log: TaskLog, *, deferred: bool
) -> None:
    now = time.time()
    since, end = now - 2 * 3_600 + 0.7, now + 2.5
    if deferred:
        fire(trigger(losant, notebook, running, since=since, deadline=end, poll_interval=0.1))
    else:
        target = Target(
            application_id=losant.application_id, notebook_id=notebook, execution_id=running, since=since
        )
        config = WaitConfig(poll_interval=0.1, deadline=end, max_poll_outage=20.0)
        LosantHook().client.run(wait_for_execution(target, config))

    lines = [it for it in task_log().splitlines() if "the wait ends at" in it]
    assert len(lines) == 1
    assert f"After 2 h, the execution {running} of notebook {notebook} is still inProgress" in lines[0]
    assert "(timeout) at the latest" in lines[0]


def test_of_many_waits_each_logs_an_hour_once_and_without_a_request_of_its_own(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    losant.script(notebook, Script(ending="hang"))
    hook = LosantHook()
    executions = [hook.execute_notebook(notebook) for _ in range(100)]
    now = time.time()
    given = {"since": now - 3_600 + 1.0, "deadline": now + 4.0, "poll_interval": 0.2}

    fire_together([trigger(losant, notebook, it, **given) for it in executions])

    log = task_log()
    lines = [log.count(f"After 1 h, the execution {it} of notebook {notebook} is still") for it in executions]
    assert lines == [1] * 100
    assert sum(it.operation == LOGS for it in losant.requests) < 60


@pytest.mark.parametrize(
    ("execution", "logged"),
    [(True, 1), (False, 0)],
    ids=["of an execution", "of the first to end"],
)
def test_a_killed_trigger_that_does_not_cancel_says_so(
    losant: Emulator, notebook: str, running: str, task_log: TaskLog, *, execution: bool, logged: int
) -> None:
    killed: Any = trigger(losant, notebook, running if execution else None, cancel_on_kill=False)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert cancels(losant) == 0
    assert task_log().count(f"Not cancelling the execution {running}") == logged
