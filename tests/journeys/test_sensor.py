# SPDX-License-Identifier: Apache-2.0
"""Sensors that start in the triggerer, on a real scheduler, use no worker until the execution has ended."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.journey import ENDLESS, RESULT_KEYS, Journey

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.local_airflow import LocalAirflow

LIMIT = 60.0
"""The timeout of the sensor that has one."""


def sensors(journey: Journey) -> dict[str, Any]:
    """Return the task instances of the sensors, by the name of the task."""
    found = journey.airflow.task_instances(journey.dag_id, journey.run_id)
    return {it["task_id"]: it for it in found if it["task_id"] != "first"}


def logs(journey: Journey, task_id: str) -> list[Path]:
    """Return the logs of a task's only try, that of a worker before those of triggerers."""
    folder = (
        journey.airflow.home
        / "logs"
        / f"dag_id={journey.dag_id}"
        / f"run_id={journey.run_id}"
        / f"task_id={task_id}"
    )
    return sorted(folder.rglob("attempt=1.log*"))


def time_of(log: Path, text: str) -> datetime:
    """Return the time of the first line in a log that begins with a text."""
    lines = map(json.loads, log.read_text().splitlines())
    return next(datetime.fromisoformat(it["timestamp"]) for it in lines if it["event"].startswith(text))


@pytest.mark.timeout(
    420, func_only=True
)  # an outage that outlasts a timeout of 60 s, and two slow starts of a triggerer
@pytest.mark.xdist_group("stopped-airflow")
def test_a_sensor_uses_no_worker_before_the_end_and_keeps_its_deadline_over_a_restart(
    own_airflow: LocalAirflow, own_journey: Journey
) -> None:
    journey = own_journey
    journey.start("awaiting", ENDLESS)

    def all_wait() -> bool:
        found = sensors(journey).values()
        return len(found) == 4 and all(it["state"] == "deferred" for it in found) and bool(journey.link)

    journey.wait_until(all_wait, "all sensors to wait")
    journey.wait_until(lambda: len(logs(journey, "scarce")) == 2, "a worker to start the task that needs one")
    for task_id in ("run", "limited"):
        task = sensors(journey)[task_id]
        assert (task["pid"], task["queued_when"], task["try_number"]) == (None, None, 1)
        assert [".trigger." in it.name for it in logs(journey, task_id)] == [True]
    assert "attempt=1.log" in [it.name for it in logs(journey, "mapped")]

    own_airflow.triggerer.kill()
    began = datetime.fromisoformat(sensors(journey)["limited"]["start_date"]).timestamp()
    time.sleep(max(0.0, began + LIMIT - time.time()))
    own_airflow.triggerer.start()
    journey.wait_until(lambda: sensors(journey)["limited"]["state"] == "failed", "its timeout")
    _, _, second = logs(journey, "limited")
    # The triggerer starts slowly, but then the sensor polls once.
    assert (time_of(second, "Trigger fired") - time_of(second, "Execution")).total_seconds() < LIMIT / 4
    log = journey.airflow.task_log(journey.dag_id, journey.run_id, "limited")
    assert "did not end within timeout (60 s) and was not cancelled" in log
    assert "run minutes: inProgress (execution" in log

    journey.wait_for_poll()
    journey.let_it_complete()
    assert journey.wait_for_end() == "failed"  # because of the limited one
    assert {name: it["state"] for name, it in sensors(journey).items() if name != "limited"} == dict.fromkeys(
        ("run", "scarce", "mapped"), "success"
    )
    assert journey.result.keys() == RESULT_KEYS
    assert journey.result["status"] == "completed"
    assert (journey.task["try_number"], len(logs(journey, "run"))) == (1, 3)
    assert journey.cancelled() == []
