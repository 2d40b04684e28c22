# SPDX-License-Identifier: Apache-2.0
"""What Airflow tells nobody, the orphan sweep finds; and it finds nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.emulator import Fault
from tests.support.airflow_connection import execute
from tests.support.journey import FOR_EVER, Stage, settle

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.local_airflow import LocalAirflow


class Told:
    """A run of one story on a stage that several stories share."""

    def __init__(self, stage: Stage, story: str, state: str) -> None:
        self.stage = stage
        before = {it["id"] for it in stage.executions}
        stage.play(story, FOR_EVER)
        self.dag_id, self.run_id = stage.dag_id, stage.run_id
        (new,) = stage.wait_until(
            lambda: [it for it in stage.executions if it["id"] not in before], f"the execution of {story}"
        )
        self.execution_id = new["id"]
        stage.wait_for_state(state)

    def mark(self, state: str) -> None:
        """Mark the task, as its button does."""
        self.stage.airflow.set_task_state(self.dag_id, self.run_id, "run", state)

    def mark_of(self) -> dict[str, Any]:
        """Return the mark in the execution's context."""
        (context,) = (it["templateContext"] for it in self.stage.executions if it["id"] == self.execution_id)
        found: dict[str, Any] = json.loads(context)["airflow"]
        return found


def sweep(stage: Stage, dag_id: str = "story_sweep") -> dict[str, Any]:
    """Run a DAG that sweeps, and return its report."""
    stage.play(dag_id.removeprefix("story_"), FOR_EVER, waits=False)
    assert stage.end() == "success", stage.log()
    report: dict[str, Any] = stage.result
    return report


def statuses(stage: Stage) -> dict[str, str]:
    """Map the id of each execution to its status."""
    return {it["id"]: it["status"] for it in stage.executions}


def execute_as(stage: Stage, mark: dict[str, Any] | None) -> str:
    """Start an execution as another Airflow would, or somebody without one."""
    options = {"templateContext": json.dumps({"airflow": mark})} if mark else {}
    return execute(stage.losant, stage.notebook_id, **options)


def test_the_sweep_leaves_alone_what_is_waited_for_what_may_outlive_its_task_and_what_others_started(
    stage: Stage,
) -> None:
    waiting = Told(stage, "waiting", "running")
    deferred = Told(stage, "deferred", "deferred")
    unawaited = Told(stage, "unawaited", "success")
    keeping = Told(stage, "keeping", "running")
    keeping.mark("failed")
    mark = waiting.mark_of()
    others = [
        execute_as(stage, mark | {"run_id": "manual__of_another_airflow"}),
        execute_as(stage, mark | {"id": f"{'0' * 20}.0"}),
        execute_as(stage, None),
    ]

    report = sweep(stage)

    assert report["cancelled"] == []
    assert report["checked"] == 7
    assert report["left"] == {
        "its task is running": 1,
        "its task is deferred": 1,
        "meant to outlive its task": 2,
        "of another Airflow": 2,
        "not started by Airflow": 1,
    }
    assert set(statuses(stage).values()) == {"inProgress"}
    assert stage.saw("cancelExecution") == []
    assert {unawaited.execution_id, keeping.execution_id, *others} <= statuses(stage).keys()
    for told in (waiting, deferred):
        told.mark("failed")


def test_an_execution_whose_cancel_was_lost_is_cancelled_by_the_sweep(stage: Stage) -> None:
    for story, state, attempts in (("waiting", "running", 1), ("deferred", "deferred", 3)):
        told = Told(stage, story, state)
        stage.wait_until_watched()
        stage.losant.inject("notebook.cancelExecution", Fault("server_error"), times=attempts)
        tried = len(stage.saw("cancelExecution"))
        told.mark("failed")
        stage.wait_until(
            lambda wanted=tried + attempts: len(stage.saw("cancelExecution")) == wanted,  # type: ignore[misc]
            "the cancel to be tried",
        )
        assert statuses(stage)[told.execution_id] == "inProgress"

    report = sweep(stage)

    assert sorted(report["cancelled"]) == sorted(statuses(stage))
    assert set(statuses(stage).values()) == {"canceled"}
    assert sorted(stage.cancelled()) == sorted(statuses(stage))
    assert sweep(stage)["checked"] == 0


def test_an_execution_that_is_young_is_left_in_peace(stage: Stage) -> None:
    told = Told(stage, "waiting", "running")
    stage.losant.inject("notebook.cancelExecution", Fault("server_error"))
    told.mark("failed")
    stage.wait_until(lambda: stage.saw("cancelExecution"), "the cancel to be tried")

    stage.play("sweep_patient", FOR_EVER, waits=False)

    assert stage.end() == "success"
    assert stage.result["left"] == {"too young": 1}
    assert statuses(stage)[told.execution_id] == "inProgress"


def test_the_example_sweeps_all_notebooks_of_the_connection(airflow: LocalAirflow, losant: Emulator) -> None:
    airflow.wait_for_dag("losant_orphan_sweep")
    airflow.unpause("losant_orphan_sweep")

    run_id = airflow.trigger("losant_orphan_sweep")

    assert airflow.wait_for_run("losant_orphan_sweep", run_id, timeout=60) == "success"
    report = airflow.xcom("losant_orphan_sweep", run_id, "sweep")
    assert set(report) == {"checked", "cancelled", "left"}
    looked = {it.path for it in losant.requests if it.headers["user-agent"].startswith("airflow-provider")}
    assert len([path for path in looked if path.endswith("/logs")]) >= 2


def test_a_task_marked_in_the_instant_it_defers_leaves_nothing_running_behind_a_sweep(stage: Stage) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=0.7))
    stage.play("deferred", FOR_EVER)
    stage.mark("failed")
    stage.wait_until(lambda: stage.executions, "an execution")
    assert stage.end() == "failed"
    settle()

    sweep(stage)

    assert stage.statuses == ["canceled"]
    assert stage.cancelled() == [stage.executions[0]["id"]]


def test_what_was_marked_or_cleared_while_no_triggerer_ran_is_cancelled_once_by_the_next_or_by_the_sweep(
    airflow: LocalAirflow, lone_stage: Stage
) -> None:
    stage = lone_stage
    airflow.triggerer.kill()
    try:
        failed, succeeded, cleared, left = (Told(stage, "deferred", "deferred") for _ in range(4))
        failed.mark("failed")
        succeeded.mark("success")
        # A paused DAG does not start the cleared task again, so its next try cannot heal this.
        pause(stage, "story_deferred", paused=True)
        stage.airflow.clear(cleared.dag_id, cleared.run_id, "run")
    finally:
        airflow.triggerer.start()
    stage.wait_until_watched()
    settle()

    report = sweep(stage)

    orphans = sorted(told.execution_id for told in (failed, succeeded, cleared))
    assert sorted(stage.cancelled()) == orphans
    # Its trigger is gone with the clear, so the next triggerer never hears of it.
    assert cleared.execution_id in report["cancelled"]
    assert report["left"] == {"its task is deferred": 1}
    assert statuses(stage)[left.execution_id] == "inProgress"
    left.mark("failed")
    pause(stage, "story_deferred", paused=False)


def pause(stage: Stage, dag_id: str, *, paused: bool) -> None:
    """Turn the switch of a DAG."""
    stage.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
