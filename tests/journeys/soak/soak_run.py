# SPDX-License-Identifier: Apache-2.0
"""Many deferred waits in one real triggerer for a long time: none is lost, and memory does not grow."""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Self

import psutil
from sqlalchemy import create_engine, text

from airflow_provider_losant.emulator import Emulator, Script
from tests.journeys.chaos.fault_schedule import HTTP_TIMEOUT, FaultSchedule
from tests.journeys.soak.dags.soak import WIDTH
from tests.support.airflow_connection import connection, execute
from tests.support.journey import ENDLESS
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database
from tests.support.processes import wait_for

DAGS = Path(__file__).parent / "dags"
ENVIRONMENT = {"AIRFLOW__TRIGGERER__CAPACITY": "10000"}
WARM_UP = 60.0
"""Seconds in which the memory of the triggerer may still grow, because it has just loaded all triggers."""
STEP_INTERVAL = 0.25
"""Seconds between two steps of the fault schedule."""
ENDS_WITHIN = 30.0
"""Seconds within which all executions end when the soak is over."""
MAX_LAG = 120.0
"""Seconds after the end of its execution at which a wait counts as lost."""
MAX_GROWTH = 0.05
PROBABILITIES = {"notebook.logs": 0.2}
"""How likely a poll is to be followed by a fault. Many waits share each poll."""
BLOCKED = re.compile(rb"blocked for ([\d.]+) seconds")

WAITS = """
SELECT run_id, task_id, CAST(next_kwargs AS TEXT) FROM task_instance WHERE dag_id = 'soak' AND state = :state
"""
Key = tuple[str, str]
"""The DAG run and the task of a wait."""
Rows = Callable[[str], dict[Key, str]]
"""Returns the task instances in a state, each with its stored ``next_kwargs``."""
Pause = Callable[[float], None]
"""Waits so many seconds, while Losant fails now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """
    The resources that a triggerer uses, with all its processes.

    :param memory: Bytes that it shares with no other process.
    :param files: Open file descriptors.
    """

    memory: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Measure a process and its children."""
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return cls(
            memory=sum(it.memory_full_info().uss for it in family),
            files=sum(it.num_fds() for it in family),
        )


@dataclass(kw_only=True)
class Report:
    """
    The result of a soak.

    :param wrong: Waits that ended with another execution than their own.
    :param lags: Seconds from the end of each execution to the end of its wait.
    :param blocked: The longest time for which Airflow reports that its event loop was blocked; it reports
        0.2 s and more. This includes its own work, as it starts and ends hundreds of triggers.
    :param blocked_waiting: The same, while all waited.
    """

    waits: int
    minutes: float
    faults: int = 0
    lost: int = 0
    wrong: int = 0
    lags: list[float] = field(default_factory=list)
    blocked: float = 0.0
    blocked_waiting: float = 0.0
    sizes: list[Size] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The growth of the memory, as a share of the first measurement."""
        return self.sizes[-1].memory / self.sizes[0].memory - 1

    @property
    def holds(self) -> bool:
        """Whether no wait was lost or wrong, and memory and files stayed within their bounds."""
        is_steady = self.growth < MAX_GROWTH and self.sizes[-1].files <= self.sizes[0].files * 1.05
        return is_steady and not self.lost and not self.wrong

    def __str__(self) -> str:
        first, last = self.sizes[0], self.sizes[-1]
        parts = (
            f"lost {self.lost}",
            f"wrong {self.wrong}",
            f"largest lag {max(self.lags, default=0):.1f} s",
            f"event loop blocked {self.blocked_waiting:.2f} s while all waited",
            f"{self.blocked:.2f} s with their starts and ends",
            f"memory {first.memory / 1e6:.0f} -> {last.memory / 1e6:.0f} MB ({self.growth:+.1%})",
            f"open files {first.files} -> {last.files}",
        )
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        what = f"{self.waits:,} waits, {self.minutes:g} min, {self.faults:,} faults"
        return f"{what}: {', '.join(parts)}: {verdict}"


@contextmanager
def losant_and_airflow() -> Iterator[tuple[Emulator, LocalAirflow]]:
    """Run a Losant, and an Airflow with a connection to it."""
    with (
        tempfile.TemporaryDirectory(prefix="losant-soak-", ignore_cleanup_errors=True) as home,
        Emulator() as losant,
        best_database() as database,
        LocalAirflow(Path(home), DAGS, env=ENVIRONMENT, sql_alchemy_conn=database) as airflow,
    ):
        airflow.add_connection("losant_default", **connection(losant, timeout=HTTP_TIMEOUT))
        yield losant, airflow


def run_soak(
    waits: int, minutes: float, seed: int, log: Callable[[str], None] = print, *, warm_up: float = WARM_UP
) -> Report:
    """
    Let a triggerer wait for many executions, while Losant fails now and then.

    :param waits: Number of waits, rounded up to whole DAG runs.
    :param minutes: How long all of them wait.
    :param seed: Decides what fails.
    :param warm_up: Seconds before the first measurement.
    """
    report = Report(waits=-(-waits // WIDTH) * WIDTH, minutes=minutes)
    with losant_and_airflow() as (losant, airflow), _rows_of(airflow.database) as rows:
        expected = _start(losant, airflow, report.waits // WIDTH)
        wait_for(lambda: len(rows("deferred")) == report.waits, what="all to wait", timeout=900, every=2)
        # No task is resumed after its wait: this measures the triggerer, and workers would slow it down.
        airflow.scheduler.stop()
        log(f"{report.waits:,} wait")
        schedule = FaultSchedule(losant, seed, PROBABILITIES)
        pause = partial(_pause, losant, schedule)
        pause(warm_up)
        output = airflow.triggerer.log
        started = output.stat().st_size
        for minute in range(ceil(minutes) + 1):
            if minute:
                pause(60 * minutes / ceil(minutes))
            size = Size.of(airflow.triggerer.pid)
            report.sizes.append(size)
            log(f"after {minute} of {ceil(minutes)} steps: {size.memory / 1e6:.0f} MB, {size.files} files")
        waited = output.stat().st_size
        _count(report, expected, _end_executions(losant, seed), rows, pause)
        report.faults = sum(schedule.faults.values())
        lines = output.read_bytes()
        report.blocked = _longest_block(lines)
        report.blocked_waiting = _longest_block(lines[started:waited])
    return report


def _longest_block(lines: bytes) -> float:
    return max(map(float, BLOCKED.findall(lines)), default=0.0)


def _start(losant: Emulator, airflow: LocalAirflow, dag_runs: int) -> dict[Key, str]:
    """Start a DAG run for each notebook; return the execution that each task instance waits for."""
    airflow.wait_for_dag("soak")
    airflow.unpause("soak")
    expected: dict[Key, str] = {}
    for number in range(dag_runs):
        notebook_id = losant.add_notebook(name=f"soak {number}")
        losant.script(notebook_id, ENDLESS)
        executions = [execute(losant, notebook_id) for _ in range(WIDTH)]
        run_id = airflow.trigger("soak", conf={"notebook_id": notebook_id, "executions": executions})
        expected |= {(run_id, f"wait_{index}"): it for index, it in enumerate(executions)}
    return expected


def _pause(losant: Emulator, schedule: FaultSchedule, seconds: float) -> None:
    """Wait, and let the schedule decide after each request what fails next."""
    until = time.monotonic() + seconds
    seen = len(losant.requests)
    while (now := time.monotonic()) < until:
        requests = losant.requests
        schedule.step(requests[seen:], now)
        seen = len(requests)
        time.sleep(STEP_INTERVAL)


def _end_executions(losant: Emulator, seed: int) -> dict[str, float]:
    """Let each execution end soon; return the times by execution id."""
    dice, backend, ends = random.Random(seed), losant.backend, {}
    with backend.lock:
        for notebook_id in backend.notebooks:
            for execution in backend.executions(notebook_id):
                ends[execution.id] = backend.clock() + dice.uniform(1.0, ENDS_WITHIN)
                backend.put(execution.apply(Script(notebook=ends[execution.id] - execution.queued_at)))
    return ends


def _count(
    report: Report, expected: Mapping[Key, str], ends: Mapping[str, float], rows: Rows, pause: Pause
) -> None:
    """Wait until all waits have ended, and count those that are lost or wrong."""
    until = time.time() + ENDS_WITHIN + MAX_LAG
    left = dict(expected)
    while left and time.time() < until:
        pause(1.0)
        now, waiting = time.time(), rows("deferred")
        for key in left.keys() - waiting.keys():
            report.lags.append(now - ends[left.pop(key)])
    resumed = rows("scheduled")
    report.lost = len(left)
    report.wrong = sum(expected[key] not in resumed.get(key, "") for key in expected.keys() - left.keys())


@contextmanager
def _rows_of(database: str) -> Iterator[Rows]:
    """Yield a function that reads the task instances in a state from the database."""
    engine = create_engine(database)

    def rows(state: str) -> dict[Key, str]:
        with engine.connect() as connection:
            found = connection.execute(text(WAITS), {"state": state})
            return {(run_id, task_id): str(kwargs) for run_id, task_id, kwargs in found}

    try:
        yield rows
    finally:
        engine.dispose()
