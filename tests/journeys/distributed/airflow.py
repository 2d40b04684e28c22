# SPDX-License-Identifier: Apache-2.0
"""A distributed Airflow: tasks go through a message broker to several Celery workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.processes import Process

WORKERS = 2
ENVIRONMENT = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "3",
    # Seconds after which a message that a dead worker had received is delivered again.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "30",
    # Seconds after which a task is queued again whose message was lost.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


class DistributedAirflow(LocalAirflow):
    """
    Run an Airflow with two Celery workers and two triggerers while a ``with`` block lasts.

    :param broker: The address of Redis.
    :param sql_alchemy_conn: The metadata database, which also stores Celery's results.
    :param env: More environment for all components.
    """

    def __init__(
        self, home: Path, dags_folder: Path, *, broker: str, sql_alchemy_conn: str, env: Mapping[str, str]
    ) -> None:
        celery = {
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{sql_alchemy_conn}",
        }
        super().__init__(
            home,
            dags_folder,
            env=ENVIRONMENT | celery | dict(env),
            sql_alchemy_conn=sql_alchemy_conn,
            triggerers=2,
        )
        self.workers = [self._worker(number) for number in range(1, WORKERS + 1)]

    @property
    def components(self) -> list[Process]:
        """All processes of this Airflow."""
        return [*super().components, *self.workers]

    def _worker(self, number: int) -> Process:
        own = ("--celery-hostname", f"worker-{number}@%h", "--pid", str(self.home / f"worker-{number}.pid"))
        return self._process(
            f"worker-{number}", "celery", "worker", "--skip-serve-logs", "--without-gossip", *own
        )
