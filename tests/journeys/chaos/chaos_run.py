# SPDX-License-Identifier: Apache-2.0
"""One storm: a real Airflow and a Losant, everything that befalls them, and the account at the end."""

from __future__ import annotations

import json
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

from airflow_provider_losant.emulator import Emulator, Request, Script
from tests.journeys.chaos.bookkeeping import GRACE, Account, Run, Task, TaskKey, settle
from tests.journeys.chaos.dags.chaos import WIDTH
from tests.journeys.chaos.fault_schedule import HTTP_TIMEOUT, Weather
from tests.journeys.chaos.process_killer import Reaper
from tests.journeys.chaos.report import Plan, Report, spell
from tests.support.airflow_api import FINAL_RUN_STATES
from tests.support.airflow_connection import connection
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database

DAGS = Path(__file__).parent / "dags"
TICK = 0.05
LOOK = 2.0
TELL = 15.0

NOTEBOOKS = (
    Script(notebook=0.2),
    Script(queue=1.0, notebook=3.0),
    Script(queue=0.5, inputs=0.5, notebook=6.0, outputs=0.5),
)
"""From one that is over before anybody looks to one that outlasts every fault."""

ENVIRONMENT = {
    "AIRFLOW__CORE__PARALLELISM": "12",
    # A dead supervisor or triggerer is noticed by nothing but its missing heartbeat.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


class Deaths(Protocol):
    """What ends processes of Airflow."""

    deaths: Counter[str]

    def turn(self, requests: Sequence[Request], now: float) -> None:
        """Let those die whose time has come."""

    def end(self) -> None:
        """Leave Airflow as it can be stopped."""


Scene = Callable[[ExitStack, Path, Emulator, Plan], tuple[LocalAirflow, Deaths]]
"""What begins an Airflow that ends with the stack, and tells who is going to die in it."""


def one_machine(ending: ExitStack, home: Path, losant: Emulator, plan: Plan) -> tuple[LocalAirflow, Deaths]:
    """Begin an Airflow whose scheduler runs the tasks itself, and in which anybody may die at any time."""
    database = ending.enter_context(best_database())
    airflow = ending.enter_context(LocalAirflow(home, DAGS, env=ENVIRONMENT, sql_alchemy_conn=database))
    return airflow, Reaper(airflow, losant.url, plan.seed)


def ride_out(plan: Plan, tell: Callable[[str], None] = print, scene: Scene = one_machine) -> Report:
    """Run real tasks while Losant and Airflow's processes fail at random; count what Losant saw of it."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="losant-chaos-"))
    with ExitStack() as ending:
        forget = ending.enter_context(ExitStack())
        forget.callback(shutil.rmtree, home, ignore_errors=True)
        losant = ending.enter_context(Emulator())
        airflow, deaths = scene(ending, home, losant, plan)
        storm = Storm(plan, losant, airflow, deaths)
        account = storm.pass_over(tell)
        if not account.is_clean:
            forget.pop_all()
        return Report(
            plan=plan,
            account=account,
            faults=storm.weather.faults,
            deaths=deaths.deaths,
            cancels=sum(it.operation == "notebook.cancelExecution" for it in losant.requests),
            seconds=time.monotonic() - began,
            evidence=None if account.is_clean else home / "logs",
        )


class Storm:
    """
    A plan carried out.

    :param losant: Spoiled by :attr:`weather`.
    :param airflow: Decimated by :attr:`reaper`.
    """

    def __init__(self, plan: Plan, losant: Emulator, airflow: LocalAirflow, reaper: Deaths) -> None:
        self.weather = Weather(losant, plan.seed, plan.odds)
        self.reaper = reaper
        self._plan = plan
        self._losant = losant
        self._airflow = airflow
        self._seen = 0
        self._dag_runs: list[tuple[str, str]] = []
        self._notebooks = [losant.add_notebook(name=f"chaos {number}") for number in range(len(NOTEBOOKS))]
        for notebook_id, script in zip(self._notebooks, NOTEBOOKS, strict=True):
            losant.script(notebook_id, script)

    def pass_over(self, tell: Callable[[str], None]) -> Account:
        """Begin, let things go wrong until all tasks have ended, and take the account."""
        with ExitStack() as ending:
            ending.callback(self.reaper.end)
            self._begin()
            until = time.monotonic() + self._plan.limit
            look_at = tell_at = 0.0
            is_over = False
            while not is_over and (now := time.monotonic()) < until:
                self._turn(now)
                if now >= look_at:
                    look_at, is_over = now + LOOK, self._is_over()
                if now >= tell_at:
                    tell_at = now + TELL
                    tell(self._progress())
                time.sleep(TICK)
            self.weather.clear_up()
            time.sleep(GRACE)
        return settle(self._runs(), self._tasks())

    def _begin(self) -> None:
        self._airflow.add_connection("losant_default", **connection(self._losant, timeout=HTTP_TIMEOUT))
        dag_ids = ["chaos_deferrable" if way else "chaos_waiting" for way in self._plan.deferrable]
        for dag_id in dag_ids:
            self._airflow.wait_for_dag(dag_id)
            self._airflow.unpause(dag_id)
        for number in range(-(-self._plan.runs // WIDTH)):
            dag_id = dag_ids[number % len(dag_ids)]
            self._trigger(dag_id, run_id := f"storm-{number}")
            self._dag_runs.append((dag_id, run_id))

    def _trigger(self, dag_id: str, run_id: str) -> None:
        """Begin a run, though SQLite may be locked for a moment while the first ones get going."""
        for is_last in (*[False] * 9, True):
            try:
                self._airflow.trigger(dag_id, conf={"notebooks": self._notebooks}, run_id=run_id)
            except requests.HTTPError as error:
                if error.response.status_code == HTTPStatus.CONFLICT:
                    return  # the try before had got through
                if is_last or error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                time.sleep(1)
            else:
                return

    def _turn(self, now: float) -> None:
        requests = self._losant.requests
        fresh, self._seen = requests[self._seen :], len(requests)
        self.weather.turn(fresh, now)
        self.reaper.turn(fresh, now)

    def _is_over(self) -> bool:
        try:
            return all(self._airflow.dag_run(*it)["state"] in FINAL_RUN_STATES for it in self._dag_runs)
        except requests.RequestException:  # an api-server in a storm may be late; ask again
            return False

    def _progress(self) -> str:
        try:
            states = spell(Counter(str(it["state"]) for it in self._task_instances()))
        except requests.RequestException as error:
            states = f"not known now ({type(error).__name__})"
        return f"tasks: {states}; deaths {self.reaper.deaths.total()}"

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
            )

    def _runs(self) -> Iterator[Run]:
        answered = {
            (mark["id"], mark["try_number"])
            for it in self._losant.requests
            if it.operation == "notebook.execute"
            and it.status == 200
            and (mark := _mark(it.body["templateContext"]))
        }
        with self._losant.backend.lock:
            executions = [
                it for notebook in self._notebooks for it in self._losant.backend.executions(notebook)
            ]
        now = self._losant.backend.clock()
        for it in executions:
            mark = _mark(it.template_context)
            is_over = it.is_over(now)
            ended = it.ended_at if is_over and it.ended_at is not None else inf
            yield Run(
                id=it.id,
                task=(mark["dag_id"], mark["run_id"], mark["map_index"]) if mark else None,
                try_number=mark.get("try_number", 0),
                queued=it.queued_at,
                stopped=ended if it.canceling_at is None else it.canceling_at,
                is_complete=is_over and it.ending == "completed",
                is_answered=(mark.get("id"), mark.get("try_number")) in answered,
            )


def _mark(template_context: str | None) -> dict[str, Any]:
    mark: dict[str, Any] = json.loads(template_context or "{}").get("airflow", {})
    return mark
