# SPDX-License-Identifier: Apache-2.0
"""In Airflow 2, the state of a task and of a DAG run is read from the database instead of the API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant._compat import dag_run_start, task_state, trigger_task_state
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = [
    pytest.mark.airflow(before="3.0"),
    pytest.mark.usefixtures("airflow_db", "losant_connection"),
    pytest.mark.xdist_group("airflow-database"),
]

STARTED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(params=["deferred", "queued", "running", "failed", "success", None], ids=str)
def instance(request: pytest.FixtureRequest) -> Any:
    """Insert a task instance with the state of the parameter into the database."""
    from airflow.models import DagRun, TaskInstance
    from airflow.providers.common.compat.sdk import DAG, BaseOperator
    from airflow.utils.session import create_session

    with DAG(f"energy-{request.param}", schedule=None, start_date=STARTED) as dag:
        report = BaseOperator(task_id="report")
    with create_session() as session:
        run = DagRun(dag.dag_id, "manual", execution_date=STARTED, start_date=STARTED, run_type="manual")
        session.add(run)
        session.flush()
        ti = TaskInstance(report, run_id="manual", state=request.param)
        session.add(ti)
    yield ti
    with create_session() as session:
        session.query(TaskInstance).filter_by(dag_id=dag.dag_id).delete()
        session.query(DagRun).filter_by(dag_id=dag.dag_id).delete()


def test_a_trigger_reads_the_state_of_its_task_from_the_database(instance: Any) -> None:
    assert asyncio.run(trigger_task_state(instance)) == instance.state


def test_a_dag_run_and_its_start_date_are_found_and_an_unknown_one_is_not(instance: Any) -> None:
    assert dag_run_start(instance.dag_id, "manual") == (True, STARTED)
    assert dag_run_start(instance.dag_id, "another") == (False, None)
    assert task_state(instance.dag_id, "another", "manual", -1) is None


def test_a_cancelled_trigger_cancels_only_the_execution_of_a_killed_task(
    losant: Emulator, notebook: str, instance: Any
) -> None:
    from airflow_provider_losant.emulator import Script
    from airflow_provider_losant.hooks.losant import LosantHook

    losant.script(notebook, Script(ending="hang"))
    ref = LosantHook().execution_ref(notebook, LosantHook().execute_notebook(notebook))
    trigger = LosantNotebookExecutionTrigger(
        losant_conn_id="losant_default",
        application_id=ref.application_id,
        notebook_id=ref.notebook_id,
        execution_id=ref.execution_id,
        since=ref.created_at,
        poll_interval=0.02,
        deadline=ref.created_at + 60,
        max_poll_outage=5.0,
        cancel_on_kill=True,
    )
    trigger.task_instance = instance

    async def run_and_cancel() -> None:
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run_and_cancel())

    cancels = [it for it in losant.requests if it.operation == "notebook.cancelExecution"]
    assert len(cancels) == (instance.state in {"failed", "success", None})
