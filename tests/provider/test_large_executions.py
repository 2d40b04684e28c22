# SPDX-License-Identifier: Apache-2.0
"""An execution with megabytes of errors or thousands of files is a small event, XCom, log and exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant._compat import Asset
from airflow_provider_losant.api.fields import MAX_EVENT
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import NotebookExecutionFailed
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.tasks import BOTH_MODES, Task, fire, outlet_events, trigger

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

ERRORS = (("ValueError", "first"), *[("ValueError", "m" * 1_000)] * 2_999)
FILES = {f"meter-{number:05}.csv": b"" for number in range(3_000)}


def task(notebook: str, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, "timeout": 20.0}
    return Task(lambda: LosantNotebookExecuteOperator(**{**given, **options}))


def test_megabytes_of_errors_are_a_small_event(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(notebook=0.02, ending="errored", errors=ERRORS))

    event = fire(trigger(losant, notebook, LosantHook().execute_notebook(notebook)))

    assert len(json.dumps(event)) <= MAX_EVENT
    assert len(event["errors"]) == 21


@BOTH_MODES
def test_megabytes_of_errors_fail_the_task_with_the_first_of_them(
    losant: Emulator, notebook: str, deferrable: bool, task_log: TaskLog
) -> None:
    script = Script(
        notebook=0.02, ending="errored", errors=ERRORS, files={"result.error.log": b"\x01" * 2**20}
    )
    losant.script(notebook, script)

    with pytest.raises(
        NotebookExecutionFailed, match=r"ValueError: first; ValueError: m.*2,980 more errors"
    ) as caught:
        task(notebook, deferrable=deferrable).run()

    assert len(str(caught.value)) <= MAX_EVENT
    assert "Left out: 2,980 more errors" in task_log()
    assert len(task_log()) <= 3 * MAX_EVENT  # the errors twice, and the end of the error log


@BOTH_MODES
def test_thousands_of_outputs_are_a_small_result_log_and_asset_event(
    losant: Emulator, notebook: str, deferrable: bool, task_log: TaskLog
) -> None:
    losant.script(notebook, Script(notebook=0.02, files=FILES))
    asset, events = Asset("x://reports"), outlet_events()
    one = task(notebook, deferrable=deferrable, outlets=[asset])
    one.more["outlet_events"] = events

    result = one.run()

    assert len(result["outputs"]) + result["files_left_out"] == 3_000
    assert len(json.dumps(result)) <= MAX_EVENT
    assert len(json.dumps(events[asset].extra)) <= MAX_EVENT
    assert "meter-00019.csv and 2,980 more" in task_log()
    assert "meter-00020.csv" not in task_log()
