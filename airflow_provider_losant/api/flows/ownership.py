# SPDX-License-Identifier: Apache-2.0
"""
The owner of an execution, and the marker by which a retry finds the owner's executions.

Losant has no idempotency key, but its execution log contains each execution's template context. So the
operator adds the key ``airflow`` to it: the *marker*, which names the *owner*. All automatic retries of a
task have the same owner; a clear by a user makes a new one. The notebook's author can read the marker in
``INPUT_DIR/context.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import JSON_ERRORS

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution

MARKER_KEY = "airflow"
_FIELDS = {"dag_id", "task_id", "run_id", "map_index", "try_number", "id", "sweep"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """
    A task instance between two clears, with all its tries.

    :param try_number: The try that submits.
    :param max_tries: Airflow's own count, which changes exactly when a user clears the task.
    :param may_sweep: The orphan sweep may cancel the execution when no task waits for it.
    :param deployment: Anything that differs between two Airflow deployments that share an application
        and run the same DAG.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    max_tries: int
    deployment: str
    may_sweep: bool = True

    @property
    def task_id_hash(self) -> str:
        """A short name for the task instance, the same before and after a clear."""
        parts = [self.dag_id, self.task_id, self.run_id, self.map_index, self.deployment]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    @property
    def id(self) -> str:
        """The name of the owner in the marker."""
        return f"{self.task_id_hash}.{self.max_tries}"

    def add_marker(
        self, context: Mapping[str, Any], openlineage: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """
        Return the template context with the marker in it.

        :param openlineage: Variables that make the notebook's own OpenLineage events children of the task.
        """
        return {
            **context,
            MARKER_KEY: {
                "dag_id": self.dag_id,
                "task_id": self.task_id,
                "run_id": self.run_id,
                "map_index": self.map_index,
                "try_number": self.try_number,
                "id": self.id,
                "sweep": self.may_sweep,
                **({"openlineage": dict(openlineage)} if openlineage else {}),
            },
        }

    def owns(self, execution: Execution) -> bool:
        """Tell whether this owner has submitted the execution."""
        return _marker_id(execution) == self.id

    def is_same_task(self, execution: Execution) -> bool:
        """Tell whether the same task instance has submitted the execution, before or after a clear."""
        return _marker_id(execution).partition(".")[0] == self.task_id_hash

    def owns_older(self, execution: Execution) -> bool:
        """Tell whether the same task instance has submitted the execution before (or after) a clear."""
        return self.is_same_task(execution) and not self.owns(execution)


def try_number(execution: Execution) -> object:
    """Return which try has submitted the execution; None when it has no marker."""
    return read_marker(execution).get("try_number")


def _marker_id(execution: Execution) -> str:
    return str(read_marker(execution).get("id", ""))


def read_marker(execution: Execution) -> Mapping[str, Any]:
    """Return an execution's marker; empty when it has none, or an ``airflow`` key of another kind."""
    try:
        context = json.loads(execution.template_context or "null")
    except JSON_ERRORS:
        return {}
    marker = context.get(MARKER_KEY) if isinstance(context, dict) else None
    return marker if isinstance(marker, dict) and marker.keys() >= _FIELDS else {}
