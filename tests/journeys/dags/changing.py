# SPDX-License-Identifier: Apache-2.0
"""A DAG whose task has as many retries as a file in AIRFLOW_HOME says: a DAG file that a user edits."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.journeys.dags.journeys import PLACE, dag

RETRIES = Path(os.environ["AIRFLOW_HOME"], "retries")

with dag("changing"):
    LosantNotebookExecuteOperator(**PLACE, retries=int(RETRIES.read_text()) if RETRIES.exists() else 3)
