# SPDX-License-Identifier: Apache-2.0
"""Tasks with outlets in a DAG run that has a partition, which a test gives it."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

ALIAS = AssetAlias("reports")
OWN = Asset(uri="x://own-partitions", name="own_partitions")


def add_sites(context: Any, _: Any) -> None:
    """Name partitions that only the result shows, as in a DAG with ``PartitionedAtRuntime`` (Airflow 3.3)."""
    event = context["outlet_events"][OWN]
    if hasattr(event, "add_partitions"):
        event.add_partitions(["north", "south"])


with DAG("partitions", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as partitions:
    common: dict[str, Any] = {"notebook_id": "{{ dag_run.conf['notebook'] }}", "poll_interval": 0.02}
    for name in ("waiting", "deferred"):
        LosantNotebookExecuteOperator(
            task_id=name,
            deferrable=name == "deferred",
            outlets=[Asset(uri=f"x://{name}", name=name)],
            **common,
        )
    LosantNotebookExecuteOperator(task_id="alias", outlets=[ALIAS], **common)
    LosantNotebookExecuteOperator(task_id="own", outlets=[OWN], post_execute=add_sites, **common)
