# SPDX-License-Identifier: Apache-2.0
"""Change the arguments of a DAG's task for a test, whether the task is mapped or not. It needs no Airflow."""

from __future__ import annotations

from inspect import signature
from typing import Any


def set_arguments(task: Any, **arguments: Any) -> None:
    """
    Change arguments of a task before a test runs its DAG, such as ``deferrable`` and ``poll_interval``.

    A mapped task (``.expand``) has no attributes for them: Airflow makes its operator only when it runs, from
    the arguments of ``.partial``. This function changes these. A mapped task group has ordinary tasks.

    :param task: A task of the DAG, as ``dag.get_task`` returns it.
    :param arguments: The new values. Templates in them are rendered.
    :raises TypeError: the task's operator has no such argument, or each mapped task has a value of its own.
    """
    partial = getattr(task, "partial_kwargs", None)
    if partial is None:
        known = [name for name in arguments if hasattr(task, name)]
    else:
        operator = task.operator_class
        accepted = {name for it in operator.__mro__ for name in signature(it.__init__).parameters}
        mapped = getattr(task.expand_input, "value", {})
        known = [name for name in arguments if name in accepted and name not in mapped]
    unknown = ", ".join(name for name in arguments if name not in known)
    if unknown:
        raise TypeError(f"The task {task.task_id} has no argument {unknown} that a test could change")
    if partial is None:
        for name, value in arguments.items():
            setattr(task, name, value)
    else:
        partial.update(arguments)
