# SPDX-License-Identifier: Apache-2.0
"""Iterations of a loop (Airflow 3.4), which share all names: each has executions of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.emulator import Fault, Script
from airflow_provider_losant.exceptions import NotebookExecutionError
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import cancels, operations, statuses
from tests.provider.tasks import BOTH_MODES, Task, TaskStateStore, Ti, context_of
from tests.support.factories import BRIEF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_losant.emulator import Emulator
    from airflow_provider_losant.emulator.faults import Kind
    from tests.provider.conftest import TaskLog

pytestmark = [pytest.mark.airflow(since="3.4"), pytest.mark.usefixtures("losant_connection")]

REGION = UUID("01a222ef-95d2-7255-9cd4-3ae312a41445")
NEW_REGION = UUID("01a222ef-9ad1-73ae-adc4-03ae0eba3ca6")
INDEXES = (0, 1, 2)
WARNING = "A retry cannot reconnect to this execution: this Airflow has the region of a looped task in an"


@dataclass
class Iteration(Ti):
    """A task instance of a loop."""

    region_id: Any = REGION
    region_index: Any = 0


def task(notebook: str, ti: Iteration, more: Mapping[str, Any] | None = None, **options: Any) -> Task:
    given = {"poll_interval": 0.02, "max_log_lag": 0.1, **options}
    return Task(
        lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **given),
        ti,
        more={"loop": SimpleNamespace(index=ti.region_index), **(more or {})},
    )


def submit(losant: Emulator, notebook: str, ti: Iteration, script: Script = BRIEF) -> str:
    """Submit an execution by a try that then loses contact with Airflow; returns its id."""
    losant.script(notebook, script)
    lost = task(notebook, ti, deferrable=True)
    with pytest.raises(TaskDeferred):
        lost.make().execute(context_of(ti) | lost.more)
    losant.script(notebook, BRIEF)
    return str(ti.pushed["execution_id"])


@BOTH_MODES
def test_a_retry_reconnects_to_the_execution_of_its_own_iteration(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    first = task(notebook, Iteration(max_tries=1), deferrable=deferrable).run()["execution_id"]
    second = submit(losant, notebook, Iteration(region_index=1, max_tries=1), Script(notebook=0.5))

    again = Iteration(region_index=1, try_number=2, max_tries=1)
    result = task(notebook, again, deferrable=deferrable).run()

    assert result["execution_id"] == second
    assert statuses(losant, notebook) == {first: "completed", second: "completed"}
    assert cancels(losant) == 0


@BOTH_MODES
def test_a_retry_after_an_error_runs_the_notebook_again_and_does_not_take_an_earlier_iterations_result(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    first = task(notebook, Iteration(max_tries=1), deferrable=deferrable).run()["execution_id"]
    losant.script(notebook, Script(notebook=0.01, ending="errored"))
    with pytest.raises(NotebookExecutionError):
        task(notebook, Iteration(region_index=1, max_tries=1), deferrable=deferrable).run()
    losant.script(notebook, BRIEF)

    again = Iteration(region_index=1, try_number=2, max_tries=1)
    result = task(notebook, again, deferrable=deferrable).run()

    assert result["execution_id"] != first
    assert sorted(statuses(losant, notebook).values()) == ["completed", "completed", "errored"]


@BOTH_MODES
@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_after_a_lost_response_the_execution_of_another_iteration_is_not_taken(
    losant: Emulator, notebook: str, fault: Kind, *, deferrable: bool
) -> None:
    first = task(notebook, Iteration(), deferrable=deferrable).run()["execution_id"]
    losant.inject("notebook.execute", Fault(fault))

    result = task(notebook, Iteration(region_index=1), deferrable=deferrable).run()

    assert result["execution_id"] != first
    assert list(statuses(losant, notebook).values()) == ["completed", "completed"]
    assert cancels(losant) == 0


@BOTH_MODES
def test_a_cleared_loop_runs_the_notebook_once_for_each_iteration_also_when_a_worker_dies(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    before = {task(notebook, Iteration(region_index=it, max_tries=2)).run()["execution_id"] for it in INDEXES}

    # Airflow continues the tries of iteration 0, and creates the later ones anew in another region.
    kept = Iteration(try_number=2, max_tries=3)
    after = [task(notebook, kept, deferrable=deferrable).run()["execution_id"]]
    lost = submit(losant, notebook, Iteration(region_id=NEW_REGION, region_index=1, max_tries=2))
    for number, tries in ((1, 2), (2, 1)):
        anew = Iteration(region_id=NEW_REGION, region_index=number, try_number=tries, max_tries=2)
        after.append(task(notebook, anew, deferrable=deferrable).run()["execution_id"])

    assert after[1] == lost
    assert len({*before, *after}) == 2 * len(INDEXES)
    assert operations(losant).count("notebook.execute") == 2 * len(INDEXES)
    assert cancels(losant) == 0


@BOTH_MODES
def test_iterations_that_are_cleared_together_run_side_by_side(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    for index in INDEXES:
        task(notebook, Iteration(region_index=index)).run()

    lost = [
        submit(losant, notebook, Iteration(region_index=it, try_number=2, max_tries=2), Script(notebook=1.0))
        for it in INDEXES
    ]
    again = [Iteration(region_index=it, try_number=3, max_tries=2) for it in INDEXES]
    results = [task(notebook, it, deferrable=deferrable).run()["execution_id"] for it in again]

    assert results == lost
    assert operations(losant).count("notebook.execute") == 2 * len(INDEXES)
    assert cancels(losant) == 0


def test_clearing_one_iteration_cancels_its_active_execution_and_not_those_of_others(
    losant: Emulator, notebook: str
) -> None:
    own, other = (
        submit(losant, notebook, Iteration(region_index=it), Script(ending="hang")) for it in (0, 1)
    )

    result = task(notebook, Iteration(try_number=2, max_tries=1)).run()

    assert statuses(losant, notebook) == {
        own: "canceled",
        other: "inProgress",
        result["execution_id"]: "completed",
    }


def test_mapped_tasks_in_a_loop_are_distinguished_by_both(losant: Emulator, notebook: str) -> None:
    places = [(region, index) for region in (REGION, NEW_REGION) for index in (0, 1)]
    lost = [
        submit(losant, notebook, Iteration(region_id=region, region_index=index, map_index=index))
        for region, index in places
    ]

    results = [
        task(
            notebook,
            Iteration(region_id=region, region_index=index, map_index=index, try_number=2),
        ).run()["execution_id"]
        for region, index in places
    ]

    assert results == lost


def test_the_task_state_store_of_another_iteration_is_not_used(losant: Emulator, notebook: str) -> None:
    store = {"task_state_store": TaskStateStore()}
    context = {"airflow": "a key of the user's own: there is no marker"}
    first = task(notebook, Iteration(max_tries=1), store, template_context=context).run()["execution_id"]

    other = Iteration(region_index=1, try_number=2, max_tries=1)
    second = task(notebook, other, store, template_context=context).run()["execution_id"]
    again = Iteration(region_index=1, try_number=2, max_tries=1)
    third = task(notebook, again, store, template_context=context).run()["execution_id"]

    assert first != second
    assert second == third


def test_the_marker_names_region_and_loop_index(losant: Emulator, notebook: str) -> None:
    task(notebook, Iteration(region_index=2)).run()

    (entry,) = losant.executions(notebook)
    marker = json.loads(entry["templateContext"])["airflow"]
    assert (marker["region"], marker["loop_index"]) == (f"{REGION}/2", 2)


def test_the_region_of_a_task_outside_loops_is_not_part_of_its_owner(losant: Emulator, notebook: str) -> None:
    mapped = Iteration(region_id=REGION, region_index=1, map_index=1)
    lost = submit(losant, notebook, mapped)
    one = task(notebook, Iteration(region_id=NEW_REGION, region_index=1, map_index=1, try_number=2))
    del one.more["loop"]

    # Submitted inside a loop, so it is not its own; what it submits itself has no region.
    assert one.run()["execution_id"] != lost
    marker = json.loads(losant.executions(notebook)[0]["templateContext"])["airflow"]
    assert (marker["region"], marker["loop_index"]) == ("", -1)


@BOTH_MODES
@pytest.mark.parametrize(
    "odd",
    [
        {"region_id": None},
        {"region_id": UUID(int=0)},
        {"region_id": str(REGION)},
        {"region_index": None},
        {"region_index": "1"},
    ],
    ids=str,
)
def test_a_region_of_unknown_form_is_one_warning_and_the_notebook_runs_anew(
    losant: Emulator, notebook: str, task_log: TaskLog, odd: dict[str, Any], *, deferrable: bool
) -> None:
    store = {"task_state_store": TaskStateStore()}
    first = task(notebook, Iteration(**odd), store, deferrable=deferrable).run()["execution_id"]
    assert task_log().count(WARNING) == 1

    again = Iteration(**odd, try_number=2)
    second = task(notebook, again, store, deferrable=deferrable).run()["execution_id"]

    assert first != second
    assert cancels(losant) == 0
    assert all(it.get("templateContext") in (None, "{}") for it in losant.executions(notebook))
