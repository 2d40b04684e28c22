# SPDX-License-Identifier: Apache-2.0
"""The DAG of the quickstart."""

# [START energy_report]
from airflow.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator


@dag(schedule="@daily", catchup=False)
def energy_report():
    LosantNotebookExecuteOperator(
        task_id="report",
        notebook_id="5c782b8d4f3a8e51c1db42e4",
        # the Query Time
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={
            "site": "hamburg-harbour",
            "day": "{{ data_interval_end | default(dag_run.run_after) | ds }}",
        },
        save_outputs_to="reports/{{ ds | default(run_id) }}",
        deferrable=True,
    )


energy_report()
# [END energy_report]
