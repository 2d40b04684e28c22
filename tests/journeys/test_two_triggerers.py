# SPDX-License-Identifier: Apache-2.0
"""Waits move between two triggerers when one is killed or stopped; executions are not cancelled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from tests.journeys.chaos.chaos_run import DAGS
from tests.journeys.chaos.dags.chaos import WIDTH
from tests.support.airflow_connection import connection
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database, execute
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Process

DAG_ID = "chaos_deferrable"
MOVE_TIMEOUT = 60.0
"""Seconds within which waits have moved. The first trigger alone may block a triggerer for 15 seconds."""
ENVIRONMENT = {"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6"}
CALLS_ON_KILL_WHEN_MOVED = {"3.3.0", "3.3.1", "3.3.2"}
"""Airflows that call a trigger's ``on_kill`` when it only moves (apache/airflow#73454)."""


@pytest.fixture(scope="module")
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with best_database() as url:
        if url is None:
            pytest.skip("needs PostgreSQL's programs (Debian: postgresql)")
        yield url


@pytest.fixture(scope="module")
def airflow(
    database: str, losant: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """Yield an Airflow with two triggerers; more than one needs a real database."""
    home = tmp_path_factory.mktemp("two-triggerers")
    with LocalAirflow(home, DAGS, env=ENVIRONMENT, sql_alchemy_conn=database, triggerers=2) as running:
        running.add_connection("losant_default", **connection(losant))
        yield running


def start(triggerer: Process, database: str) -> int:
    """Start a triggerer and return the id of its job, by which Airflow assigns waits to it."""
    newest = "SELECT max(id) FROM job WHERE job_type = 'TriggererJob'"
    ((before,),) = execute(database, newest)
    triggerer.start()

    def new_job() -> int | None:
        ((now,),) = execute(database, newest)
        return int(now) if now != before else None

    return wait_for(new_job, what=f"{triggerer.name} to report", timeout=MOVE_TIMEOUT)


def wait_until_with(job: int, database: str, losant: Emulator, notebook_id: str) -> None:
    """Wait until one healthy triggerer has all waits, and polls for them."""
    query = (
        "SELECT DISTINCT triggerer_id, now() - latest_heartbeat < interval '2 seconds'"
        " FROM trigger LEFT JOIN job ON job.id = triggerer_id"
    )
    wait_for(
        lambda: execute(database, query) == [(job, True)],
        what=f"the waits to be with {job}",
        timeout=MOVE_TIMEOUT,
    )
    polls = seen(losant, notebook_id, "notebook.logs")
    wait_for(
        lambda: seen(losant, notebook_id, "notebook.logs") >= polls + 2,
        what="polls of the waits",
        timeout=MOVE_TIMEOUT,
    )


def start_waits(airflow: LocalAirflow, losant: Emulator) -> tuple[str, str]:
    """Start executions that never end, and wait until all their tasks are deferred."""
    notebook_id = losant.add_notebook(name="two triggerers")
    losant.script(notebook_id, Script(ending="hang"))
    airflow.wait_for_dag(DAG_ID)
    airflow.unpause(DAG_ID)
    run_id = airflow.trigger(DAG_ID, conf={"notebooks": [notebook_id]})

    def all_deferred() -> bool:
        return [it["state"] for it in airflow.task_instances(DAG_ID, run_id)] == ["deferred"] * WIDTH

    wait_for(all_deferred, what="all tasks to be deferred", timeout=120)
    return run_id, notebook_id


def let_all_complete(losant: Emulator, notebook_id: str) -> None:
    """Let the endless executions complete soon."""
    with losant.backend.lock:
        for execution in losant.backend.executions(notebook_id):
            past = losant.backend.clock() - execution.queued_at
            losant.backend.put(execution.apply(Script(notebook=past + 1)))


def left_running(job: int, home: Path) -> int:
    """Count the waits for which a triggerer called ``on_kill`` without effect."""
    logs = (home / "logs").rglob(f"*.trigger.{job}.log")
    return sum("its task is deferred" in log.read_text() for log in logs)


def seen(losant: Emulator, notebook_id: str, operation: str) -> int:
    return sum(it.operation == operation and notebook_id in it.path for it in losant.requests)


@pytest.mark.xdist_group("stopped-airflow")
@pytest.mark.timeout(420, func_only=True)  # moves the waits three times
def test_waits_that_move_between_triggerers_are_never_cancelled_and_end_in_success(
    airflow: LocalAirflow, losant: Emulator, database: str
) -> None:
    one, other = airflow.triggerers
    other.kill()
    run_id, notebook_id = start_waits(airflow, losant)

    # Killed: the waits move from one to the other.
    job_of_other = start(other, database)
    one.kill()
    wait_until_with(job_of_other, database, losant, notebook_id)
    # Stopped by SIGSTOP: they move from the other to one, and back.
    job_of_one = start(one, database)
    for stalled, job, new_owner in ((other, job_of_other, job_of_one), (one, job_of_one, job_of_other)):
        stalled.signal(signal.SIGSTOP)
        wait_until_with(new_owner, database, losant, notebook_id)
        stalled.signal(signal.SIGCONT)
        if version("apache-airflow") in CALLS_ON_KILL_WHEN_MOVED:
            wait_for(
                lambda job=job: left_running(job, airflow.home) == WIDTH,  # type: ignore[misc]
                what=f"Airflow to call on_kill of all waits in {stalled.name}",
                timeout=MOVE_TIMEOUT,
            )
    let_all_complete(losant, notebook_id)

    assert airflow.wait_for_run(DAG_ID, run_id, timeout=120) == "success"
    assert [it["try_number"] for it in airflow.task_instances(DAG_ID, run_id)] == [1] * WIDTH
    results = [airflow.xcom(DAG_ID, run_id, "run", map_index=index) for index in range(WIDTH)]
    assert {it["status"] for it in results} == {"completed"}
    assert seen(losant, notebook_id, "notebook.execute") == WIDTH
    assert seen(losant, notebook_id, "notebook.cancelExecution") == 0
