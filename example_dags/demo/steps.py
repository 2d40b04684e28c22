# SPDX-License-Identifier: Apache-2.0
"""The steps of the demo."""

from __future__ import annotations

import csv
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from example_dags.demo import checks, lineage
from tests.support.airflow_api import FINAL_RUN_STATES
from tests.support.progress import Step

if TYPE_CHECKING:
    from pathlib import Path

    from example_dags.demo.losant import LocalLosant
    from tests.support.airflow_api import AirflowApi
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
    with Step("Running the DAGs") as step:
        while time.monotonic() < deadline:
            states = [airflow.dag_run(dag_id, run_id)["state"] for dag_id, run_id in runs.items()]
            step.note(_progress(airflow, losant, runs[checks.REPORT_DAG]))
            if FINAL_RUN_STATES.issuperset(states):
                return runs
            time.sleep(1)
    raise TimeoutError(f"The runs have not ended within {TIMEOUT:.0f} s.")


def read_reports(airflow: AirflowApi, runs: dict[str, str]) -> list[Report]:
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


def check_values(
    airflow: AirflowApi, dag_id: str, run_id: str, deviations: float = checks.DEVIATIONS
) -> list[str]:
    """
    Check what the notebooks of the chain have handed on.

    :param dag_id: The example, or a variant of it.
    :param deviations: The DAG's parameter.
    """
    states = {it["task_id"]: it["state"] for it in airflow.task_instances(dag_id, run_id)}
    found = {
        task_id: airflow.xcom(dag_id, run_id, task_id, key="values") for task_id in checks.VALUES_NOTEBOOKS
    }
    return checks.values_problems(found, states, deviations)


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
    """Print the tasks, the sites with their reports, and the files."""
    ended, failed = _table("Task", "Of", "State"), []
    for dag_id, run_id in runs.items():
        for instance in airflow.task_instances(dag_id, run_id):
            site = instance["rendered_map_index"] or ""
            ended.add_row(f"{dag_id}.{instance['task_id']}", site, instance["state"])
            if instance["state"] == "failed":
                failed.append(_end_of_log(airflow, instance))
    sites = _table("Site", "Status", "Energy", "Took")
    for report in reports:
        outcome = report.outcome or {"status": "no result", "durations": {}}
        seconds = outcome["durations"].get("total")
        energy = _energy(results / report.site / checks.FILES[1])
        sites.add_row(report.site, outcome["status"], energy, "" if seconds is None else f"{seconds:.0f} s")
    for table in (ended, sites):
        print()
        Console().print(table)
    print(*failed, sep="\n")
    for path in sorted([*results.rglob("*.*"), *(results.parent / "landing").rglob("*.*")]):
        print(f"  {path.as_uri()}")  # in a line of its own, so that a terminal makes a link of it
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
        wanted |= dict.fromkeys(checks.VALUES_NOTEBOOKS.values(), 1)
        problems += check_values(airflow, checks.VALUES_DAG, runs[checks.VALUES_DAG])
        problems += lineage.problems(results.parent / "lineage", executions=wanted)
    problems += checks.request_problems(losant.requests(), executions=wanted)
    secrets = {"API token": losant.token, "URL of a result file": losant.files_url}
    for folder in (airflow.home, results.parent / "lineage"):
        problems += checks.leak_problems(secrets, folder)
    return problems


def _table(*columns: str) -> Table:
    """Return a table without rows that fits into a terminal."""
    return Table(*columns, box=None, padding=(0, 1), pad_edge=True, header_style="bold")


def _energy(energy_per_hour: Path) -> str:
    """Return the energy of a day, from the file that the notebook has written."""
    if not energy_per_hour.exists():
        return ""
    with energy_per_hour.open(newline="") as hours:
        return f"{sum(float(hour['energyKwh']) for hour in csv.DictReader(hours)):,.0f} kWh"


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
