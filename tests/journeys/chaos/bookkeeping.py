# SPDX-License-Identifier: Apache-2.0
"""
Whether each task had exactly one run: what Losant did, held against what Airflow says.

An execution is *active* from the instant Losant took the order until it ended, or until Losant was asked to
cancel it (more than to ask, nobody can). It belongs to the task instance that its mark names. Nobody clears
a task here, so all executions of a task belong to one chain of tries, whatever id the chain claims to have.

- **duplicates**: tasks of which two executions were active at the same time, or two completed.
- **orphans**: executions that no task has any use for: active more than ``GRACE`` seconds after their task
  had ended, or of no task at all.
- **lost**: tasks that did not end in success (every notebook here completes, so nothing excuses a task), or
  whose result is not that of a completed execution of their own.
- **adopted**: results of executions that another try had ordered than the one that ended well, or whose
  order Losant never answered; an answer that broke off half way passes for one, so there may be more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Any

GRACE = 5.0
RESULT = {"execution_id", "notebook_id", "application_id", "status", "durations", "outputs", "url"}
"""Some of what is in a result dict."""

TaskKey = tuple[str, str, int]
"""DAG id, run id and map index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    An execution as Losant remembers it.

    :param task: The task instance that its mark names; None if it has none.
    :param queued: Epoch seconds at which Losant took the order.
    :param stopped: Epoch seconds at which it ended, or was to be cancelled; infinite if never.
    :param is_answered: Whether Losant's answer to the order was sent.
    """

    id: str
    task: TaskKey | None
    try_number: int
    queued: float
    stopped: float
    is_complete: bool
    is_answered: bool

    def overlaps(self, other: Run) -> bool:
        """Tell whether both were active at once."""
        return self.queued < other.stopped and other.queued < self.stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    A task instance as Airflow remembers it.

    :param ended: Epoch seconds; infinite if it has not.
    :param result: What a downstream task would get.
    """

    key: TaskKey
    state: str
    try_number: int
    ended: float
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What came of it; every complaint says in words what a number counts.

    :param tries: Tries of all tasks together.
    """

    tasks: int
    tries: int
    executions: int
    completed: int
    adopted: int
    duplicates: Sequence[str]
    orphans: Sequence[str]
    lost: Sequence[str]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to complain about."""
        return not (self.duplicates or self.orphans or self.lost)


def settle(runs: Iterable[Run], tasks: Iterable[Task]) -> Account:
    """Hold Losant's runs against Airflow's tasks."""
    runs, by_key = list(runs), {task.key: task for task in tasks}
    by_task: dict[TaskKey, list[Run]] = defaultdict(list)
    for run in runs:
        if run.task is not None:
            by_task[run.task].append(run)
    results = {key: _result_of(task, runs) for key, task in by_key.items()}
    useful = {key: run for key, run in results.items() if run is not None}
    return Account(
        tasks=len(by_key),
        tries=sum(task.try_number for task in by_key.values()),
        executions=len(runs),
        completed=sum(run.is_complete for run in runs),
        adopted=sum(
            not run.is_answered or run.try_number != by_key[key].try_number for key, run in useful.items()
        ),
        duplicates=[why for its_runs in by_task.values() if (why := _duplicate(its_runs))],
        orphans=[why for run in runs if (why := _orphan(run, by_key))],
        lost=[_loss(task, runs) for key, task in by_key.items() if key not in useful],
    )


def _result_of(task: Task, runs: Iterable[Run]) -> Run | None:
    result = task.result or {}
    if task.state != "success" or not result.keys() >= RESULT:
        return None
    return next(
        (it for it in runs if it.id == result["execution_id"] and it.task == task.key and it.is_complete),
        None,
    )


def _duplicate(runs: Sequence[Run]) -> str | None:
    """Complain about the runs of one task."""
    at_once = any(one.overlaps(other) for one, other in combinations(runs, 2))
    if at_once or sum(run.is_complete for run in runs) > 1:
        return f"{runs[0].task}: {list(map(_spell, runs))}"
    return None


def _orphan(run: Run, tasks: Mapping[TaskKey, Task]) -> str | None:
    task = tasks.get(run.task) if run.task is not None else None
    if task is None:
        return f"{_spell(run)} belongs to no task"
    if run.stopped > task.ended + GRACE:
        return f"{_spell(run)} outlived {task.key}, which ended as {task.state} at {task.ended:.1f}"
    return None


def _loss(task: Task, runs: Iterable[Run]) -> str:
    of_task = [_spell(run) for run in runs if run.task == task.key]
    got = (task.result or {}).get("execution_id")
    return f"{task.key} ended as {task.state} in try {task.try_number} with the result of {got}; {of_task}"


def _spell(run: Run) -> str:
    end = "never" if run.stopped == inf else f"{run.stopped:.1f}"
    what = "completed" if run.is_complete else "ended or cancelled"
    return f"{run.id} (try {run.try_number}, {run.queued:.1f} to {end}, {what})"
