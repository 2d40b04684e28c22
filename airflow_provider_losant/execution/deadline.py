# SPDX-License-Identifier: Apache-2.0
"""When the wait of a task is over: by its own ``timeout``, or by Airflow's ``execution_timeout``."""

from __future__ import annotations

from typing import Any

SIGNAL_MARGIN = 30.0
"""Seconds after the end of ``execution_timeout`` within which Airflow ends a task that waits in a worker."""

Deadline = tuple[float, str]
"""Epoch seconds, and the argument that sets them, with its value."""


def is_own_timeout(argument: str) -> bool:
    """
    Tell whether a deadline is that of the task's own ``timeout``, and not that of a try.

    :param argument: The second part of a :data:`Deadline`.
    """
    return argument.startswith("timeout ")


def first_deadline(since: float, timeout: float, try_deadline: Deadline | None) -> Deadline:
    """
    Return the earlier of two deadlines.

    :param since: Epoch seconds from which ``timeout`` counts.
    :param try_deadline: That of :func:`deadline_of_try`.
    """
    by_timeout = (since + timeout, f"timeout ({timeout:g} s)")
    return by_timeout if try_deadline is None else min(by_timeout, try_deadline)


def deadline_of_try(task: Any, task_instance: Any) -> Deadline | None:
    """
    Return the end of ``execution_timeout``, which Airflow does not enforce while a task is deferred.

    In a worker Airflow raises an exception out of a signal handler. Python ignores it if a destructor is
    running just then, so the wait ends a while after.
    """
    started = getattr(task_instance, "start_date", None)
    if not (task.execution_timeout and started):
        return None
    allowed: float = task.execution_timeout.total_seconds()
    margin = 0.0 if task.deferrable else SIGNAL_MARGIN
    return started.timestamp() + allowed + margin, f"execution_timeout ({allowed:g} s)"
