# SPDX-License-Identifier: Apache-2.0
"""In Airflow 2, the state of a task and of a DAG run is read from the database instead of the API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant._compat import dag_run_start, task_state, trigger_task_state
from airflow_provider_losant.emulator import Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger
from tests.provider.tasks import Ti, context_of

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
        times: dict[str, Any] = {"execution_date": STARTED, "start_date": STARTED}
        run = DagRun(dag.dag_id, "manual", run_type="manual", **times)
        session.add(run)
        session.flush()
        ti = TaskInstance(report, run_id="manual", state=request.param)  # type: ignore[arg-type, call-arg]  # in 3
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


# -- the orphan sweep -------------------------------------------------------------------------------------


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the address of this Airflow."""
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://airflow.example")


def submit(losant: Emulator, notebook: str, ti: Ti) -> str:
    """Defer a task for an execution without an end, and return its id."""
    losant.script(notebook, Script(ending="hang"))
    with pytest.raises(TaskDeferred):
        LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, deferrable=True).execute(
            context_of(ti)
        )
    return str(ti.pushed["execution_id"])


def sweep() -> list[str]:
    cancelled: list[str] = LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})[
        "cancelled"
    ]
    return cancelled


@pytest.mark.usefixtures("base_url")
def test_the_sweep_cancels_the_execution_of_a_deleted_dag_run(losant: Emulator, notebook: str) -> None:
    orphan = submit(losant, notebook, Ti(run_id="deleted"))

    assert sweep() == [orphan]


@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize("has_xcom", [True, False])
def test_of_two_executions_the_sweep_cancels_the_one_that_the_task_is_known_not_to_wait_for(
    losant: Emulator, notebook: str, instance: Any, *, has_xcom: bool
) -> None:
    from airflow.models import XCom

    ti = Ti(dag_id=instance.dag_id, run_id="manual")
    twin, awaited = submit(losant, notebook, ti), submit(losant, notebook, ti)
    if has_xcom:
        XCom.set(key="execution_id", value=awaited, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id)

    cancelled = sweep()

    if instance.state in {"deferred", "running"}:
        assert cancelled == ([twin] if has_xcom else [])
    else:
        assert set(cancelled) == (set() if instance.state == "queued" else {twin, awaited})
