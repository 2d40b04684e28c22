# SPDX-License-Identifier: Apache-2.0
"""What is to be run, on which terms, and the run that came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.model import QUEUED, Execution

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.ownership import Owner
    from airflow_provider_losant.api.model import ExecutionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    What is to be run.

    :param options: The body of ``execute``.
    :param chain: Whose run it is; None when the context carries no mark.
    :param known_id: The run that an earlier try of this chain is known to have started.
    """

    application_id: str
    notebook_id: str
    options: Mapping[str, Any]
    owner: Owner | None = None
    known_id: str | None = None

    def __str__(self) -> str:
        return f"notebook {self.notebook_id} of application {self.application_id}"

    def owns(self, execution: Execution) -> bool:
        """Tell whether a try of this order's chain started the execution."""
        if self.known_id is not None and execution.ref.execution_id == self.known_id:
            return True
        return self.owner is not None and self.owner.owns(execution)

    def is_same_task(self, execution: Execution) -> bool:
        """Tell whether the task instance of this order started the execution, in whatever chain."""
        return self.owns(execution) or (self.owner is not None and self.owner.is_same_task(execution))

    def supersedes(self, execution: Execution) -> bool:
        """Tell whether the same task instance started the execution before a user cleared it."""
        return self.owner is not None and self.owner.owns_older(execution)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPolicy:
    """
    How hard to try.

    :param retries: How often to ask again while Losant provably has not taken the order.
    :param max_log_lag: Seconds that the log may lag behind ``execute``.
    :param max_poll_outage: Seconds without one readable answer after which the search is given up.
    :param lookback: Seconds that an earlier try's run may be old.
    :param cancel_stale: Stop runs that nobody waits for any more.
    """

    retries: int
    max_log_lag: float
    max_poll_outage: float
    lookback: float
    cancel_stale: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """
    A run that belongs to this task now.

    :param submitted_at: Epoch seconds from which its time counts.
    :param execution: What the log showed, when the run was found there and not started just now.
    :param is_owned: This task, in whatever try, has started it, and so may stop it.
    """

    ref: ExecutionRef
    submitted_at: float
    execution: Execution | None = None
    is_owned: bool = True

    @classmethod
    def adopted(cls, execution: Execution) -> Started:
        """Share a run that somebody else has started."""
        return replace(cls.reconnected(execution), is_owned=False)

    @classmethod
    def reconnected(cls, execution: Execution) -> Started:
        """Take over a run from the log."""
        return cls(ref=execution.ref, submitted_at=execution.queued_time, execution=execution)

    def to_result(self, submission: Submission) -> dict[str, Any]:
        """Return what a DAG gets that does not wait: what the log showed, or else what was ordered."""
        if self.execution is not None:
            return self.execution.to_result()
        asked = submission.options.get("relativeTo")
        ordered = Execution(
            ref=self.ref,
            status=QUEUED,
            relative_to=asked and datetime.fromisoformat(asked),
            queued_at=datetime.fromtimestamp(self.submitted_at, UTC),
        )
        return ordered.to_result()
