# SPDX-License-Identifier: Apache-2.0
"""
A daily energy report for each site, made by one Losant notebook.

Every midnight the notebook runs once for each site, for the 24 hours that have just ended. The tasks are
deferred, so they occupy no worker.
"""

from __future__ import annotations

# [START losant_site_energy_report]
import pendulum
from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"

# `site` is a tag of the meters in Losant: the notebook's input selects devices with the tag site={{site}}.
SITES = [
    {"site": "hamburg-harbour", "price_per_kwh": 0.31, "currency": "EUR"},
    {"site": "lyon-depot", "price_per_kwh": 0.24, "currency": "EUR"},
    {"site": "austin-plant", "price_per_kwh": 0.12, "currency": "USD"},
]


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "energy"])
def losant_site_energy_report() -> None:
    """Report the energy that each site has used in the last 24 hours."""
    LosantNotebookExecuteOperator.partial(
        task_id="report",
        notebook_id=ENERGY_REPORT,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",  # the notebook's Query Time
        deferrable=True,
        map_index_template="{{ task.template_context['site'] }}",
    ).expand(template_context=SITES)


losant_site_energy_report()
# [END losant_site_energy_report]
