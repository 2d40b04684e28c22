# SPDX-License-Identifier: Apache-2.0
"""
Whether each task had exactly one execution: compare what Losant ran with what Airflow reports.

An execution is *active* from the time at which Losant received the submission until it ended, or until its
cancellation was requested. It belongs to the task instance that its marker names. No task is cleared here, so
all executions of a task have the same owner, whichever id its tries wrote into the marker.

- **duplicates**: tasks of which two executions were active at the same time, or two completed.
- **orphans**: executions that no task waits for: they belong to no task, or their task had ended, also by
  failing for good, and they were active more than a grace period later or completed later. A task with one
  try may leave that to the orphan sweep, which runs at the end, if its process was killed, or a request to
  cancel the execution was lost, or the response to its submission was, as an execution log that cannot be
  read either does not show it; only what is active after the sweep counts then.
- **lost**: tasks that did not succeed (every notebook here completes, so a task has no reason to fail), or
  whose result is not that of a completed execution of their own. A task with one try may fail.
- **failed**: tasks with one try that failed.
- **left to the sweep**: executions whose task had ended, of which only the sweep had to take care.
- **reconnected**: results of executions that an earlier try had submitted, or whose response to the
  submission was not delivered. What Losant cut short itself counts as delivered, and so does the response to
  one of several submissions of a try, so the true number may be higher.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Any

GRACE = 5.0
RESULT_KEYS = {"execution_id", "notebook_id", "application_id", "status", "durations", "outputs", "url"}
"""Some of the keys of a task's result."""

TaskKey = tuple[str, str, int]
"""DAG id, run id and map index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """
    An execution as Losant has it.

    :param task: The task instance that its marker names; None if it has no marker.
    :param queued: Epoch seconds at which Losant received the submission.
    :param stopped: Epoch seconds at which it ended, or its cancellation was requested; infinite if neither.
    :param is_answered: Whether Losant sent its response to the submission, and the network delivered it.
    :param is_cancel_requested: Whether a request to cancel it was sent, even if it failed on its way.
    """

    id: str
    task: TaskKey | None
    try_number: int
    queued: float
    stopped: float
    is_complete: bool
    is_answered: bool
    is_cancel_requested: bool = False

    def overlaps(self, other: Execution) -> bool:
        """Return whether both were active at the same time."""
        return self.queued < other.stopped and other.queued < self.stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    A task instance as Airflow has it.

    :param ended: Epoch seconds; infinite if it has not ended.
    :param result: The XCom that a downstream task would pull.
    :param has_one_try: It has no retries, so it may fail.
    :param was_killed: Its process, or the supervisor of it, got a signal.
    """

    key: TaskKey
    state: str
    try_number: int
    ended: float
    result: Mapping[str, Any] | None
    has_one_try: bool = False
    was_killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    The outcome of a chaos run; each finding describes one of the cases that a number counts.

    :param tries: Tries of all tasks together.
    """

    tasks: int
    tries: int
    executions: int
    completed: int
    reconnected: int
    duplicates: Sequence[str]
    orphans: Sequence[str]
    lost: Sequence[str]
    failed: int
    left_to_sweep: int

    @property
    def is_clean(self) -> bool:
        """Whether there are no duplicates, orphans or lost tasks."""
        return not (self.duplicates or self.orphans or self.lost)


def compare(executions: Iterable[Execution], tasks: Iterable[Task], grace: float = GRACE) -> Findings:
    """
    Compare Losant's executions with Airflow's tasks.

    :param grace: Seconds that an execution may be active after its task has ended.
    """
    executions, by_key = list(executions), {task.key: task for task in tasks}
    by_task: dict[TaskKey, list[Execution]] = defaultdict(list)
    for execution in executions:
        if execution.task is not None:
            by_task[execution.task].append(execution)
    results = {key: it for key, task in by_key.items() if (it := _result_of(task, executions))}
    return Findings(
        tasks=len(by_key),
        tries=sum(task.try_number for task in by_key.values()),
        executions=len(executions),
        completed=sum(it.is_complete for it in executions),
        reconnected=sum(
            not it.is_answered or it.try_number != by_key[key].try_number for key, it in results.items()
        ),
        duplicates=[found for of_task in by_task.values() if (found := _duplicate(of_task))],
        orphans=[found for it in executions if (found := _orphan(it, by_key, grace))],
        lost=[
            _lost(task, executions)
            for key, task in by_key.items()
            if key not in results and not _has_failed(task)
        ],
        failed=sum(map(_has_failed, by_key.values())),
        left_to_sweep=sum(
            it.task in by_key and _outlives(it, by_key[it.task], grace) and _may_be_left(it, by_key[it.task])
            for it in executions
        ),
    )


def _result_of(task: Task, executions: Iterable[Execution]) -> Execution | None:
    result = task.result or {}
    if task.state != "success" or not result.keys() >= RESULT_KEYS:
        return None
    return next(
        (
            it
            for it in executions
            if it.id == result["execution_id"] and it.task == task.key and it.is_complete
        ),
        None,
    )


def _duplicate(executions: Sequence[Execution]) -> str | None:
    """Describe the executions of one task if there are too many."""
    overlap = any(one.overlaps(other) for one, other in combinations(executions, 2))
    if overlap or sum(it.is_complete for it in executions) > 1:
        return f"{executions[0].task}: {list(map(_describe, executions))}"
    return None


def _orphan(execution: Execution, tasks: Mapping[TaskKey, Task], grace: float) -> str | None:
    task = tasks.get(execution.task) if execution.task is not None else None
    if task is None:
        return f"{_describe(execution)} belongs to no task"
    if _outlives(execution, task, grace) and not _may_be_left(execution, task):
        which = f"{task.key}, which ended as {task.state} at {task.ended:.1f}"
        return f"{_describe(execution)} was active after {which}"
    return None


def _outlives(execution: Execution, task: Task, grace: float) -> bool:
    # Nothing cancels an execution that completes, so it needs no time for that.
    return execution.stopped > task.ended + (0.0 if execution.is_complete else grace)


def _may_be_left(execution: Execution, task: Task) -> bool:
    """Tell whether the task could not take care of the execution itself, but it did not stay active."""
    could_not = task.was_killed or execution.is_cancel_requested or not execution.is_answered
    return task.has_one_try and execution.stopped < inf and could_not


def _has_failed(task: Task) -> bool:
    return task.has_one_try and task.state == "failed"


def _lost(task: Task, executions: Iterable[Execution]) -> str:
    of_task = [_describe(it) for it in executions if it.task == task.key]
    result = (task.result or {}).get("execution_id")
    return f"{task.key} ended as {task.state} in try {task.try_number} with the result of {result}; {of_task}"


def _describe(execution: Execution) -> str:
    end = "never" if execution.stopped == inf else f"{execution.stopped:.1f}"
    how = "completed" if execution.is_complete else "ended or cancelled"
    return f"{execution.id} (try {execution.try_number}, {execution.queued:.1f} to {end}, {how})"
