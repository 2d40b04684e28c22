# SPDX-License-Identifier: Apache-2.0
"""``if_running="cancel_previous"``: the task whose execution was cancelled does not cancel in turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_losant.emulator import Script
from airflow_provider_losant.exceptions import NotebookExecutionReplaced
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import cancels, operations
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.support.factories import BRIEF

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("losant_connection")


def task(notebook: str, ti: Ti, **options: Any) -> Task:
    given = {"poll_interval": 0.02, "max_log_lag": 0.1, "if_running": "cancel_previous", **options}
    return Task(lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **given), ti)


def start_hanging(losant: Emulator, notebook: str, ti: Ti) -> str:
    """Let a task submit an execution that does not end by itself; later ones are short."""
    losant.script(notebook, Script(ending="hang"))
    with pytest.raises(TaskDeferred):
        task(notebook, ti, deferrable=True, if_running="start").make().execute(context_of(ti))
    losant.script(notebook, BRIEF)
    return str(ti.pushed["execution_id"])


def replaces(losant: Emulator, notebook: str) -> list[str]:
    """Return what the newest execution's marker says that it replaces."""
    context = json.loads(losant.executions(notebook)[0]["templateContext"])
    return list(context["airflow"]["replaces"])


@BOTH_MODES
@pytest.mark.parametrize("delay", [0.0, 0.3], ids=["at once", "later"])
def test_the_marker_names_all_executions_that_were_cancelled_before_the_submission(
    losant: Emulator, notebook: str, *, deferrable: bool, delay: float
) -> None:
    losant.switches.cancel_delay = delay
    previous = [start_hanging(losant, notebook, Ti(task_id=f"previous_{number}")) for number in range(2)]

    one = task(notebook, Ti(task_id="next"), deferrable=deferrable)
    result = one.run()

    assert result["status"] == "completed"
    assert sorted(replaces(losant, notebook)) == sorted(previous)
    assert cancels(losant) == 2
    waits = [it.method_name for it in one.deferrals].count("execute_after_wait")
    assert (waits > 0) == deferrable


@BOTH_MODES
@pytest.mark.parametrize("delay", [0.0, 0.3], ids=["at once", "later"])
def test_the_retry_of_a_replaced_execution_submits_and_cancels_nothing(
    losant: Emulator, notebook: str, *, deferrable: bool, delay: float
) -> None:
    losant.switches.cancel_delay = delay
    displaced = start_hanging(losant, notebook, Ti(task_id="previous", max_tries=3))
    losant.script(notebook, Script(notebook=3.0))
    ti = Ti(task_id="next")
    newer = task(notebook, ti, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        newer.make().execute(context_of(ti))
    if deferred.value.method_name == "execute_after_wait":
        # The wait is left to the worker here, as after a trigger that has fired.
        newer = task(notebook, ti, wait_for_completion=False)
        newer.make().execute_after_wait(context_of(ti), event={})

    again = task(notebook, Ti(task_id="previous", try_number=2, max_tries=3), deferrable=deferrable)
    with pytest.raises(NotebookExecutionReplaced, match=ti.pushed["execution_id"]) as caught:
        again.run()

    assert isinstance(caught.value, AirflowFailException)
    assert again.deferrals == []
    assert replaces(losant, notebook) == [displaced]
    assert operations(losant).count("notebook.execute") == 2
    assert cancels(losant) == 1
    assert losant.executions(notebook)[0]["status"] == "inProgress"
