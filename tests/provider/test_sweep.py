# SPDX-License-Identifier: Apache-2.0
"""The orphan sweep: invalid arguments, and how it recognises its own executions; see also the journeys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from tests.provider.tasks import Ti, context_of

pytestmark = [
    pytest.mark.usefixtures("losant_connection"),
    # a warning of Airflow 3.0 and 3.1 about their own way to load a connection
    pytest.mark.filterwarnings(r"ignore:Using Connection\.\w+ from .airflow:DeprecationWarning:airflow\."),
]


@pytest.mark.parametrize("age", ["min_age", "max_age"])
def test_an_invalid_age_is_refused_before_any_request(losant: Emulator, age: str) -> None:
    with pytest.raises(LosantConfigError, match=f"^{age}: "):
        LosantNotebookOrphanSweepOperator(task_id="sweep", **{age: -1}).execute({})

    assert losant.requests == []


class Supervisor:
    """Replaces the supervisor of an Airflow 3 task: it has the DAG run, and the task's state ``failed``."""

    def __init__(self, ti: Ti) -> None:
        self._ti = ti

    def send(self, asked: Any) -> Any:
        ti = self._ti
        return {
            "GetDRCount": SimpleNamespace(count=1),
            "GetDagRun": SimpleNamespace(start_date=ti.dag_run_start),
            "GetTaskStates": SimpleNamespace(task_states={ti.run_id: {ti.task_id: "failed"}}),
        }.get(type(asked).__name__)


@pytest.fixture
def orphan(losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave an execution behind whose task was marked failed while it was deferred; returns its id."""
    losant.script(notebook, Script(ending="hang"))
    ti = Ti()
    with pytest.raises(TaskDeferred):
        LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, deferrable=True).execute(
            context_of(ti)
        )
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(ti), raising=False)
    return str(ti.pushed["execution_id"])


def sweep() -> dict[str, Any]:
    return LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=0.001).execute({})


@pytest.mark.airflow(since="3.2")
def test_without_a_base_url_an_orphan_is_recognised_by_its_dag_runs_start_date(orphan: str) -> None:
    assert sweep()["cancelled"] == [orphan]


@pytest.mark.airflow(since="3.0", before="3.2")
def test_without_dag_run_start_dates_the_sweep_reports_which_setting_is_required(orphan: str) -> None:
    assert sweep() == {
        "checked": 1,
        "cancelled": [],
        "left": {"its Airflow is unknown; set [api] base_url": 1},
    }


@pytest.mark.airflow(since="3.0")
def test_an_orphan_is_recognised_by_the_base_url(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    orphan = request.getfixturevalue("orphan")

    assert sweep()["cancelled"] == [orphan]
