# SPDX-License-Identifier: Apache-2.0
"""Airflow's simple auth manager, in which one user may not read one DAG."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from example_dags.demo.checks import REPORT_DAG

ADMIN, READER, STRANGER = "admin", "reader", "stranger"
USERS = f"{ADMIN}:admin,{READER}:viewer,{STRANGER}:viewer"


class PerDagAuthManager(SimpleAuthManager):
    """Lets the stranger read every DAG except that of the reports."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **kwargs: Any) -> bool:
        if user.username == STRANGER and details is not None and details.id == REPORT_DAG:
            return False
        return super().is_authorized_dag(user=user, details=details, **kwargs)
