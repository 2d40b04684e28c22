# SPDX-License-Identifier: Apache-2.0
"""Run the task of each pair as Airflow would, with retries, and count its executions in Losant."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_losant.emulator import Script
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.journeys.chaos.bookkeeping import Findings, Task, compare
from tests.journeys.chaos.executions import answered_markers, executions
from tests.provider.fault_pairs import task_log
from tests.provider.tasks import Task as RunningTask
from tests.provider.tasks import TaskStateStore, Ti

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Request
    from tests.provider.fault_pairs.pairs import Pair
    from tests.provider.fault_pairs.surroundings import Host, Surroundings
    from tests.support.network import BalancerRequest

RETRIES: Final = 2
"""Airflow's retries of each task."""
ARGUMENTS: Final[dict[str, Any]] = {
    "poll_interval": 0.2,
    "timeout": 60,
    "max_poll_outage": 30,
    "max_log_lag": 6,
}
"""The log cannot be read, or lags, for less than ``max_log_lag``, as this argument promises."""
LATE: Final = 2.0
"""Seconds after the end of a task in which Losant may still process a request that was too slow."""


@dataclass(slots=True, kw_only=True)
class Run:
    """
    A pair, and what came of it.

    :param errors: How each failed try ended.
    """

    pair: Pair
    notebook: str
    started: float
    state: str = "failed"
    result: dict[str, Any] | None = None
    try_number: int = 1
    ended: float = inf
    errors: list[str] = field(default_factory=list)
    task_log: list[str] = field(default_factory=list)
    findings: Findings | None = None
    seen_by_losant: Sequence[Request] = ()
    seen_by_balancer: Sequence[BalancerRequest] = ()

    @property
    def is_clean(self) -> bool:
        """Whether there was exactly one execution, and its result."""
        return self.findings is not None and self.findings.is_clean

    def __str__(self) -> str:
        found = self.findings
        lines = [self.pair.name]
        if found is not None:
            for name in ("duplicates", "orphans", "lost"):
                lines += [f"  {name}: {it}" for it in getattr(found, name)]
        lines += [f"  try {number}: {error}" for number, error in enumerate(self.errors, 1)]
        lines += [f"  task log: {line}" for line in self.task_log]
        lines += [
            f"  Losant: {it.at - self.started:6.2f} s {it.operation} {it.status}"
            for it in self.seen_by_losant
        ]
        for it in self.seen_by_balancer:
            what = "forwarded" if it.forwarded else "not forwarded"
            lines.append(f"  balancer: {it.operation}, {what}, {it.fault or 'no fault'}")
        return "\n".join(lines)


def run_pairs(
    pairs: Sequence[Pair], surroundings: Surroundings, on_end: Callable[[Run], None] = lambda _: None
) -> list[Run]:
    """
    Run pairs at the same time, as many as there are hosts.

    :param on_end: Called with each run when its task has ended, before its executions have been counted.
    """
    waiting: SimpleQueue[Pair] = SimpleQueue()
    for pair in pairs:
        waiting.put(pair)
    runs: list[Run] = []
    problems: list[BaseException] = []

    def work(host: Host) -> None:
        own: list[Run] = []
        try:
            with suppress(Empty):
                while True:
                    own.append(_run(waiting.get_nowait(), host))
                    on_end(own[-1])
            time.sleep(LATE)
            for run in own:
                _count(run, host)
        except BaseException as problem:  # noqa: BLE001 - raised below, in the thread that waits
            problems.append(problem)
        runs.extend(own)

    threads = [threading.Thread(target=work, args=(host,), daemon=True) for host in surroundings.hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return runs


def _run(pair: Pair, host: Host) -> Run:
    """Run the task of a pair, with Airflow's retries, to its end."""
    notebook = host.losant.add_notebook(pair.name)
    host.losant.script(notebook, Script(notebook=pair.running))
    run = Run(pair=pair, notebook=notebook, started=time.time())
    conn_id = f"pair_{notebook}"
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    task_log.begin(run.task_log)

    def make() -> LosantNotebookExecuteOperator:
        return LosantNotebookExecuteOperator(
            task_id="report",
            notebook_id=notebook,
            losant_conn_id=conn_id,
            deferrable=pair.mode == "deferred",
            **ARGUMENTS,
        )

    ti = Ti(dag_id="pairs", run_id=pair.name, max_tries=RETRIES)
    task = RunningTask(make, ti, more={"task_state_store": TaskStateStore()} if pair.has_store else {})
    os.environ[variable] = host.connection(pair)
    try:
        with host.faults(pair, notebook):
            _run_with_retries(task, run)
    finally:
        del os.environ[variable]
    return run


def _run_with_retries(task: RunningTask, run: Run) -> None:
    for run.try_number in range(1, RETRIES + 2):
        task.ti.try_number = run.try_number
        task.ti.pushed.clear()  # as Airflow does with the XComs of the try before
        try:
            run.result = task.run()
        except Exception as error:  # noqa: BLE001 - Airflow retries after any
            run.errors.append(f"{type(error).__name__}: {error}")
            if isinstance(error, AirflowFailException):
                break
        else:
            run.state = "success"
            break
    run.ended = time.time()


def _count(run: Run, host: Host) -> None:
    task = Task(
        key=("pairs", run.pair.name, -1),
        state=run.state,
        try_number=run.try_number,
        ended=run.ended,
        result=run.result,
    )
    run.seen_by_losant = [it for it in host.losant.requests if run.notebook in it.path]
    run.seen_by_balancer = [it for it in host.balancer(run.pair.kind).requests if run.notebook in it.target]
    answered = answered_markers(run.seen_by_balancer, run.seen_by_losant)
    run.findings = compare(executions(host.losant.backend, [run.notebook], answered), [task], grace=0.0)


def summary(runs: Sequence[Run]) -> str:
    """Return the line that says whether all is well."""
    found = [run.findings for run in runs if run.findings is not None]
    counts = {name: sum(len(getattr(it, name)) for it in found) for name in ("duplicates", "orphans", "lost")}
    return f"pairs {len(found)}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
