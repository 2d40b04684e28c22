# SPDX-License-Identifier: Apache-2.0
"""
Deploy a notebook from the repository, run it for each site, and copy its files to object storage.

The notebook is next to this DAG and is uploaded whenever it has changed. Its reports are copied to the folder
that the Airflow variable ``losant_landing`` names, such as ``s3://reports`` or ``file:///srv/reports``.
"""

from __future__ import annotations

# [START losant_deploy_and_land]
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task_group

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator

NOTEBOOK = Path(__file__).parent / "notebooks" / "site-energy-report.ipynb"
LANDING = "{{ var.value.get('losant_landing', 's3://losant-reports') }}/{{ ds | default(run_id) }}"

SITES = [
    {"site": "hamburg-harbour", "price_per_kwh": 0.31, "currency": "EUR"},
    {"site": "lyon-depot", "price_per_kwh": 0.24, "currency": "EUR"},
    {"site": "austin-plant", "price_per_kwh": 0.12, "currency": "USD"},
]

METERS = {
    "inputType": "deviceData",
    "fileName": "energy-meters.csv",
    "deviceTags": [{"key": "site", "value": "{{site}}"}],  # filled in by Losant, from the template context
    "attributes": ["energyKwh", "powerKw"],
    "start": -24 * 60 * 60 * 1000,
    "end": 0,
}
FILES = [
    {"outputType": "executionResult", "fileName": "result.html"},
    {"outputType": "temporaryUrl", "fileName": "energy-per-hour.csv"},
]


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    user_defined_macros={"sites": SITES},
    tags=["losant", "energy"],
)
def losant_deploy_and_land() -> None:
    """Deploy the energy report, run it for each site, and copy its files."""
    deploy = LosantNotebookUploadOperator(
        task_id="deploy",
        path=str(NOTEBOOK),
        notebook_name="Energy report, deployed by Airflow",
        create=True,
        inputs=[METERS],
        outputs=FILES,
    )

    @task_group
    def of_site(site: dict[str, Any]) -> None:
        report = LosantNotebookExecuteOperator(
            task_id="report",
            notebook_id=deploy.output["notebook_id"],
            relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
            template_context=site,  # one of the sites at run time
            deferrable=True,
            max_minutes=600,  # a day's worth; more would be a mistake
        )
        LosantNotebookOutputsToObjectStorageOperator(
            task_id="copy",
            notebook_id=deploy.output["notebook_id"],
            execution_id=report.output["execution_id"],
            destination=LANDING + "/{{ sites[ti.map_index]['site'] }}",
            outputs=["result.html", "*.csv"],
        )

    of_site.expand(site=SITES)


losant_deploy_and_land()
# [END losant_deploy_and_land]
