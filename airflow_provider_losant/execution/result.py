# SPDX-License-Identifier: Apache-2.0
"""The one ending: whoever waited, and however, what a DAG gets from an outcome is decided here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_losant.api.flows.outcome import format_durations
from airflow_provider_losant.api.model import CANCELED, TIMEOUT
from airflow_provider_losant.exceptions import (
    NotebookExecutionCanceled,
    NotebookExecutionError,
    NotebookExecutionFailed,
    NotebookExecutionTimedOut,
    NotebookWaitTimedOut,
)

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.steps import Log

_FAILURES: dict[object, type[NotebookExecutionError]] = {
    TIMEOUT.name: NotebookExecutionTimedOut,
    CANCELED.name: NotebookExecutionCanceled,
}


def result_or_raise(outcome: Outcome, *, url: str, limit: str, log: Log) -> dict[str, Any]:
    """
    Return the result of a run that ended well; tell what is known of any other, and raise.

    :param url: The notebook's page in Losant.
    :param limit: The argument that set the deadline, with its value.
    :param log: The task's log: a logger's ``log``.
    :raises NotebookExecutionError: the run did not end well, or nobody knows.
    """
    result = {**outcome.result, "url": url}
    name = f"Execution {result.get('execution_id')} of notebook {result['notebook_id']}"
    if outcome.is_success:
        files = ", ".join(result["outputs"]) or "no outputs"
        log(logging.INFO, "%s completed%s: %s", name, _took(result), files)
        return result
    for error in outcome.errors:
        log(logging.ERROR, "%s: %s", error.get("name", "Error"), error.get("message", ""))
    if outcome.error_log:
        log(logging.ERROR, "The end of its error log:\n%s", outcome.error_log)
    return _fail(outcome, f"{name} ({url})", result, limit)


def _fail(outcome: Outcome, name: str, result: dict[str, Any], limit: str) -> NoReturn:
    if outcome.ending == "ended":
        reasons = "; ".join(f"{it.get('name')}: {it.get('message')}" for it in outcome.errors)
        failure = _FAILURES.get(result["status"], NotebookExecutionFailed)
        raise failure(f"{name} ended as {result['status']}{_took(result)}" + (reasons and f": {reasons}"))
    if outcome.ending == "deadline":
        fate = "it was cancelled" if outcome.is_cancelled else "it was left alone and may use minutes"
        status = result.get("status", "never seen")
        raise NotebookWaitTimedOut(f"{name} had not ended ({status}) when {limit} was over: {fate}")
    if outcome.ending == "refused":
        raise NotebookExecutionError(f"{name} was left alone, as nobody may look at it: {outcome.problem}")
    raise NotebookExecutionError(
        f"{name} was lost sight of and left alone; a retry takes it over: {outcome.problem}"
    )


def _took(result: dict[str, Any]) -> str:
    durations = result.get("durations") or {}
    total = durations.get("total")
    after = "" if total is None else f" after {total:g} s"
    return after + format_durations(durations, result.get("max_run_minutes"))
