# SPDX-License-Identifier: Apache-2.0
"""
The Airflow of the journeys, and the process in which pytest's workers share one.

``python -m tests.journeys.shared_airflow FOLDER`` runs it until no worker uses it, as
``tests/support/shared_process.py`` explains.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from packaging.version import Version

from example_dags.demo.checks import EXAMPLES
from tests.support.airflow_2 import LocalAirflow2
from tests.support.airflow_versions import examples_beyond
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database
from tests.support.shared_process import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
AIRFLOW = Version(version("apache-airflow"))

FAST_DETECTION = {
    # Seconds until the triggers of a triggerer that was killed are given to another one.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    # Seconds between two checks for deferrals that have timed out.
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
}
# Airflow notices the death of a task's process by these only. Its default, five minutes, is long for a test.
FAST_DETECTION_3 = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
# A DAG file is parsed at once when it has changed, and rarely otherwise. Where assets are watched it has to
# be parsed again after its DAG was unpaused, so this is not for every Airflow of the tests.
RARE_PARSING = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300"}
XCOM_BACKEND = {"AIRFLOW__CORE__XCOM_BACKEND": "tests.journeys.failing_xcoms.FailingXCom"}
FAST_DETECTION_2 = {
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
    # Seconds for which a task may run on after it was marked successful.
    "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "2",
}


def local_airflow(
    home: Path, database: str | None, env: Mapping[str, str] | None = None, *, with_examples: bool = False
) -> LocalAirflow:
    """
    Make an Airflow with the DAGs of the journeys.

    :param home: An empty folder, for all its files.
    :param database: The address of its metadata database; None stands for an SQLite file.
    :param env: More environment for all components.
    :param with_examples: Whether it also has the examples, which take long to parse.
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "journeys").symlink_to(HERE / "dags")
    if with_examples:
        (dags / "examples").symlink_to(EXAMPLES)
        unknown = "\n".join(f"{name}.py" for name in examples_beyond(str(AIRFLOW)))
        (dags / ".airflowignore").write_text(unknown)
    is_2 = AIRFLOW.major < 3
    kind, settings = (
        (LocalAirflow2, FAST_DETECTION_2)
        if is_2
        else (LocalAirflow, FAST_DETECTION_3 | RARE_PARSING | XCOM_BACKEND)
    )
    return kind(home, dags, env=FAST_DETECTION | settings | dict(env or {}), sql_alchemy_conn=database)


def main(folder: Path) -> None:
    """Run an Airflow until no worker uses it."""
    signal.signal(signal.SIGTERM, _stop)
    home = Path(tempfile.mkdtemp(prefix="airflow-", dir=folder))
    with (
        Server(folder) as server,
        best_database() as database,
        local_airflow(home, database, with_examples=True) as airflow,
    ):
        server.serve(url=airflow.url, home=str(home), is_sqlite=database is None)


def _stop(*_: object) -> NoReturn:
    """Leave every ``with`` block, so that everything that was started is stopped."""
    raise SystemExit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
