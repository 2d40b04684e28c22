# SPDX-License-Identifier: Apache-2.0
"""What dies in Airflow: task processes, their supervisors and the triggerer, by SIGKILL and SIGTERM."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import requests

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Request
    from tests.support.local_airflow import LocalAirflow
    from tests.support.processes import Process

ODDS = 0.6
"""How many deaths each order placed at Losant brings about."""
AMBUSH_ODDS = 0.4
"""How many of them strike while an order is under way, and not at any time."""
AMBUSH = 0.5
AT_ANY_TIME = 8.0
WAYS = {
    ("task", signal.SIGKILL): 40,
    ("task", signal.SIGTERM): 30,
    ("supervisor", signal.SIGKILL): 12,
    ("triggerer", signal.SIGKILL): 10,
    ("triggerer", signal.SIGTERM): 4,
    ("trigger runner", signal.SIGKILL): 4,
}
TRIGGERER_LIVES = 15.0
"""Seconds that a triggerer gets before the next one dies: starting one takes a third of that."""
LONGEST_ABSENCE = 3.0

Pair = tuple[psutil.Process, psutil.Process]
"""A supervisor and its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Somebody is to die at an instant."""

    at: float
    who: str
    by: signal.Signals
    is_ambush: bool


class Reaper:
    """
    Kill processes of an Airflow.

    :param airflow: The Airflow that has to live with it.
    :param losant_url: Where the tasks' orders go, to tell which process has one under way.
    :param seed: Decides who dies, how and when; who that is then is up to the processes.
    """

    def __init__(self, airflow: LocalAirflow, losant_url: str, seed: int) -> None:
        self.deaths: Counter[str] = Counter()
        self._airflow = airflow
        self._losant_port = urlsplit(losant_url).port
        self._dice = Random(f"{seed} deaths")
        self._due: list[Death] = []
        self._forsaken: list[psutil.Process] = []
        self._triggerer_back_at = 0.0
        self._triggerer_safe_until = 0.0

    def turn(self, requests: Sequence[Request], now: float) -> None:
        """
        Let those die whose time has come.

        :param requests: What Losant saw since the last turn.
        """
        for request in requests:
            if request.operation == "notebook.execute" and self._dice.random() < ODDS:
                self._due.append(self._plan(now))
        for death in [it for it in self._due if it.at <= now]:
            self._due.remove(death)
            self._strike(death, now)
        if not self._airflow.triggerer.is_running and now >= self._triggerer_back_at:
            self._airflow.triggerer.start()

    def end(self) -> None:
        """Kill the task processes that outlived their supervisor; nobody else would."""
        for process in self._forsaken:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _plan(self, now: float) -> Death:
        (who, by), *_ = self._dice.choices(list(WAYS), list(WAYS.values()))
        is_ambush = self._dice.random() < AMBUSH_ODDS
        delay = self._dice.uniform(0, AMBUSH if is_ambush else AT_ANY_TIME)
        return Death(at=now + delay, who=who, by=by, is_ambush=is_ambush)

    def _strike(self, death: Death, now: float) -> None:
        if death.who in ("task", "supervisor"):
            self._strike_task(death)
        elif now >= self._triggerer_safe_until:
            self._strike_triggerer(death, now)

    def _strike_task(self, death: Death) -> None:
        tasks = _tasks(self._airflow.scheduler)
        if death.is_ambush:
            tasks = [it for it in tasks if self._talks_to_losant(it[1])][-1:]
        if death.who == "supervisor":
            tasks = self._known_to_run(tasks)
        if not tasks:
            return
        supervisor, task = self._dice.choice(tasks)
        with suppress(psutil.NoSuchProcess):
            if death.who == "supervisor":
                self._forsaken.append(task)
                supervisor.send_signal(death.by)
            else:
                task.send_signal(death.by)
            self.deaths[f"{death.who} {death.by.name}"] += 1

    def _known_to_run(self, tasks: Sequence[Pair]) -> list[Pair]:
        """
        Leave out the tasks that Airflow still believes to be queued.

        LocalExecutor never learns that such a one has lost its supervisor: it would stay queued for ever.
        """
        with suppress(requests.RequestException):
            path = "/dags/~/dagRuns/~/taskInstances?state=running&limit=500"
            running = {it["id"] for it in self._airflow.request("GET", path)["task_instances"]}
            return [it for it in tasks if _title(it[1]).rpartition(" ")[2] in running]
        return []

    def _strike_triggerer(self, death: Death, now: float) -> None:
        if not self._airflow.triggerer.is_running:
            return
        absence = self._dice.uniform(0, LONGEST_ABSENCE)
        self._triggerer_back_at = now + absence
        self._triggerer_safe_until = now + absence + TRIGGERER_LIVES
        with suppress(psutil.NoSuchProcess):
            victim = psutil.Process(self._airflow.triggerer.pid)
            if death.who == "trigger runner":
                victim = next(iter(victim.children()), victim)
            victim.send_signal(death.by)
            self.deaths[f"{death.who} {death.by.name}"] += 1

    def _talks_to_losant(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return any(
                it.raddr and it.raddr.port == self._losant_port for it in process.net_connections("tcp4")
            )
        return False


def _title(process: psutil.Process) -> str:
    """Return what a process calls itself; a task's ends with the id of its task instance."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def _tasks(scheduler: Process) -> list[Pair]:
    """
    Return the supervisors that supervise a task, each with the task, youngest task last.

    An idle one must live: it holds the lock of LocalExecutor's queue, and no other would ever get a task.
    """
    found = []
    with suppress(psutil.NoSuchProcess):
        for supervisor in psutil.Process(scheduler.pid).children():
            with suppress(psutil.NoSuchProcess):
                found += [(supervisor, task) for task in supervisor.children()]
    return sorted(found, key=lambda it: it[1].create_time())
