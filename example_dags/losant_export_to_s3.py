# SPDX-License-Identifier: Apache-2.0
"""
Export the device data of each day to object storage, as Losant's template does with a workflow.

The notebook copies its inputs to its outputs. The files go to the folder that the Airflow variable
``losant_landing`` names, such as ``s3://reports`` or ``file:///srv/reports``.
"""

from __future__ import annotations

# [START losant_export_to_s3]
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator

NOTEBOOK = Path(__file__).parent / "notebooks" / "export-device-data.ipynb"
LANDING = "{{ var.value.get('losant_landing', 's3://losant-reports') }}/export/{{ ds | default(run_id) }}"

METERS = {
    "inputType": "deviceData",
    "fileName": "energy-meters.csv",
    "deviceTags": [{"key": "site"}],  # all devices that have this tag
    "attributes": ["energyKwh", "powerKw"],
    "start": -24 * 60 * 60 * 1000,  # of the 24 hours before the query time
    "end": 0,
}


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "energy"])
def losant_export_to_s3() -> None:
    """Export the data of one day."""
    deploy = LosantNotebookUploadOperator(
        task_id="deploy",
        path=str(NOTEBOOK),
        notebook_name="Export of device data",
        create=True,
        inputs=[METERS],
        outputs=[{"outputType": "temporaryUrl", "fileName": METERS["fileName"]}],
    )
    LosantNotebookExecuteOperator(
        task_id="export",
        notebook_id=deploy.output["notebook_id"],
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        save_outputs_to=LANDING,
        deferrable=True,
        retries=2,
    )


losant_export_to_s3()
# [END losant_export_to_s3]
