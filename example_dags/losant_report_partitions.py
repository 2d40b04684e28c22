# SPDX-License-Identifier: Apache-2.0
"""
Run a notebook for each partition of an asset, and start a DAG for the same partition.

The timetable gives each DAG run a partition: here, an hour. The notebook gets its data up to then, also when
the DAG run starts late or belongs to a backfill. This requires Airflow 3.3 or later.
"""

from __future__ import annotations

# [START losant_report_partitions]
import pendulum
from airflow.sdk import CronPartitionTimetable, PartitionedAssetTimetable, dag, task

from airflow_provider_losant.assets.notebook import create_asset
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"
REPORT = create_asset(
    notebook_id=ENERGY_REPORT, application_id="575ec8687ae143cd83dc4a97", output="energy-per-hour.csv"
)


@dag(
    schedule=CronPartitionTimetable("0 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    tags=["losant", "energy"],
)
def losant_report_partitions() -> None:
    """Report the energy of the hours of a day."""
    LosantNotebookExecuteOperator(
        task_id="report",
        notebook_id=ENERGY_REPORT,
        relative_to="{{ partition_date }}",
        template_context={"site": "hamburg-harbour"},
        deferrable=True,
        outlets=[REPORT],
    )


@dag(
    schedule=PartitionedAssetTimetable(assets=REPORT),
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    tags=["losant", "energy"],
)
def losant_bill_partitions() -> None:
    """Bill the energy of the same hours."""

    @task
    def bill(partition_key: str | None = None) -> str | None:
        """Return the partition of the report."""
        print(f"Billing {partition_key}")
        return partition_key

    bill()


losant_report_partitions()
losant_bill_partitions()
# [END losant_report_partitions]
