# SPDX-License-Identifier: Apache-2.0
"""One DAG for each way to set up a task; the conf of a run names its notebook and its connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.journeys.failing_triggers import CrashingTrigger

SITES = ("north", "east")
"""One mapped task for each."""
PARAMS = {"notebook_id": "", "conn_id": "", "folder": ""}
PLACE: dict[str, Any] = {
    "task_id": "run",
    "notebook_id": "{{ params.notebook_id }}",
    "losant_conn_id": "{{ params.conn_id }}",
    "poll_interval": 1,
    "max_log_lag": 3,
    "retry_delay": timedelta(seconds=1),
}
DEFERRED: dict[str, Any] = {"deferrable": True}
RETRYING: dict[str, Any] = {"retries": 1}
LATE_RETRY: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(seconds=6)}
PATIENT_RETRIES: dict[str, Any] = {"retries": 9, "retry_delay": timedelta(seconds=2)}
KEEPING: dict[str, Any] = {"cancel_on_kill": False}
WAITING_FOR_OTHERS: dict[str, Any] = {"if_running": "wait"}
REPLACING: dict[str, Any] = {"if_running": "cancel_previous"}

VARIANTS: dict[str, dict[str, Any]] = {
    "waiting": {},
    "deferred": DEFERRED,
    "retrying": RETRYING,
    "retrying_deferred": RETRYING | DEFERRED,
    "late_retry": LATE_RETRY,
    "late_retry_deferred": LATE_RETRY | DEFERRED,
    "patient_deferred": PATIENT_RETRIES | DEFERRED,
    "unpublished": {},
    "short_outage": {"max_poll_outage": 3},
    "short_outage_deferred": {"max_poll_outage": 3} | DEFERRED,
    "one_at_a_time": WAITING_FOR_OTHERS | RETRYING,
    "one_at_a_time_keeping": WAITING_FOR_OTHERS | KEEPING,
    "replacing": REPLACING | RETRYING,
    "replacing_deferred": REPLACING | RETRYING | DEFERRED,
    "replacing_keeping": REPLACING | KEEPING,
    "keeping": KEEPING,
    "keeping_deferred": KEEPING | DEFERRED,
    "keeping_retrying": KEEPING | RETRYING,
    "not_durable": {"durable": False},
    "own_key": {"template_context": '{"airflow": "mine"}'},
    "unawaited": {"wait_for_completion": False},
    "saving": {"save_outputs_to": "{{ params.folder }}"} | DEFERRED,
    "limited": {"timeout": 4},
    "limited_deferred": {"timeout": 4} | DEFERRED,
    "limited_retrying": {"timeout": 12} | LATE_RETRY,
    "lenient": {"timeout": 4, "cancel_on_timeout": False},
    "lenient_deferred": {"timeout": 4, "cancel_on_timeout": False} | DEFERRED,
    "hurried": {"execution_timeout": timedelta(seconds=5)},
    "hurried_deferred": {"execution_timeout": timedelta(seconds=5)} | DEFERRED,
}


class CrashingOperator(LosantNotebookExecuteOperator):
    """Hand the wait over to a trigger that crashes."""

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:
        super().defer(trigger=CrashingTrigger(**trigger.serialize()[1]), **kwargs)


def dag(name: str) -> DAG:
    """Make the DAG of a variant."""
    return DAG(f"journey_{name}", schedule=None, params=PARAMS, max_active_runs=16)


for _name, _setup in VARIANTS.items():
    with dag(_name):
        LosantNotebookExecuteOperator(**PLACE | _setup)

with dag("crashing"):
    CrashingOperator(**PLACE, deferrable=True)

with dag("mapped"):
    LosantNotebookExecuteOperator.partial(**PLACE, deferrable=True).expand(
        template_context=[{"site": site} for site in SITES]
    )

with dag("sweep"):
    LosantNotebookOrphanSweepOperator(task_id="run", losant_conn_id="{{ params.conn_id }}", min_age=0.1)

with dag("sweep_patient"):
    LosantNotebookOrphanSweepOperator(task_id="run", losant_conn_id="{{ params.conn_id }}")

with dag("awaiting"):
    _first = LosantNotebookExecuteOperator(**PLACE | {"task_id": "first"}, wait_for_completion=False)
    _awaiting: dict[str, Any] = {
        "notebook_id": "{{ params.notebook_id }}",
        "losant_conn_id": "{{ params.conn_id }}",
        "poke_interval": 1,
        "deferrable": True,
        "start_from_trigger": True,
    }
    _pull = "ti.xcom_pull(task_ids='first', key='execution_id'"
    _by_id: dict[str, Any] = {"execution_id": _first.output["execution_id"]}
    LosantNotebookExecutionSensor(task_id="run", **_awaiting, **_by_id)
    LosantNotebookExecutionSensor(task_id="limited", timeout=60, **_awaiting, **_by_id)
    _first >> LosantNotebookExecutionSensor(
        task_id="scarce", execution_id=f"{{{{ {_pull}, map_indexes=7) or {_pull}) }}}}", **_awaiting
    )
    _first >> LosantNotebookExecutionSensor.partial(task_id="mapped", **_awaiting).expand(
        execution_id=[f"{{{{ {_pull}) }}}}"]
    )
