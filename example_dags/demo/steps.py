# SPDX-License-Identifier: Apache-2.0
"""The steps of the demo."""

from __future__ import annotations

import pprint
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from example_dags.demo import checks, lineage
from tests.support.airflow_api import FINAL_RUN_STATES
from tests.support.progress import Step

if TYPE_CHECKING:
    from pathlib import Path

    from example_dags.demo.losant import LocalLosant
    from tests.support.local_airflow import LocalAirflow

FLEET_DAG = "losant_fire_then_wait"
FLEET_NOTEBOOK = "67b3a90ce5b1a2000d6f5e37"
TIMEOUT = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """State and result of a mapped task."""

    site: str
    state: str
    outcome: dict[str, Any] | None


def run_dags(airflow: LocalAirflow, losant: LocalLosant, *more: str) -> dict[str, str]:
    """Run example DAGs to their end, and show the progress; return their run ids."""
    dag_ids = (checks.REPORT_DAG, FLEET_DAG, *more)
    for dag_id in dag_ids:
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)
    first, last = checks.DATA_INTERVAL
    runs = {
        dag_id: airflow.trigger(dag_id, logical_date=last, data_interval=(first, last)) for dag_id in dag_ids
    }
    if checks.APPROVE_DAG in runs:
        with Step("Approving the run that asks for it"):
            airflow.approve(checks.APPROVE_DAG, runs[checks.APPROVE_DAG], "approve", timeout=TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    with Step("Running the example DAGs") as step:
        while time.monotonic() < deadline:
            states = [airflow.dag_run(dag_id, run_id)["state"] for dag_id, run_id in runs.items()]
            step.note(_progress(airflow, losant, runs[checks.REPORT_DAG]))
            if FINAL_RUN_STATES.issuperset(states):
                return runs
            time.sleep(1)
    raise TimeoutError(f"The runs have not ended within {TIMEOUT:.0f} s.")


def read_reports(airflow: LocalAirflow, runs: dict[str, str]) -> list[Report]:
    """Read state and result of each mapped task."""
    place = (checks.REPORT_DAG, runs[checks.REPORT_DAG])
    return [
        Report(
            site=instance["rendered_map_index"] or f"map index {instance['map_index']}",
            state=instance["state"],
            outcome=airflow.xcom(*place, checks.REPORT_TASK, map_index=instance["map_index"]),
        )
        for instance in sorted(airflow.task_instances(*place), key=lambda it: it["map_index"])
    ]


def download(report: Report, folder: Path) -> list[str]:
    """Download the files of an execution with the hook, and check them."""
    from airflow_provider_losant.hooks.losant import LosantHook

    problems = checks.result_problems(report.site, report.outcome)
    if problems or report.outcome is None:
        return problems
    execution_id = report.outcome["execution_id"]
    LosantHook().download_outputs(checks.REPORT_NOTEBOOK, execution_id, folder)
    try:
        texts = [(folder / name).read_text() for name in checks.FILES]
    except FileNotFoundError as missing:
        return [f"{report.site}: {missing.filename} is missing"]
    return checks.report_problems(report.site, *texts)


def show(airflow: LocalAirflow, runs: dict[str, str], reports: list[Report], results: Path) -> None:
    """Print the states, results and files."""
    print("\nTask states")
    for dag_id, run_id in runs.items():
        for instance in airflow.task_instances(dag_id, run_id):
            site = instance["rendered_map_index"]
            name = f"{dag_id}.{instance['task_id']}" + (f" [{site}]" if site else "")
            print(f"  {name:60} {instance['state']}")
            if instance["state"] == "failed":
                print(_end_of_log(airflow, instance))
    for report in reports:
        print(f"\n{report.site} has returned")
        print(pprint.pformat(report.outcome, width=108, compact=True, sort_dicts=False))
    print("\nFiles")
    for path in sorted([*results.rglob("*.*"), *(results.parent / "landing").rglob("*.*")]):
        print(f"  {path}  ({path.stat().st_size:,} bytes)")
    if checks.DEPLOY_DAG in runs:
        lineage.show(lineage.final_events(results.parent / "lineage"))


def check(
    airflow: LocalAirflow, losant: LocalLosant, runs: dict[str, str], reports: list[Report], results: Path
) -> list[str]:
    """Carry out all checks of the demo, and return the problems."""
    problems = [
        f"{dag_id} ended as {state}"
        for dag_id, run_id in runs.items()
        if (state := airflow.dag_run(dag_id, run_id)["state"]) != "success"
    ]
    sites = sorted(checks.expected_energy())
    if sorted(report.site for report in reports) != sites:
        problems.append(f"sites: {[report.site for report in reports]}, not {sites}")
    for report in reports:
        problems += download(report, results / report.site)
    wanted = {checks.REPORT_NOTEBOOK: len(sites), FLEET_NOTEBOOK: 1}
    if checks.DEPLOY_DAG in runs:
        deployed = airflow.xcom(checks.DEPLOY_DAG, runs[checks.DEPLOY_DAG], "deploy") or {}
        wanted[deployed.get("notebook_id", "none deployed")] = len(sites)
        exported = airflow.xcom(checks.EXPORT_DAG, runs[checks.EXPORT_DAG], "deploy") or {}
        wanted[exported.get("notebook_id", "none exported")] = 1
        wanted[FLEET_NOTEBOOK] += 1  # the one that was approved
        problems += checks.stored_files_problems(results.parent / "landing", is_exported=True)
        problems += lineage.problems(results.parent / "lineage", executions=wanted)
    problems += checks.request_problems(losant.requests(), executions=wanted)
    secrets = {"API token": losant.token, "URL of a result file": losant.files_url}
    for folder in (airflow.home, results.parent / "lineage"):
        problems += checks.leak_problems(secrets, folder)
    return problems


def _end_of_log(airflow: LocalAirflow, instance: dict[str, Any]) -> str:
    """Return the end of a failed task's log."""
    place = (instance["dag_id"], instance["dag_run_id"], instance["task_id"])
    log = airflow.task_log(*place, try_number=instance["try_number"], map_index=instance["map_index"])
    return "\n".join(f"      {line[:300]}" for line in log.splitlines()[-12:])


def _progress(airflow: LocalAirflow, losant: LocalLosant, run_id: str) -> str:
    """Summarise the states of the sites' tasks and executions."""
    instances = airflow.task_instances(checks.REPORT_DAG, run_id)
    tasks = Counter(instance["state"] or "waiting" for instance in instances)
    return f"tasks: {_count(tasks)}; notebooks: {_count(losant.statuses(checks.REPORT_NOTEBOOK))}"


def _count(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.items()) or "none yet"
