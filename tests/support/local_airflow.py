# SPDX-License-Identifier: Apache-2.0
"""Run a real Airflow: each component is a process of its own, and all are stopped at the end."""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import requests

from tests.support.airflow_api import AirflowApi
from tests.support.paths import ROOT
from tests.support.processes import Process, free_port, kill_by_environment, wait_for
from tests.support.tables import create_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Shorter intervals than Airflow's defaults, because a user or a test waits for the result.
SHORT_INTERVALS = {
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
}


class LocalAirflow(AirflowApi):
    """
    Run an Airflow 3 on loopback while a ``with`` block lasts.

    Every visitor is an administrator. Schedules are off: a DAG run starts only by :meth:`trigger`. A
    component can be killed and started again through its attribute (``airflow.scheduler``,
    ``airflow.triggerer``, ...).

    :param home: AIRFLOW_HOME; the output of the components is in ``<home>/components``.
    :param dags_folder: The folder of the DAG files.
    :param env: More environment for all components, such as ``AIRFLOW__...`` or ``AIRFLOW_CONN_...``.
    :param sql_alchemy_conn: The metadata database; an SQLite file in ``home`` unless given.
    :param triggerers: Number of triggerers.
    :param python: The interpreter of the environment that has Airflow.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        sql_alchemy_conn: str | None = None,
        triggerers: int = 1,
        python: str = sys.executable,
    ) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.home = home
        self._python = python
        self.database = sql_alchemy_conn or f"sqlite:///{home / 'airflow.db'}"
        self.environment = self._environment(dags_folder) | dict(env or {})
        self._servers = [self._process(command, command, *more) for command, *more in self._commands(port)]
        self.scheduler = self._process("scheduler", "scheduler", "--skip-serve-logs")
        self.triggerers = [self._triggerer(number) for number in range(1, triggerers + 1)]

    @property
    def triggerer(self) -> Process:
        """The first triggerer."""
        return self.triggerers[0]

    @property
    def components(self) -> list[Process]:
        """All processes of this Airflow."""
        return [*self._servers, self.scheduler, *self.triggerers]

    @contextmanager
    def another_triggerer(self) -> Iterator[Process]:
        """Yield one more triggerer, which the block starts; it is stopped afterwards."""
        other = self._triggerer(len(self.triggerers) + 1)
        self.triggerers.append(other)
        try:
            yield other
        finally:
            other.stop()
            self.triggerers.remove(other)

    def __enter__(self) -> Self:
        try:
            self.migrate()
            for component in self.components:
                component.start()
            wait_for(self._is_healthy, what="Airflow's components to report healthy", timeout=240)
        except BaseException as error:
            self.stop()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"{error}\n{tails(self.home, 15)}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def migrate(self) -> None:
        """Create the tables of the metadata database."""
        (self.home / "components").mkdir(parents=True, exist_ok=True)
        create_tables(self.database, self._migrate)

    def _migrate(self) -> None:
        log = self.home / "components" / "db-migrate.log"
        with log.open("ab") as output:
            command = [self._python, "-m", "airflow", "db", "migrate"]
            done = subprocess.run(
                command,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=180,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"airflow db migrate failed, see {log}:\n{log.read_text()[-2000:]}")
        if (database := self.home / "airflow.db").exists():
            _never_reuse_trigger_ids(database)

    def stop(self) -> None:
        """Stop all components and all processes that they have started, including tasks."""
        for component in self.components:
            component.terminate()
        for component in self.components:
            component.stop(grace=2)
        kill_by_environment("AIRFLOW_HOME", str(self.home))

    def _commands(self, port: int) -> list[tuple[str, ...]]:
        """Return the commands, with arguments, of the other components than schedulers and triggerers."""
        server = ("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
        return [server, ("dag-processor",)]

    def _triggerer(self, number: int) -> Process:
        return self._process(f"triggerer-{number}", "triggerer", "--skip-serve-logs")

    def _process(self, name: str, *arguments: str) -> Process:
        command = [self._python, "-m", "airflow", *arguments]
        return Process(name, command, env=self.environment, log=self.home / "components" / f"{name}.log")

    def _environment(self, dags_folder: Path) -> dict[str, str]:
        """Return the environment of all components: that of this process, without its Airflow settings."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))
        }
        direct = ",".join(filter(None, [inherited.get("NO_PROXY"), "127.0.0.1", "localhost"]))
        return (
            inherited
            | {
                "PYTHONPATH": str(ROOT),
                "NO_PROXY": direct,
                "no_proxy": direct,
                "AIRFLOW_HOME": str(self.home),
                "SPT_NOENV": "1",  # otherwise Airflow's titles of processes overwrite AIRFLOW_HOME
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__PARALLELISM": "8",
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__SECRET_KEY": secrets.token_hex(),
                # Empty by default in Airflow 3.0, which current versions of PyJWT refuse.
                "AIRFLOW__API_AUTH__JWT_ISSUER": self.url,
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database,
                # Otherwise each component compares the tables with all migrations when it starts.
                "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",
                "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
                "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            }
            | SHORT_INTERVALS
        )

    def _is_healthy(self) -> bool:
        for part in self.components:
            if not part.is_running:
                raise RuntimeError(f"Airflow's {part.name} ended early, see {part.log}:\n{part.tail()}")
        try:
            return all(status == "healthy" for status in self.health().values())
        except requests.RequestException:
            return False


def tails(home: Path, lines: int) -> str:
    """Return the last lines that each component of an Airflow has printed, for the report of a failure."""
    logs = sorted((home / "components").glob("*.log"))
    ends = {log: log.read_text(errors="replace").splitlines()[-lines:] for log in logs}
    return "\n".join("\n".join([f"--- {log}", *end]) for log, end in ends.items())


def _never_reuse_trigger_ids(database: Path) -> None:
    """
    Make SQLite never use the id of a trigger twice, as other databases do by default.

    SQLite gives the id of a deleted trigger to the next one. A triggerer that has not noticed the deletion
    yet keeps the old trigger, so no trigger waits for the new task.
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        made = connection.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'trigger' ORDER BY type DESC"
        )
        statements = [sql for (sql,) in made if sql]
        connection.execute('DROP TABLE "trigger"')
        for statement in statements:
            connection.execute(statement.replace("PRIMARY KEY (id)", "PRIMARY KEY (id AUTOINCREMENT)"))
