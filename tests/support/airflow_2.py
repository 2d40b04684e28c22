# SPDX-License-Identifier: Apache-2.0
"""The same Airflow for a few minutes, where it is an Airflow 2: other processes, and REST API version 1."""

from __future__ import annotations

import ast
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.support.airflow_api import AirflowApi
from tests.support.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from pathlib import Path


class Airflow2Api(AirflowApi):
    """Do in Airflow 2 what people do in Airflow 3; only what is asked differently is said here."""

    base = "/api/v1"

    def health(self) -> dict[str, str | None]:
        parts = self.request("GET", "/health")
        del parts["dag_processor"]  # the scheduler parses the DAGs, so nobody speaks for it
        return {name: part["status"] for name, part in parts.items()}

    def trigger(self, dag_id: str, *, logical_date: datetime | None = None, **more: Any) -> str:
        return super().trigger(dag_id, logical_date=logical_date or datetime.now(UTC), **more)

    def set_task_state(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1
    ) -> None:
        path = self._instance(dag_id, run_id, task_id, map_index)
        self.request("PATCH", path, json={"new_state": state, "dry_run": False})

    def clear(self, dag_id: str, run_id: str, task_id: str, *, map_index: int | None = None) -> None:
        # As the button does it: what the REST API clears while it runs goes on as if nothing had happened.
        when = self.dag_run(dag_id, run_id)["execution_date"]
        form = {"dag_id": dag_id, "task_id": task_id, "execution_date": when, "confirmed": "true"}
        if map_index is not None:
            form["map_index"] = str(map_index)
        headers = {"Accept": "application/json"}
        answer = self._http.post(f"{self.url}/clear", data=form, headers=headers, timeout=30)
        answer.raise_for_status()

    def links(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        links: dict[str, str | None] = self.request("GET", path, params={"map_index": map_index})
        return links

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> str:
        # A list of pairs, each a host and what it wrote, as Python spells it.
        content = super().task_log(dag_id, run_id, task_id, try_number=try_number, map_index=map_index)
        return "\n".join(text for _, text in ast.literal_eval(content))

    def _log_in(self) -> None:
        """Everybody is an administrator without saying who they are."""


class LocalAirflow2(Airflow2Api, LocalAirflow):
    """Run an Airflow 2, whose web server stands for the api-server, and whose scheduler parses the DAGs."""

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
