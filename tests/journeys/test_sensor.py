# SPDX-License-Identifier: Apache-2.0
"""Sensors that begin in the triggerer, on a real scheduler: no worker, until there is something to return."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Script
from tests.support.journey import FOR_EVER, RESULT_KEYS, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.local_airflow import LocalAirflow

LIMIT = 60.0
"""The timeout of the sensor that has one."""


def sensors(stage: Stage) -> dict[str, Any]:
    """Return the task instances of the sensors, by the name of the task."""
    found = stage.airflow.task_instances(stage.dag_id, stage.run_id)
    return {it["task_id"]: it for it in found if it["task_id"] != "first"}


def logs(stage: Stage, task_id: str) -> list[Path]:
    """Return the logs of a task's only try, a worker's before those of triggerers."""
    folder = stage.home / "logs" / f"dag_id={stage.dag_id}" / f"run_id={stage.run_id}" / f"task_id={task_id}"
    return sorted(folder.rglob("attempt=1.log*"))


def wrote(log: Path, text: str) -> datetime:
    """Return when the first line that begins with a text was written into a log."""
    lines = map(json.loads, log.read_text().splitlines())
    return next(datetime.fromisoformat(it["timestamp"]) for it in lines if it["event"].startswith(text))


def let_it_complete(stage: Stage) -> None:
    """Give the execution that would never end an end in the near future."""
    backend = stage.losant.backend
    with backend.lock:
        for execution in backend.executions(stage.notebook_id):
            backend.put(execution.apply(Script(notebook=backend.clock() - execution.queued_at + 1)))


@pytest.mark.timeout(420)  # as long as an outage has to be, and a triggerer's slow first trigger, twice
def test_a_sensor_takes_no_worker_before_the_end_and_keeps_its_deadline_over_a_restart(
    airflow: LocalAirflow, lone_stage: Stage
) -> None:
    stage = lone_stage
    stage.play("awaiting", FOR_EVER)

    def all_wait() -> bool:
        found = sensors(stage).values()
        return len(found) == 4 and all(it["state"] == "deferred" for it in found) and bool(stage.link)

    stage.wait_until(all_wait, "all sensors to wait")
    stage.wait_until(lambda: len(logs(stage, "scarce")) == 2, "a worker to begin what it has to")
    for task_id in ("run", "limited"):
        task = sensors(stage)[task_id]
        assert (task["pid"], task["queued_when"], task["try_number"]) == (None, None, 1)
        assert [".trigger." in it.name for it in logs(stage, task_id)] == [True]
    assert "attempt=1.log" in [it.name for it in logs(stage, "mapped")]

    airflow.triggerer.kill()
    began = datetime.fromisoformat(sensors(stage)["limited"]["start_date"]).timestamp()
    time.sleep(max(0.0, began + LIMIT - time.time()))
    airflow.triggerer.start()
    stage.wait_until(lambda: sensors(stage)["limited"]["state"] == "failed", "its time to be up")
    _, _, heir = logs(stage, "limited")
    # A triggerer takes long to begin, but then it has one look.
    assert (wrote(heir, "Trigger fired") - wrote(heir, "Execution")).total_seconds() < LIMIT / 4
    told = stage.airflow.task_log(stage.dag_id, stage.run_id, "limited")
    assert "had not ended (inProgress) when timeout (60 s) was over" in told

    stage.wait_until_watched()
    let_it_complete(stage)
    assert stage.end() == "failed"  # because of the limited one
    assert {name: it["state"] for name, it in sensors(stage).items() if name != "limited"} == dict.fromkeys(
        ("run", "scarce", "mapped"), "success"
    )
    assert stage.result.keys() == RESULT_KEYS
    assert stage.result["status"] == "completed"
    assert (stage.task["try_number"], len(logs(stage, "run"))) == (1, 3)
    assert stage.cancelled() == []
