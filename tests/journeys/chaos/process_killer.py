# SPDX-License-Identifier: Apache-2.0
"""Kill processes of Airflow with SIGKILL and SIGTERM: tasks, their supervisors and the triggerer."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import psutil
import requests

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow
    from tests.support.network import BalancerRequest
    from tests.support.processes import Process

PROBABILITY = 0.6
"""How likely a submission is to be followed by a kill."""
DURING_SUBMISSION_PROBABILITY = 0.4
"""How likely a kill is to hit a process that is submitting, rather than any process at any time."""
SUBMISSION_DELAY = 0.5
"""Longest delay, in seconds, of a kill during a submission."""
ANY_DELAY = 8.0
"""Longest delay, in seconds, of any other kill."""
WEIGHTS = {
    ("task", signal.SIGKILL): 40,
    ("task", signal.SIGTERM): 30,
    ("supervisor", signal.SIGKILL): 12,
    ("triggerer", signal.SIGKILL): 10,
    ("triggerer", signal.SIGTERM): 4,
    ("trigger runner", signal.SIGKILL): 4,
}
"""How often each kind of process gets each signal."""
TRIGGERER_LIFETIME = 40.0
"""
Seconds that a triggerer runs at least before it is killed again.

On a busy machine it needs up to 30 of them until its first poll: it starts, and then loads Airflow's API to
read the connection.
"""
LONGEST_ABSENCE = 3.0
"""Seconds after which the triggerer is started again at the latest."""

SupervisedTask = tuple[psutil.Process, psutil.Process]
"""A supervisor and the task that it supervises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """
    A planned kill.

    :param at: Monotonic seconds.
    :param target: The kind of process.
    """

    at: float
    target: str
    signal: signal.Signals
    during_submission: bool


class ProcessKiller:
    """
    Kill processes of an Airflow at random.

    :param airflow: The Airflow whose processes are killed.
    :param port: To which tasks connect on the way to Losant, to find those that are submitting.
    :param seed: Decides what is killed, how and when. Which process that hits depends on their timing.
    """

    def __init__(self, airflow: LocalAirflow, port: int, seed: int) -> None:
        self.deaths: Counter[str] = Counter()
        self.hit_tasks: set[str] = set()
        self._airflow = airflow
        self._port = port
        self._random = Random(f"{seed} deaths")
        self._planned: list[Kill] = []
        self._unsupervised: list[psutil.Process] = []
        self._restart_triggerer_at = 0.0
        self._spare_triggerer_until = 0.0

    def step(self, requests: Sequence[BalancerRequest], now: float) -> None:
        """
        Plan kills, carry out those that are due, and start the triggerer again.

        :param requests: Those on their way to Losant that have come since the last step.
        :param now: Monotonic seconds.
        """
        for request in requests:
            if request.operation == "notebook.execute" and self._random.random() < PROBABILITY:
                self._planned.append(self._plan(now))
        for kill in [it for it in self._planned if it.at <= now]:
            self._planned.remove(kill)
            self._carry_out(kill, now)
        if not self._airflow.triggerer.is_running and now >= self._restart_triggerer_at:
            self._airflow.triggerer.start()

    def finish(self) -> None:
        """Kill the tasks that lost their supervisor: no process of Airflow does."""
        for process in self._unsupervised:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _plan(self, now: float) -> Kill:
        ((target, number),) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        during_submission = self._random.random() < DURING_SUBMISSION_PROBABILITY
        delay = self._random.uniform(0, SUBMISSION_DELAY if during_submission else ANY_DELAY)
        return Kill(at=now + delay, target=target, signal=number, during_submission=during_submission)

    def _carry_out(self, kill: Kill, now: float) -> None:
        if kill.target in ("task", "supervisor"):
            self._kill_task(kill)
        elif now >= self._spare_triggerer_until:
            self._kill_triggerer(kill, now)

    def _kill_task(self, kill: Kill) -> None:
        tasks = _tasks(self._airflow.scheduler)
        if kill.during_submission:
            tasks = [it for it in tasks if self._is_connected_to_losant(it[1])][-1:]
        if kill.target == "supervisor":
            tasks = self._running(tasks)
        if not tasks:
            return
        supervisor, task = self._random.choice(tasks)
        self.hit_tasks.add(_task_instance_id(task))
        with suppress(psutil.NoSuchProcess):
            if kill.target == "supervisor":
                self._unsupervised.append(task)
                supervisor.send_signal(kill.signal)
            else:
                task.send_signal(kill.signal)
            self.deaths[f"{kill.target} {kill.signal.name}"] += 1

    def _running(self, tasks: Sequence[SupervisedTask]) -> list[SupervisedTask]:
        """
        Return the tasks that Airflow has in state ``running``.

        A task in state ``queued`` would stay in it for ever, because LocalExecutor does not notice that its
        supervisor has died.
        """
        with suppress(requests.RequestException):
            path = "/dags/~/dagRuns/~/taskInstances?state=running&limit=500"
            running = {it["id"] for it in self._airflow.request("GET", path)["task_instances"]}
            return [it for it in tasks if _task_instance_id(it[1]) in running]
        return []

    def _kill_triggerer(self, kill: Kill, now: float) -> None:
        if not self._airflow.triggerer.is_running:
            return
        absence = self._random.uniform(0, LONGEST_ABSENCE)
        self._restart_triggerer_at = now + absence
        self._spare_triggerer_until = now + absence + TRIGGERER_LIFETIME
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._airflow.triggerer.pid)
            if kill.target == "trigger runner":
                process = next(iter(process.children()), process)
            process.send_signal(kill.signal)
            self.deaths[f"{kill.target} {kill.signal.name}"] += 1

    def _is_connected_to_losant(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return any(it.raddr and it.raddr.port == self._port for it in process.net_connections("tcp4"))
        return False


def _task_instance_id(process: psutil.Process) -> str:
    """Return the id of the task instance, with which the command line of its process ends."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline()).strip().rpartition(" ")[2]
    return ""


def _tasks(scheduler: Process) -> list[SupervisedTask]:
    """
    Return the supervisors that supervise a task, each with the task, the youngest task last.

    An idle supervisor must not be killed: it holds the lock of LocalExecutor's queue, so no other one would
    get a task again.
    """
    found = []
    with suppress(psutil.NoSuchProcess):
        for supervisor in psutil.Process(scheduler.pid).children():
            with suppress(psutil.NoSuchProcess):
                found += [(supervisor, task) for task in supervisor.children()]
    return sorted(found, key=lambda it: it[1].create_time())
