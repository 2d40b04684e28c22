# SPDX-License-Identifier: Apache-2.0
"""Waits move between two triggerers when one is killed or stopped; executions are not cancelled."""

from __future__ import annotations

import signal
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.journeys.dags.journeys import SITES
from tests.support.journey import ENDLESS, Journey
from tests.support.postgres import execute
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow
    from tests.support.processes import Process

MOVE_TIMEOUT = 120.0
"""Seconds within which waits have moved. The first trigger alone may block a triggerer for 15 seconds."""
CALLS_ON_KILL_WHEN_MOVED = {"3.3.0", "3.3.1", "3.3.2"}
"""Airflows that call a trigger's ``on_kill`` when it only moves (apache/airflow#73454)."""


@pytest.fixture
def database(own_airflow: LocalAirflow) -> str:
    """Return the URL of the metadata database; several triggerers need a real one."""
    if not own_airflow.database.startswith("postgresql"):
        pytest.skip("needs PostgreSQL's programs (Debian: postgresql)")
    return own_airflow.database


def start(triggerer: Process, database: str) -> int:
    """Start a triggerer and return the id of its job, by which Airflow assigns waits to it."""
    newest = "SELECT max(id) FROM job WHERE job_type = 'TriggererJob'"
    ((before,),) = execute(database, newest)
    triggerer.start()

    def new_job() -> int | None:
        ((now,),) = execute(database, newest)
        return int(now) if now != before else None

    return wait_for(new_job, what=f"{triggerer.name} to report", timeout=MOVE_TIMEOUT)


def wait_until_with(job: int, database: str, journey: Journey) -> None:
    """Wait until one healthy triggerer has all waits, and polls for them."""
    query = (
        "SELECT DISTINCT triggerer_id, now() - latest_heartbeat < interval '2 seconds'"
        " FROM trigger JOIN task_instance ON trigger_id = trigger.id LEFT JOIN job ON job.id = triggerer_id"
        " WHERE run_id = :run_id"
    )
    wait_for(
        lambda: execute(database, query, run_id=journey.run_id) == [(job, True)],
        what=f"the waits to be with {job}",
        timeout=MOVE_TIMEOUT,
    )
    polls = len(journey.requests_to("logs"))
    wait_for(
        lambda: len(journey.requests_to("logs")) >= polls + 2,
        what="polls of the waits",
        timeout=MOVE_TIMEOUT,
    )


def has_left_all_running(journey: Journey, job: int) -> bool:
    """Return whether a triggerer has called ``on_kill`` of all waits, without effect."""
    logs = journey.airflow.home / "logs" / f"dag_id={journey.dag_id}" / f"run_id={journey.run_id}"
    found = [log.read_text() for log in logs.rglob(f"*.trigger.{job}.log")]
    return sum("its task is deferred" in text for text in found) == len(SITES)


@pytest.mark.xdist_group("stopped-airflow")
@pytest.mark.timeout(600, func_only=True)  # moves the waits three times
def test_waits_that_move_between_triggerers_are_never_cancelled_and_end_in_success(
    own_airflow: LocalAirflow, own_journey: Journey, database: str
) -> None:
    journey = own_journey
    with own_airflow.another_triggerer() as other:
        one = own_airflow.triggerer
        journey.start("mapped", ENDLESS, waits=False)
        wait_for(lambda: states(journey) == ["deferred"] * len(SITES), what="all tasks to wait", timeout=120)
        # A test before this one may have restarted this triggerer. From its first poll on, it has reported.
        wait_for(lambda: journey.requests_to("logs"), what="a poll of the waits", timeout=MOVE_TIMEOUT)

        # Killed: the waits move from one to the other.
        job_of_other = start(other, database)
        one.kill()
        wait_until_with(job_of_other, database, journey)
        # Stopped by SIGSTOP: they move from the other to one, and back.
        job_of_one = start(one, database)
        for stalled, job, new_owner in ((other, job_of_other, job_of_one), (one, job_of_one, job_of_other)):
            stalled.signal(signal.SIGSTOP)
            wait_until_with(new_owner, database, journey)
            stalled.signal(signal.SIGCONT)
            if version("apache-airflow") in CALLS_ON_KILL_WHEN_MOVED:
                wait_for(
                    partial(has_left_all_running, journey, job),
                    what=f"Airflow to call on_kill of all waits in {stalled.name}",
                    timeout=MOVE_TIMEOUT,
                )
        journey.let_it_complete()

        assert journey.wait_for_end() == "success"
    tasks = own_airflow.task_instances(journey.dag_id, journey.run_id)
    assert [it["try_number"] for it in tasks] == [1] * len(SITES)
    assert journey.statuses == ["completed"] * len(SITES)
    results = [
        own_airflow.xcom(journey.dag_id, journey.run_id, "run", map_index=index)["execution_id"]
        for index in range(len(SITES))
    ]
    assert sorted(results) == sorted(it["id"] for it in journey.executions)
    assert journey.requests_to("cancelExecution") == []


def states(journey: Journey) -> list[str]:
    """Return the states of the tasks."""
    return [it["state"] for it in journey.airflow.task_instances(journey.dag_id, journey.run_id)]
