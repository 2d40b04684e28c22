# SPDX-License-Identifier: Apache-2.0
"""
The mark by which a task finds its run again.

Losant has no idempotency key, but its log echoes each run's template context. So the operator adds one
key to it, ``airflow``, which says which task instance asked, and in which *chain of tries*: automatic
retries belong to one chain, a clear by a user begins the next. It is lineage for the notebook's author
too, who finds it in ``INPUT_DIR/context.json``.
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
    A task instance's chain of tries.

    :param max_tries: Airflow's own count, which changes exactly when a user clears the task.
    :param may_sweep: Whether the run is worth nothing without its task, so that an orphan may be cancelled.
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
        """A name for the task instance, the same in every chain of it."""
        parts = [self.dag_id, self.task_id, self.run_id, self.map_index, self.deployment]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    @property
    def id(self) -> str:
        """A name for the chain."""
        return f"{self.task_id_hash}.{self.max_tries}"

    def add_marker(
        self, context: Mapping[str, Any], openlineage: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """
        Return the context with the mark in it.

        :param openlineage: What the notebook needs to be a child of its task in OpenLineage, if it is told.
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
        """Tell whether a try of this chain started the execution."""
        return _marker_id(execution) == self.id

    def is_same_task(self, execution: Execution) -> bool:
        """Tell whether the same task instance started the execution, in whatever chain."""
        return _marker_id(execution).partition(".")[0] == self.task_id_hash

    def owns_older(self, execution: Execution) -> bool:
        """Tell whether the same task instance started the execution in another chain."""
        return self.is_same_task(execution) and not self.owns(execution)


def try_number(execution: Execution) -> object:
    """Return which try started the execution; None when it has no mark."""
    return read_marker(execution).get("try_number")


def _marker_id(execution: Execution) -> str:
    return str(read_marker(execution).get("id", ""))


def read_marker(execution: Execution) -> Mapping[str, Any]:
    """Return an execution's mark; empty when it has none, or none of ours."""
    try:
        context = json.loads(execution.template_context or "null")
    except JSON_ERRORS:
        return {}
    marker = context.get(MARKER_KEY) if isinstance(context, dict) else None
    return marker if isinstance(marker, dict) and marker.keys() >= _FIELDS else {}
