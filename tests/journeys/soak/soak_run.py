# SPDX-License-Identifier: Apache-2.0
"""Many deferred waits in one real triggerer, for long: none is lost, and nothing piles up."""

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
from tests.journeys.chaos.fault_schedule import HTTP_TIMEOUT, Weather
from tests.journeys.soak.dags.soak import WIDTH
from tests.support.airflow_connection import connection, execute
from tests.support.journey import FOR_EVER
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database
from tests.support.processes import wait_for

DAGS = Path(__file__).parent / "dags"
ENVIRONMENT = {"AIRFLOW__TRIGGERER__CAPACITY": "10000"}
WARMING = 60.0
"""Seconds in which the triggerer may still grow, since it has only just taken all waits over."""
TICK = 0.25
ENDS_WITHIN = 30.0
"""Seconds over which the executions end, at last."""
PATIENCE = 120.0
"""Seconds after which a wait counts as lost whose execution has ended."""
MOST_GROWTH = 0.05
ODDS = {"notebook.logs": 0.2}
"""How likely a look is to be followed by a fault; each look is shared by many waits."""
BLOCKED = re.compile(r"blocked for ([\d.]+) seconds")

WAITS = """
SELECT run_id, task_id, CAST(next_kwargs AS TEXT) FROM task_instance WHERE dag_id = 'soak' AND state = :state
"""
Key = tuple[str, str]
"""The DAG run and the task of a wait."""
Rows = Callable[[str], dict[Key, str]]
"""What tells of the task instances in a state with what they are to go on."""
Pause = Callable[[float], None]
"""What lets so many seconds pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """
    What a triggerer takes of its machine, with all its processes.

    :param memory: Bytes that nobody shares with it.
    :param files: Open file descriptors.
    """

    memory: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Weigh a process and its children."""
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return cls(
            memory=sum(it.memory_full_info().uss for it in family),
            files=sum(it.num_fds() for it in family),
        )


@dataclass(kw_only=True)
class Report:
    """
    What came of it.

    :param wrong: Waits that ended with another execution than their own.
    :param lags: Seconds from the end of each execution until its wait had ended.
    :param blocked: The longest that Airflow complains its event loop stood still, in seconds.
    """

    waits: int
    minutes: float
    faults: int = 0
    lost: int = 0
    wrong: int = 0
    lags: list[float] = field(default_factory=list)
    blocked: float = 0.0
    sizes: list[Size] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """By how much the memory grew, as a share of what it was."""
        return self.sizes[-1].memory / self.sizes[0].memory - 1

    @property
    def holds(self) -> bool:
        """Whether all is as promised."""
        is_steady = self.growth < MOST_GROWTH and self.sizes[-1].files <= self.sizes[0].files * 1.05
        return is_steady and not self.lost and not self.wrong

    def __str__(self) -> str:
        first, last = self.sizes[0], self.sizes[-1]
        parts = (
            f"lost {self.lost}",
            f"wrong {self.wrong}",
            f"largest lag {max(self.lags, default=0):.1f} s",
            f"event loop blocked {self.blocked:.2f} s at most",
            f"memory {first.memory / 1e6:.0f} -> {last.memory / 1e6:.0f} MB ({self.growth:+.1%})",
            f"open files {first.files} -> {last.files}",
        )
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        what = f"{self.waits:,} waits, {self.minutes:g} min, {self.faults:,} faults"
        return f"{what}: {', '.join(parts)}: {verdict}"


@contextmanager
def stage() -> Iterator[tuple[Emulator, LocalAirflow]]:
    """Run a Losant and an Airflow that knows it."""
    with (
        tempfile.TemporaryDirectory(prefix="losant-soak-", ignore_cleanup_errors=True) as home,
        Emulator() as losant,
        best_database() as database,
        LocalAirflow(Path(home), DAGS, env=ENVIRONMENT, sql_alchemy_conn=database) as airflow,
    ):
        airflow.add_connection("losant_default", **connection(losant, timeout=HTTP_TIMEOUT))
        yield losant, airflow


def endure(
    waits: int, minutes: float, seed: int, tell: Callable[[str], None] = print, *, warming: float = WARMING
) -> Report:
    """
    Let a triggerer wait for so many executions for so long, while Losant fails now and then.

    :param waits: How many, rounded up to whole DAG runs.
    :param warming: Seconds before the triggerer is weighed for the first time.
    """
    report = Report(waits=-(-waits // WIDTH) * WIDTH, minutes=minutes)
    with stage() as (losant, airflow), _rows_of(airflow.database) as rows:
        meant = _begin(losant, airflow, report.waits // WIDTH)
        wait_for(lambda: len(rows("deferred")) == report.waits, what="all to wait", timeout=900, every=2)
        # Nobody goes on with what has ended: this is about the triggerer, and workers would be in its way.
        airflow.scheduler.stop()
        tell(f"{report.waits:,} wait")
        weather = Weather(losant, seed, odds=ODDS)
        pause = partial(_let_pass, losant, weather)
        pause(warming)
        for minute in range(ceil(minutes) + 1):
            if minute:
                pause(60 * minutes / ceil(minutes))
            size = Size.of(airflow.triggerer.pid)
            report.sizes.append(size)
            tell(f"after {minute} of {ceil(minutes)} steps: {size.memory / 1e6:.0f} MB, {size.files} files")
        _settle(report, meant, _let_end(losant, seed), rows, pause)
        report.faults = sum(weather.faults.values())
        complaints = airflow.triggerer.log.read_text(errors="replace")
        report.blocked = max(map(float, BLOCKED.findall(complaints)), default=0.0)
    return report


def _begin(losant: Emulator, airflow: LocalAirflow, dag_runs: int) -> dict[Key, str]:
    """Start a DAG run for each notebook; return the execution that each task instance is to wait for."""
    airflow.wait_for_dag("soak")
    airflow.unpause("soak")
    meant = {}
    for number in range(dag_runs):
        notebook_id = losant.add_notebook(name=f"soak {number}")
        losant.script(notebook_id, FOR_EVER)
        executions = [execute(losant, notebook_id) for _ in range(WIDTH)]
        run_id = airflow.trigger("soak", conf={"notebook_id": notebook_id, "executions": executions})
        meant |= {(run_id, f"wait_{index}"): it for index, it in enumerate(executions)}
    return meant


def _let_pass(losant: Emulator, weather: Weather, seconds: float) -> None:
    """Let time pass, and the weather change with each request."""
    until = time.monotonic() + seconds
    seen = len(losant.requests)
    while (now := time.monotonic()) < until:
        requests = losant.requests
        weather.turn(requests[seen:], now)
        seen = len(requests)
        time.sleep(TICK)


def _let_end(losant: Emulator, seed: int) -> dict[str, float]:
    """Give each execution an end in the near future; return when, by its id."""
    chance, backend, ends = random.Random(seed), losant.backend, {}
    with backend.lock:
        for notebook_id in backend.notebooks:
            for execution in backend.executions(notebook_id):
                ends[execution.id] = backend.clock() + chance.uniform(1.0, ENDS_WITHIN)
                backend.put(execution.apply(Script(notebook=ends[execution.id] - execution.queued_at)))
    return ends


def _settle(
    report: Report, meant: Mapping[Key, str], ends: Mapping[str, float], rows: Rows, pause: Pause
) -> None:
    """Wait until all waits have ended, and count how."""
    until = time.time() + ENDS_WITHIN + PATIENCE
    left = dict(meant)
    while left and time.time() < until:
        pause(1.0)
        now, waiting = time.time(), rows("deferred")
        for key in left.keys() - waiting.keys():
            report.lags.append(now - ends[left.pop(key)])
    told = rows("scheduled")
    report.lost = len(left)
    report.wrong = sum(meant[key] not in told.get(key, "") for key in meant.keys() - left.keys())


@contextmanager
def _rows_of(database: str) -> Iterator[Rows]:
    """Yield what tells of the task instances in a state what they are to go on with."""
    engine = create_engine(database)

    def rows(state: str) -> dict[Key, str]:
        with engine.connect() as connection:
            found = connection.execute(text(WAITS), {"state": state})
            return {(run_id, task_id): str(told) for run_id, task_id, told in found}

    try:
        yield rows
    finally:
        engine.dispose()
