# SPDX-License-Identifier: Apache-2.0
"""A local Airflow 2, which has other processes than Airflow 3, and REST API version 1."""

from __future__ import annotations

import ast
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.support.airflow_api import REQUEST_TIMEOUT, AirflowApi
from tests.support.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from pathlib import Path


class Airflow2Api(AirflowApi):
    """The REST API of Airflow 2; overrides what differs from Airflow 3."""

    base = "/api/v1"

    def health(self) -> dict[str, str | None]:
        parts = self.request("GET", "/health")
        del parts["dag_processor"]  # the scheduler parses the DAGs, so this one has no status
        return {name: part["status"] for name, part in parts.items()}

    def trigger(self, dag_id: str, *, logical_date: datetime | None = None, **more: Any) -> str:
        return super().trigger(dag_id, logical_date=logical_date or datetime.now(UTC), **more)

    def set_task_state(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1
    ) -> None:
        path = self._instance(dag_id, run_id, task_id, map_index)
        self.request("PATCH", path, json={"new_state": state, "dry_run": False})

    def clear(self, dag_id: str, run_id: str, task_id: str, *, map_index: int | None = None) -> None:
        # As the button does: a running task that is cleared by the REST API is not stopped.
        when = self.dag_run(dag_id, run_id)["execution_date"]
        form = {"dag_id": dag_id, "task_id": task_id, "execution_date": when, "confirmed": "true"}
        if map_index is not None:
            form["map_index"] = str(map_index)
        headers = {"Accept": "application/json"}
        response = self._http.post(f"{self.url}/clear", data=form, headers=headers, timeout=REQUEST_TIMEOUT)
        response.raise_for_status()

    def links(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        links: dict[str, str | None] = self.request("GET", path, params={"map_index": map_index})
        return links

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> str:
        # The repr of a list of pairs: a host name and its part of the log.
        content = super().task_log(dag_id, run_id, task_id, try_number=try_number, map_index=map_index)
        return "\n".join(text for _, text in ast.literal_eval(content))

    def _log_in(self) -> None:
        """Do nothing: every visitor is an administrator."""


class LocalAirflow2(Airflow2Api, LocalAirflow):
    """Run an Airflow 2: a web server instead of the api-server, and a scheduler that parses the DAGs."""

    def migrate(self) -> None:
        super().migrate()
        settings = 'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = False\n'
        (self.home / "webserver_config.py").write_text(settings)

    def _commands(self, port: int) -> list[tuple[str, ...]]:
        return [("webserver", "--hostname", "127.0.0.1", "--port", str(port), "--workers", "1")]

    def _environment(self, dags_folder: Path) -> dict[str, str]:
        return super()._environment(dags_folder) | {
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
            "AIRFLOW__WEBSERVER__BASE_URL": self.url,
            "AIRFLOW__WEBSERVER__SECRET_KEY": secrets.token_hex(),
        }
