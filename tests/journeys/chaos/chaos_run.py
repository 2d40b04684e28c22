# SPDX-License-Identifier: Apache-2.0
"""One chaos run: real tasks in a real Airflow, random failures, and what Losant saw in the end."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Any, Protocol

import requests

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.timestamps import format_timestamp
from tests.journeys.chaos.bookkeeping import GRACE, Findings, Task, TaskKey, compare
from tests.journeys.chaos.dags.chaos import ONE_TRY, SWEEP, WIDTH
from tests.journeys.chaos.executions import answered_markers, executions, requested_cancels
from tests.journeys.chaos.fault_schedule import HTTP_TIMEOUT, FaultSchedule
from tests.journeys.chaos.network_faults import NetworkFaultSchedule
from tests.journeys.chaos.process_killer import ProcessKiller
from tests.journeys.chaos.report import Plan, Report, format_counts
from tests.support.airflow_api import FINAL_RUN_STATES
from tests.support.airflow_connection import connection
from tests.support.local_airflow import LocalAirflow
from tests.support.network import BalancerRequest, Network
from tests.support.postgres import best_database

DAGS = Path(__file__).parent / "dags"
DAY = 86_400.0
"""Seconds."""
STEP_INTERVAL = 0.05
"""Seconds between two steps of the fault schedule and the process killer."""
CHECK_INTERVAL = 2.0
"""Seconds between two checks for whether all DAG runs have ended."""
LOG_INTERVAL = 15.0
"""Seconds between two lines about the progress."""
SWEEP_TIMEOUT = 120.0
"""Seconds that the orphan sweep at the end may take."""

NOTEBOOKS = (
    Script(notebook=0.2),
    Script(queue=1.0, notebook=3.0),
    Script(queue=0.5, inputs=0.5, notebook=12.0, outputs=0.5),
)
"""From one that ends before its first poll to one that runs longer than every fault."""

ENVIRONMENT = {
    "AIRFLOW__CORE__PARALLELISM": "12",
    # Airflow notices the death of a supervisor or triggerer only by its missing heartbeat.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


class Killer(Protocol):
    """Kills processes of Airflow while tasks run."""

    deaths: Counter[str]
    hit_tasks: set[str]
    """IDs of the task instances whose process, or the supervisor of it, got a signal of its own."""

    def step(self, requests: Sequence[BalancerRequest], now: float) -> None:
        """Kill what is due, and start again what is to come back."""

    def finish(self) -> None:
        """Leave Airflow in a state in which it can be stopped."""


Setup = Callable[[ExitStack, Path, Network, Plan], tuple[LocalAirflow, Killer]]
"""Starts an Airflow, which is stopped with the stack, and returns what kills its processes."""


def network_environment(network: Network) -> dict[str, str]:
    """Return the environment of an Airflow in a network, whose own traffic on this machine bypasses it."""
    return network.environment | dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")


def single_host(stack: ExitStack, home: Path, network: Network, plan: Plan) -> tuple[LocalAirflow, Killer]:
    """Start an Airflow with LocalExecutor; any of its processes may be killed at any time."""
    database = stack.enter_context(best_database())
    environment = ENVIRONMENT | network_environment(network)
    airflow = stack.enter_context(LocalAirflow(home, DAGS, env=environment, sql_alchemy_conn=database))
    return airflow, ProcessKiller(airflow, (network.proxy or network.balancer).port, plan.seed)


def run_chaos(plan: Plan, log: Callable[[str], None] = print, setup: Setup = single_host) -> Report:
    """Run real tasks while Losant, the network and Airflow's processes fail; count executions in Losant."""
    started = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="losant-chaos-"))
    with ExitStack() as stack:
        cleanup = stack.enter_context(ExitStack())
        cleanup.callback(shutil.rmtree, home, ignore_errors=True)
        losant = stack.enter_context(Emulator())
        network = stack.enter_context(Network(losant.url, plan.network))
        airflow, killer = setup(stack, home, network, plan)
        run = ChaosRun(plan, losant, network, airflow, killer)
        try:
            findings = run.carry_out(log)
        except BaseException as error:
            cleanup.pop_all()  # keeps the logs
            error.add_note(f"The logs are in {home / 'logs'}")
            raise
        if not findings.is_clean:
            cleanup.pop_all()
        return Report(
            plan=plan,
            findings=findings,
            faults=run.schedule.faults,
            network_faults=run.network_schedule.faults,
            pairs=run.network_schedule.pairs,
            deaths=killer.deaths,
            cancels=sum(it.operation == "notebook.cancelExecution" for it in losant.requests),
            seconds=time.monotonic() - started,
            evidence=None if findings.is_clean else home / "logs",
        )


def execution_of_the_day_before(now: float) -> dict[str, Any]:
    """
    Return an entry of the execution log that is older than the run.

    Without one, a log that has exactly 50, 100 or 200 entries may be cut off at the beginning of the run, and
    no retry can conclude that it has no execution. Notebooks that have a history do not meet that.
    """
    queued, execution_id = now - DAY, object_id(now - DAY)
    return {
        "id": execution_id,
        "notebookExecutionId": execution_id,
        "status": "completed",
        "runQueuedAt": format_timestamp(queued),
        "outputsCompletedAt": format_timestamp(queued + 1.0),
    }


class ChaosRun:
    """
    A plan, carried out.

    :param losant: Its requests fail as :attr:`schedule` says.
    :param network: It breaks as :attr:`network_schedule` says.
    :param airflow: Its processes are killed by the killer.
    """

    def __init__(
        self, plan: Plan, losant: Emulator, network: Network, airflow: LocalAirflow, killer: Killer
    ) -> None:
        self.schedule = FaultSchedule(losant, plan.seed, plan.probabilities)
        self.network_schedule = NetworkFaultSchedule(
            network.balancer, self.schedule, plan.seed, plan.network_probabilities
        )
        self._killer = killer
        self._plan = plan
        self._losant = losant
        self._network = network
        self._airflow = airflow
        self._seen = 0
        self._dag_runs: list[tuple[str, str]] = []
        self._notebooks = [losant.add_notebook(name=f"chaos {number}") for number in range(len(NOTEBOOKS))]
        for notebook_id, script in zip(self._notebooks, NOTEBOOKS, strict=True):
            losant.script(notebook_id, script)
            losant.add_log_entry(notebook_id, execution_of_the_day_before(losant.backend.clock()))

    def carry_out(self, log: Callable[[str], None]) -> Findings:
        """Start the tasks, let things fail until all tasks have ended, and compare both sides."""
        with ExitStack() as stack:
            stack.callback(self._killer.finish)
            self._start_dag_runs()
            until = time.monotonic() + self._plan.limit
            next_check = next_log = 0.0
            has_ended = False
            while not has_ended and (now := time.monotonic()) < until:
                self._step(now)
                if now >= next_check:
                    next_check, has_ended = now + CHECK_INTERVAL, self._has_ended()
                if now >= next_log:
                    next_log = now + LOG_INTERVAL
                    log(self._progress())
                time.sleep(STEP_INTERVAL)
            self.network_schedule.stop()
            self.schedule.end_lag()
            time.sleep(GRACE)
            to_cancel = requested_cancels(self._network.balancer.requests)
            if self._plan.runs_with_one_try:
                self._sweep()
        answered = answered_markers(self._network.balancer.requests, self._losant.requests)
        found = executions(self._losant.backend, self._notebooks, answered, to_cancel)
        return compare(found, self._tasks())

    def _start_dag_runs(self) -> None:
        fields = connection(self._losant, timeout=HTTP_TIMEOUT) | {"host": self._network.base_url}
        self._airflow.add_connection("losant_default", **fields)
        dag_ids = ["chaos_deferrable" if mode else "chaos_waiting" for mode in self._plan.deferrable]
        for dag_id in (*dag_ids, *(f"{dag_id}{ONE_TRY}" for dag_id in dag_ids), SWEEP):
            self._airflow.wait_for_dag(dag_id)
            self._airflow.unpause(dag_id)
        with_one_try = [f"{dag_id}{ONE_TRY}" for dag_id in dag_ids]
        for kind, runs in ((dag_ids, self._plan.runs), (with_one_try, self._plan.runs_with_one_try)):
            for number in range(-(-runs // WIDTH)):
                dag_id = kind[number % len(kind)]
                self._trigger(dag_id, run_id := f"chaos-{number}")
                self._dag_runs.append((dag_id, run_id))

    def _sweep(self) -> None:
        """Let the orphan sweep do its work, now that nothing fails any more."""
        self._losant.clear_faults()
        self._trigger(SWEEP, "sweep")
        state = self._airflow.wait_for_run(SWEEP, "sweep", timeout=SWEEP_TIMEOUT)
        if state != "success":
            raise RuntimeError("The orphan sweep has failed")

    def _trigger(self, dag_id: str, run_id: str) -> None:
        """Start a DAG run; try again, because SQLite may be locked while the first ones start."""
        for is_last in (*[False] * 9, True):
            try:
                self._airflow.trigger(dag_id, conf={"notebooks": self._notebooks}, run_id=run_id)
            except requests.HTTPError as error:
                if error.response.status_code == HTTPStatus.CONFLICT:
                    return  # the previous attempt had succeeded
                if is_last or error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                time.sleep(1)
            else:
                return

    def _step(self, now: float) -> None:
        new = self._network.balancer.requests[self._seen :]
        self._seen += len(new)
        self.schedule.step((), now)  # the network's schedule asks it about each request
        self.network_schedule.step(now)
        self._killer.step(new, now)

    def _has_ended(self) -> bool:
        try:
            return all(self._airflow.dag_run(*it)["state"] in FINAL_RUN_STATES for it in self._dag_runs)
        except requests.RequestException:  # the api-server may be slow meanwhile; ask again
            return False

    def _progress(self) -> str:
        try:
            states = format_counts(Counter(str(it["state"]) for it in self._task_instances()))
        except requests.RequestException as error:
            states = f"unknown ({type(error).__name__})"
        return f"tasks: {states}; processes killed: {self._killer.deaths.total()}"

    def _task_instances(self) -> Iterator[dict[str, Any]]:
        for dag_id, run_id in self._dag_runs:
            yield from self._airflow.task_instances(dag_id, run_id)

    def _tasks(self) -> Iterator[Task]:
        for it in self._task_instances():
            key: TaskKey = (it["dag_id"], it["dag_run_id"], it["map_index"])
            ended = it["end_date"]
            is_final = it["state"] in ("success", "failed")
            yield Task(
                key=key,
                state=str(it["state"]),
                try_number=it["try_number"],
                ended=datetime.fromisoformat(ended).timestamp() if is_final and ended else inf,
                result=self._airflow.xcom(key[0], key[1], it["task_id"], map_index=key[2]),
                has_one_try=key[0].endswith(ONE_TRY),
                was_killed=it["id"] in self._killer.hit_tasks,
            )
