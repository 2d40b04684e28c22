# SPDX-License-Identifier: Apache-2.0
"""One DAG run in a real Airflow, with a Losant and a connection that no other test uses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

import requests

from airflow_provider_losant.emulator import Emulator, Request, Script
from tests.support.airflow_2 import Airflow2Api
from tests.support.airflow_api import AirflowApi, Json
from tests.support.airflow_connection import connection
from tests.support.processes import free_port, wait_for
from tests.support.shared_process import locked

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

T = TypeVar("T")

ENDLESS = Script(notebook=0.1, ending="hang")
SHORT = Script(notebook=0.1, files={"report.csv": b"site,kwh\n"})
RESULT_KEYS = {
    "execution_id",
    "notebook_id",
    "application_id",
    "status",
    "relative_to",
    "queued_at",
    "started_at",
    "finished_at",
    "durations",
    "max_run_minutes",
    "inputs",
    "outputs",
    "url",
}
WAIT_TIMEOUT = 180.0
"""Seconds that anything may take; a task that starts among many others is slow."""
LATE = 2.0
"""Seconds after which an unwanted second request would have been sent."""
ATTEMPTS = 6
"""How often a change is attempted whose transaction met a locked database."""


def wait_for_late_requests() -> None:
    """Wait as long as an unwanted request could take, so that its absence means something."""
    time.sleep(LATE)


class RunningAirflow(AirflowApi):
    """
    The API of an Airflow that several tests use at the same time.

    Changes are made one at a time, since SQLite has one writer only, and again if the database was locked.

    :param url: Address of the api-server.
    :param home: Its AIRFLOW_HOME.
    :param is_sqlite: Whether its database is an SQLite file.
    """

    def __init__(self, url: str, home: Path, *, is_sqlite: bool = False) -> None:
        super().__init__(url)
        self.home = home
        self.is_sqlite = is_sqlite

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        if method == "GET":
            return super().request(method, path, **kwargs)
        with locked(self.home / "changes.lock"):
            for _ in range(ATTEMPTS - 1):
                try:
                    return super().request(method, path, **kwargs)
                except requests.HTTPError as error:
                    # Airflow's own processes write too. A change that met a locked database was rolled back.
                    if error.response.status_code != requests.codes.server_error:
                        raise
            return super().request(method, path, **kwargs)


class RunningAirflow2(RunningAirflow, Airflow2Api):
    """The same for an Airflow 2."""


def running(airflow: LocalAirflow) -> RunningAirflow:
    """Return the API of an Airflow that this process has started."""
    kind = RunningAirflow2 if isinstance(airflow, Airflow2Api) else RunningAirflow
    return kind(airflow.url, airflow.home)


class Journey:
    """
    A DAG run, and a Losant that serves no other test: its faults and outages concern this one only.

    :param airflow: The Airflow in which the DAG runs.
    :param folder: For what Losant stores over an outage, and for downloaded outputs.
    """

    def __init__(self, airflow: RunningAirflow, folder: Path) -> None:
        self.airflow = airflow
        self.conn_id = f"losant_{uuid4().hex}"
        self.dag_id = self.run_id = ""
        self._folder = folder
        self._port = free_port()
        self._requests_before_outage: list[Request] = []
        self._is_connected = False

    def __enter__(self) -> Self:
        self.losant = self._open()
        self.notebook_id = self.losant.add_notebook(name=self.conn_id)
        return self

    def __exit__(self, *_: object) -> None:
        self.losant.__exit__()

    def start(
        self, variant: str, script: Script = SHORT, *, waits: bool = True, extra: Json | None = None
    ) -> None:
        """
        Start the DAG of a variant, and wait until it has submitted an execution.

        :param variant: One of those in ``dags/journeys.py``.
        :param script: What executions do from now on.
        :param waits: False returns as soon as the DAG run exists.
        :param extra: More for the connection's extra.
        """
        self.losant.script(self.notebook_id, script)
        self.connect(extra)
        self.dag_id = f"journey_{variant}"
        self.airflow.wait_for_dag(self.dag_id)
        self.airflow.unpause(self.dag_id)
        folder = f"file://{self._folder / 'outputs'}"
        conf = {"notebook_id": self.notebook_id, "conn_id": self.conn_id, "folder": folder}
        self.run_id = self.airflow.trigger(self.dag_id, conf=conf)
        if waits:
            self.wait_until(lambda: self.requests_to("execute"), "an execute request")

    def connect(self, extra: Json | None = None, **fields: str) -> None:
        """
        Make the Airflow connection to this Losant, unless it has been made.

        :param extra: More for the connection's extra.
        :param fields: Other values of its fields, such as ``host``.
        """
        if self._is_connected:
            return
        self._is_connected = True
        settings = {"max_retries": 8, **(extra or {})}
        self.airflow.add_connection(self.conn_id, **connection(self.losant, **settings) | fields)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Let Losant refuse connections while the block lasts; its state is kept."""
        self._requests_before_outage = self.requests
        self.losant.__exit__()
        try:
            yield
        finally:
            self.losant = self._open()

    @property
    def requests(self) -> list[Request]:
        """All requests that Losant received, oldest first."""
        return self._requests_before_outage + self.losant.requests

    @property
    def executions(self) -> list[Json]:
        """All executions, oldest first, each with its ``status`` and ``id``."""
        return self.losant.executions(self.notebook_id)[::-1]

    @property
    def statuses(self) -> list[str]:
        """The statuses of all executions, oldest first."""
        return [it["status"] for it in self.executions]

    @property
    def task(self) -> Json:
        """The task instance, as Airflow shows it."""
        return self.airflow.task_instance(self.dag_id, self.run_id, "run")

    @property
    def result(self) -> Any:
        """The task's XCom."""
        return self.airflow.xcom(self.dag_id, self.run_id, "run")

    @property
    def link(self) -> str | None:
        """The address behind the task's button."""
        return self.airflow.links(self.dag_id, self.run_id, "run")["Open in Losant"]

    def requests_to(self, operation: str) -> Sequence[Request]:
        """Return the requests of one operation on the notebook, oldest first."""
        return [it for it in self.requests if it.operation == f"notebook.{operation}"]

    def cancelled(self) -> list[str]:
        """Return the ids of the executions that Losant accepted to cancel."""
        return [it.query["executionId"] for it in self.requests_to("cancelExecution") if it.status == 200]

    def log(self, try_number: int = 1) -> str:
        """Return the log of a try."""
        return self.airflow.task_log(self.dag_id, self.run_id, "run", try_number=try_number)

    def let_it_complete(self) -> None:
        """Let the endless executions of the notebook complete soon."""
        backend = self.losant.backend
        with backend.lock:
            for execution in backend.executions(self.notebook_id):
                backend.put(execution.apply(Script(notebook=backend.clock() - execution.queued_at + 1)))

    def wait_until(
        self,
        probe: Callable[[], T | None],
        what: str,
        *,
        timeout: float = WAIT_TIMEOUT,
        every: float = 0.2,
    ) -> T:
        """Wait until a condition is true, and return its value."""
        return wait_for(probe, what=what, timeout=timeout, every=every)

    def wait_for_state(self, *states: str, try_number: int = 1) -> Json:
        """Wait until the task instance is in one of the states, in this try or a later one."""

        def reached() -> Json | None:
            task = self.task
            return task if task["state"] in states and task["try_number"] >= try_number else None

        # Not too often, because several journeys ask the same Airflow.
        return self.wait_until(reached, f"the task to be {' or '.join(states)}", every=0.5)

    def wait_for_poll(self) -> None:
        """Wait until the execution log has been polled once more."""
        before = len(self.requests_to("logs"))
        self.wait_until(lambda: len(self.requests_to("logs")) > before, "a poll")

    def wait_for_end(self) -> str:
        """Wait for the end of the DAG run, and return its state."""
        return self.airflow.wait_for_run(self.dag_id, self.run_id, timeout=WAIT_TIMEOUT)

    def mark(self, state: str) -> None:
        """Mark the task, as its button does."""
        self.airflow.set_task_state(self.dag_id, self.run_id, "run", state)

    def clear(self) -> None:
        """Clear the task, as its button does."""
        self.airflow.clear(self.dag_id, self.run_id, "run")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process of the task."""
        os.kill(self.task["pid"], number)

    def report(self) -> str:
        """Describe all requests, executions and task logs, for the report of a failed test."""
        requests = [f"{it.at:.1f} {it.operation} {dict(it.query)} -> {it.status}" for it in self.requests]
        home = self.airflow.home
        logs = sorted((home / "logs" / f"dag_id={self.dag_id}").glob(f"run_id={self.run_id}/**/*.log*"))
        written = [f"--- {log.relative_to(home)}\n{log.read_text()[-5000:]}" for log in logs]
        return "\n".join(["--- requests to Losant", *requests, f"executions: {self.executions}", *written])

    def _open(self) -> Emulator:
        return Emulator(port=self._port, data_dir=self._folder).__enter__()
