# SPDX-License-Identifier: Apache-2.0
"""What to submit, how hard to try, and the execution that came of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.defaults import RETRY_ON
from airflow_provider_losant.api.flows.ownership import MARKER_KEY, REPLACES_KEY
from airflow_provider_losant.api.model import QUEUED, Execution
from airflow_provider_losant.api.payloads import MAX_CONTEXT, compact_json

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.ownership import Owner
    from airflow_provider_losant.api.model import ExecutionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    What to submit.

    :param notebook_id: ID of the notebook; empty as long as only its name is known.
    :param options: The body of ``execute``.
    :param owner: Whose execution it is; None when the template context carries no marker.
    :param known_id: ID of the execution that an earlier try of the owner is known to have submitted.
    :param notebook_name: Name by which the notebook is found; None if its id was given.
    """

    application_id: str
    notebook_id: str
    options: Mapping[str, Any]
    owner: Owner | None = None
    known_id: str | None = None
    notebook_name: str | None = None

    def __str__(self) -> str:
        return f"notebook {self.notebook_id or repr(self.notebook_name)} of application {self.application_id}"

    def owns(self, execution: Execution) -> bool:
        """Tell whether a try of the owner has submitted the execution."""
        if self.known_id is not None and execution.ref.execution_id == self.known_id:
            return True
        return self.owner is not None and self.owner.owns(execution)

    def owns_older(self, execution: Execution) -> bool:
        """Tell whether the same task instance submitted the execution before a user cleared it."""
        return self.owner is not None and self.owner.owns_older(execution)

    def owns_before_clear(self, execution: Execution) -> bool:
        """Tell the same, but not of an execution of a DAG run that was deleted and created again since."""
        return self.owner is not None and self.owner.owns_before_clear(execution)

    def is_same_task(self, execution: Execution) -> bool:
        """Tell whether the same task instance has submitted the execution, now or before a clear."""
        return self.owns(execution) or self.owns_older(execution)

    def replacing(self, ids: Collection[str]) -> Submission:
        """Return the same submission with a marker that names the executions that were cancelled for it."""
        if self.owner is None or not ids:
            return self
        context = json.loads(self.options["templateContext"])
        context[MARKER_KEY][REPLACES_KEY] = list(ids)
        marked = compact_json(context)
        if len(marked) > MAX_CONTEXT:
            return self
        return replace(self, options={**self.options, "templateContext": marked})


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPolicy:
    """
    How hard to try.

    :param retries: How often to submit again while a request certainly had no effect.
    :param max_log_lag: Seconds that the log may lag behind ``execute``.
    :param max_poll_outage: Seconds without a readable response after which the search is given up.
    :param back_to: Epoch seconds back to which the log is searched for executions of the task.
    :param first_try_after: Epoch seconds before which no try of the owner can have submitted any; by default
        ``back_to``.
    :param cancel_stale: Cancel executions of the task that it does not wait for any more.
    :param reconnect_after_clear: Reconnect also to an execution from before a clear.
    :param retry_on: Statuses of an earlier try's execution after which a new one is submitted.
    """

    retries: int
    max_log_lag: float
    max_poll_outage: float
    back_to: float
    first_try_after: float | None = None
    cancel_stale: bool = True
    reconnect_after_clear: bool = False
    retry_on: Collection[str] = RETRY_ON


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """
    The execution that a task waits for.

    :param submitted_at: Epoch seconds from which ``timeout`` counts.
    :param execution: What the log showed, when the execution was found there and not submitted just now.
    :param is_owned: A try of this task has submitted it, so that the task may cancel it.
    """

    ref: ExecutionRef
    submitted_at: float
    execution: Execution | None = None
    is_owned: bool = True

    @classmethod
    def reconnected(cls, execution: Execution, *, is_owned: bool = True) -> Started:
        """Wait for an execution that an earlier try, or else another task or user, has submitted."""
        return cls(
            ref=execution.ref, submitted_at=execution.queued_time, execution=execution, is_owned=is_owned
        )

    @property
    def is_reconnected(self) -> bool:
        """Whether the task continues with an execution of its own that it did not submit just now."""
        return self.is_owned and self.execution is not None

    def to_result(self, submission: Submission) -> dict[str, Any]:
        """Return the result of a task that does not wait: what the log showed, or what was submitted."""
        if self.execution is not None:
            return self.execution.to_result()
        relative_to = submission.options.get("relativeTo")
        submitted = Execution(
            ref=self.ref,
            status=QUEUED,
            relative_to=relative_to and datetime.fromisoformat(relative_to),
            queued_at=datetime.fromtimestamp(self.submitted_at, UTC),
        )
        return submitted.to_result()
