# SPDX-License-Identifier: Apache-2.0
"""
Send the daily energy report of a site by e-mail, with its files attached.

The e-mail goes through the Airflow connection ``smtp_default`` (apache-airflow-providers-smtp). The files are
first saved in the folder that the Airflow variable ``losant_landing`` names, such as ``s3://reports`` or
``file:///srv/reports``.
"""

from __future__ import annotations

# [START losant_email_report]
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import ObjectStoragePath, dag, task

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"
FOLDER = "{{ var.value.get('losant_landing', 's3://losant-reports') }}/email/{{ ds | default(run_id) }}"
RECIPIENTS = ["energy@plant.example"]


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "energy"])
def losant_email_report() -> None:
    """Report the energy of a site, and send the report."""
    report = LosantNotebookExecuteOperator(
        task_id="report",
        notebook_id=ENERGY_REPORT,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={"site": "hamburg-harbour", "price_per_kwh": 0.31, "currency": "EUR"},
        save_outputs_to=FOLDER,
        deferrable=True,
        retries=2,
    )

    @task(retries=2)
    def send(result: dict[str, Any]) -> list[str]:
        """Send the saved files; return their names."""
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        saved = result["saved_outputs"]
        with TemporaryDirectory() as folder, SmtpHook() as smtp:
            for name, path in saved.items():
                (Path(folder) / name).write_bytes(ObjectStoragePath(path).read_bytes())
            smtp.send_email_smtp(
                to=RECIPIENTS,
                from_email="airflow@plant.example",
                subject=f"Energy until {result['relative_to']}",
                html_content=f"<p>The report is attached. <a href='{result['url']}'>Notebook</a></p>",
                files=[str(Path(folder) / name) for name in saved],
            )
        return sorted(saved)

    send(report.output)  # type: ignore[arg-type]  # the result at run time


losant_email_report()
# [END losant_email_report]
