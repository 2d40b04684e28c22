# SPDX-License-Identifier: Apache-2.0
"""
The owner of an execution, and the marker by which a retry finds the owner's executions.

Losant has no idempotency key, but its execution log contains each execution's template context. So the
operator adds the key ``airflow`` to it: the *marker*, which names the *owner*. All automatic retries of a
task have the same owner; a clear by a user makes a new one. The notebook's author can read the marker in
``INPUT_DIR/context.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_type_hints

from airflow_provider_losant.api.errors import JSON_ERRORS

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution

MARKER_KEY = "airflow"
REPLACES_KEY = "replaces"
"""In the marker: IDs of the executions that were cancelled for this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """
    A task instance between two clears, with all its tries. The marker contains each of these fields.

    A field that is added in a later version needs a default: during an upgrade, a retry has to find what the
    earlier version has submitted.

    :param region: What identifies the iteration of a looped task (Airflow 3.4), because all iterations have
        the other names in common; empty for any other task.
    :param loop_index: The number of that iteration, from 0, for people. It identifies nothing: iterations of
        nested loops, and those from before a clear, have the same. -1 for any other task.
    :param try_number: The try that submits.
    :param max_tries: Airflow's own count, which changes when a user clears the task.
    :param dag_run_start: When the DAG run began, as ISO-8601 text; empty if unknown. It changes when a user
        clears tasks of a DAG run that has ended, and when a DAG run is deleted and created again.
    :param deployment: Anything that differs between two Airflow deployments that share an application
        and run the same DAG; empty if unknown.
    :param may_sweep: The orphan sweep may cancel the execution when no task waits for it.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    max_tries: int
    dag_run_start: str
    deployment: str
    may_sweep: bool
    region: str = ""
    loop_index: int = -1

    def add_marker(
        self, context: Mapping[str, Any], openlineage: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """
        Return the template context with the marker in it.

        :param openlineage: Variables that make the notebook's own OpenLineage events children of the task.
        """
        more = {"openlineage": dict(openlineage)} if openlineage else {}
        return {**context, MARKER_KEY: {**asdict(self), **more}}

    def owns(self, execution: Execution) -> bool:
        """
        Tell whether a try of this owner has submitted the execution.

        The deployment is not compared where the DAG run's start is known, which is exact to the microsecond:
        a user may configure another URL of Airflow between two tries.
        """
        other = read_marker(execution)
        return other is not None and self._is_same_owner(other)

    def owns_older(self, execution: Execution) -> bool:
        """
        Tell whether the same task instance has submitted the execution before a clear.

        Or before its DAG run was deleted and created again. Neither is known if the DAG run has another start
        since, and the deployment is unknown.
        """
        other = read_marker(execution)
        return other is not None and not self._is_same_owner(other) and self._is_later_than(other)

    def owns_before_clear(self, execution: Execution) -> bool:
        """Tell the same, but not of an execution of a DAG run that was deleted and created again since."""
        other = read_marker(execution)
        return other is not None and not self._is_same_owner(other) and self._continues_tries_of(other)

    def is_of_try(self, execution: Execution, try_number: int) -> bool:
        """Tell whether that try of the task instance has submitted the execution, before or after a clear."""
        other = read_marker(execution)
        if other is None or other.try_number != try_number:
            return False
        return self._is_same_owner(other) or self._continues_tries_of(other)

    def _is_same_owner(self, other: Owner) -> bool:
        return (
            self._is_same_task_instance(other)
            and (self.dag_run_start, self.max_tries) == (other.dag_run_start, other.max_tries)
            and (bool(self.dag_run_start) or self.deployment == other.deployment)
        )

    def _is_same_task_instance(self, other: Owner) -> bool:
        return (self.dag_id, self.task_id, self.run_id, self.map_index, self.region) == (
            other.dag_id,
            other.task_id,
            other.run_id,
            other.map_index,
            other.region,
        )

    def _is_later_than(self, other: Owner) -> bool:
        is_same_airflow = self.deployment == other.deployment and bool(self.deployment)
        if not self._is_same_task_instance(other):
            return False
        if self.dag_run_start == other.dag_run_start and (self.dag_run_start or is_same_airflow):
            return self.try_number > other.try_number
        return is_same_airflow and self.dag_run_start > other.dag_run_start

    def _continues_tries_of(self, other: Owner) -> bool:
        """
        Tell whether the tries follow those of an older owner, as they do after a clear.

        In a DAG run that was created again they begin with 1, and ``max_tries`` is not raised. A clear after
        the number of retries was reduced may look like that. It then counts as such a DAG run, because from
        that follows no conclusion that an execution does not exist.
        """
        is_raised = self.dag_run_start == other.dag_run_start or self.max_tries > other.max_tries
        return self._is_later_than(other) and self.try_number > other.try_number and is_raised


def format_start(dag_run_start: datetime | None) -> str:
    """Return the start of a DAG run as the marker has it; empty if unknown."""
    return "" if dag_run_start is None else dag_run_start.astimezone(UTC).isoformat()


_TYPES: Mapping[str, type] = get_type_hints(Owner)
_DEFAULTS = {it.name: it.default for it in fields(Owner) if it.default is not MISSING}
"""What a marker that an earlier version has written does not contain."""


def read_marker(execution: Execution) -> Owner | None:
    """Return the owner that an execution's marker names; None without a marker as :class:`Owner` makes it."""
    marker = {**_DEFAULTS, **_marker(execution)}
    if not all(type(marker.get(name)) is it for name, it in _TYPES.items()):
        return None
    return Owner(**{name: marker[name] for name in _TYPES})


def replaced_ids(execution: Execution) -> Sequence[str]:
    """Return the ids of the executions that were cancelled for this one, according to its marker."""
    ids = _marker(execution).get(REPLACES_KEY)
    return [it for it in ids if isinstance(it, str)] if isinstance(ids, list) else []


def _marker(execution: Execution) -> Mapping[str, Any]:
    try:
        context = json.loads(execution.template_context or "null")
    except JSON_ERRORS:
        return {}
    marker = context.get(MARKER_KEY) if isinstance(context, dict) else None
    return marker if isinstance(marker, dict) else {}
