# SPDX-License-Identifier: Apache-2.0
"""What people do in Airflow's web pages, over its REST API (version 2, Airflow 3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from tests.support.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

Json = dict[str, Any]
FINAL_RUN_STATES = frozenset({"success", "failed"})


class AirflowApi:
    """
    Talk to an Airflow whose every visitor is an administrator.

    :param url: Address of the api-server.
    """

    base = "/api/v2"

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()
        self._http.trust_env = False

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        """Carry out one request below ``base`` and return the parsed answer."""
        self._log_in()
        address, headers = f"{self.url}{self.base}{path}", {"Accept": "application/json"}
        answer = self._http.request(method, address, headers=headers, timeout=30, **kwargs)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code} {method} {path}: {answer.text}", response=answer)
        return answer.json() if answer.content else None

    def _log_in(self) -> None:
        if "Authorization" not in self._http.headers:
            answer = self._http.get(f"{self.url}/auth/token", timeout=30)
            answer.raise_for_status()
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def health(self) -> dict[str, str | None]:
        """Return what each component says about itself, by name."""
        return {
            name: part.get("status") for name, part in self.request("GET", "/monitor/health").items() if part
        }

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """
        Create a connection.

        :param conn_id: ID of the connection.
        :param fields: ``conn_type``, ``host``, ``password``, ``extra`` (a mapping) and so on.
        """
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        self.request("POST", "/connections", json={"connection_id": conn_id, **fields})

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60) -> None:
        """
        Wait until a DAG has been parsed.

        :raises RuntimeError: a DAG file cannot be imported; the message holds the traceback.
        """

        def parsed() -> bool:
            if errors := self.request("GET", "/importErrors")["import_errors"]:
                raise RuntimeError("\n".join(error["stack_trace"] for error in errors))
            return any(dag["dag_id"] == dag_id for dag in self.request("GET", "/dags?limit=500")["dags"])

        wait_for(parsed, what=f"DAG {dag_id} to be parsed", timeout=timeout)

    def unpause(self, dag_id: str) -> None:
        """Let the runs of a DAG begin."""
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger(
        self,
        dag_id: str,
        *,
        logical_date: datetime | None = None,
        data_interval: tuple[datetime, datetime] | None = None,
        conf: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """
        Start a run of a DAG and return its run id.

        :param dag_id: ID of the DAG.
        :param logical_date: Logical date of the run.
        :param data_interval: Start and end of the time that the run is about.
        :param conf: Parameters of the run.
        :param run_id: Name of the run; Airflow's own unless given.
        """
        body: Json = {"logical_date": logical_date and logical_date.isoformat(), "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        if data_interval:
            start, end = data_interval
            body |= {"data_interval_start": start.isoformat(), "data_interval_end": end.isoformat()}
        return str(self.request("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> Json:
        """Return a run."""
        run: Json = self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return run

    def dag_runs(self, dag_id: str) -> list[Json]:
        """Return the runs of a DAG, oldest first."""
        runs: list[Json] = self.request("GET", f"/dags/{dag_id}/dagRuns?order_by=id&limit=500")["dag_runs"]
        return runs

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float) -> str:
        """Wait until a run has ended and return its state."""

        def final() -> str | None:
            state = self.dag_run(dag_id, run_id)["state"]
            return state if state in FINAL_RUN_STATES else None

        return wait_for(final, what=f"run {run_id} of {dag_id} to end", timeout=timeout)

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """Return the task instances of a run."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=500"
        instances: list[Json] = self.request("GET", path)["task_instances"]
        return instances

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Json:
        """Return one task instance."""
        instance: Json = self.request("GET", self._instance(dag_id, run_id, task_id, map_index))
        return instance

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        reached: Callable[[Json], bool],
        *,
        map_index: int = -1,
        timeout: float = 60,
    ) -> Json:
        """
        Wait until a task instance fulfils a condition and return it.

        :param reached: Says whether the task instance is there yet.
        """

        def there() -> Json | None:
            instance = self.task_instance(dag_id, run_id, task_id, map_index)
            return instance if reached(instance) else None

        return wait_for(there, what=f"task {task_id} of {run_id}", timeout=timeout)

    def set_task_state(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1
    ) -> None:
        """Mark a task instance ``failed``, ``success`` or ``skipped``, as its buttons do."""
        path = self._instance(dag_id, run_id, task_id, map_index)
        self.request("PATCH", path, json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str, *, map_index: int | None = None) -> None:
        """Clear a task instance, or all instances of a mapped task, so that it runs again."""
        task = task_id if map_index is None else [task_id, map_index]
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task]}
        self.request("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return the value of an XCom; None if there is none."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.request("GET", path, params={"map_index": map_index, "stringify": "false"})["value"]
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == requests.codes.not_found:
                return None
            raise

    def links(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        """Return the extra links of a task instance by name."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        links: dict[str, str | None] = self.request("GET", path, params={"map_index": map_index})[
            "extra_links"
        ]
        return links

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Return the log of one try of a task instance, one line for each message."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", path, params={"map_index": map_index, "full_content": "true"})[
            "content"
        ]
        if isinstance(content, str):
            return content
        return "\n".join(_line(entry) for entry in content)

    @staticmethod
    def _instance(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return path if map_index < 0 else f"{path}/{map_index}"


def _line(entry: Json | str) -> str:
    if isinstance(entry, str):
        return entry
    details = {key: entry[key] for key in ("error_detail", "exception") if entry.get(key)}
    head = f"{entry.get('timestamp') or '':32.32} {entry.get('level') or '':8} {entry.get('event')}"
    return f"{head} {json.dumps(details)}" if details else head
