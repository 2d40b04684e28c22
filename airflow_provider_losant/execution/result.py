# SPDX-License-Identifier: Apache-2.0
"""Turn an outcome into the result or the exception of a task, for operator and sensor in all modes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.defaults import RETRY_ON
from airflow_provider_losant.api.fields import listed
from airflow_provider_losant.api.flows.outcome import format_durations
from airflow_provider_losant.api.model import CANCELED, TIMEOUT
from airflow_provider_losant.api.timestamps import format_timestamp
from airflow_provider_losant.exceptions import (
    NotebookExecutionCanceled,
    NotebookExecutionError,
    NotebookExecutionFailed,
    NotebookExecutionTimedOut,
    NotebookWaitTimedOut,
    not_retried,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.steps import Log

_FAILURES: dict[object, type[NotebookExecutionError]] = {
    TIMEOUT.name: NotebookExecutionTimedOut,
    CANCELED.name: NotebookExecutionCanceled,
}


def result_or_raise(
    outcome: Outcome,
    *,
    url: str,
    limit: str,
    log: Log,
    fate: str = "",
    retry_on: Collection[str] = RETRY_ON,
) -> dict[str, Any]:
    """
    Return the result of a completed execution; log what is known of any other one, and raise.

    :param url: The notebook's page in Losant.
    :param limit: The argument that set the deadline, with its value.
    :param log: The task's log: a logger's ``log``.
    :param fate: What became of an execution whose wait was given up; empty if a retry will reconnect.
    :param retry_on: Statuses of an ended execution after which Airflow may retry.
    :raises NotebookExecutionError: the execution did not complete, or its status is unknown.
    """
    result = {**outcome.result, "url": url}
    name = f"Execution {result.get('execution_id')} of notebook {result['notebook_id']}"
    if outcome.is_success:
        files = listed(result.get("outputs") or (), result.get("files_left_out", 0)) or "no outputs"
        log(logging.INFO, "%s completed%s: %s", name, _duration(result), files)
        return result
    for error in outcome.errors:
        log(logging.ERROR, "%s: %s", error.get("name", "Error"), error.get("message", ""))
    if outcome.error_log:
        log(logging.ERROR, "The end of the execution's error log:\n%s", outcome.error_log)
    failure = _failure(outcome, f"execution {result.get('execution_id')}, {url}", result, limit, fate)
    failure.describe(result, errors=outcome.errors, error_log=outcome.error_log)
    is_final = outcome.ending == "ended" and result.get("status") not in retry_on
    raise not_retried(failure) if is_final else failure


def check_query_time(outcome: Outcome, requested: datetime | None, log: Log) -> None:
    """Warn if Losant used another query time: it treats one that it cannot parse as the current time."""
    used = outcome.result.get("relative_to")
    if requested is None or used is None or format_timestamp(requested) == used:
        return
    log(
        logging.WARNING,
        "relative_to: %s was requested, but the execution used %s",
        format_timestamp(requested),
        used,
    )


def _failure(
    outcome: Outcome, name: str, result: dict[str, Any], limit: str, fate: str
) -> NotebookExecutionError:
    status = result.get("status", "not listed")
    if outcome.ending == "ended":
        reasons = "; ".join(f"{it.get('name')}: {it.get('message')}" for it in outcome.errors)
        failure = _FAILURES.get(status, NotebookExecutionFailed)
        cause = f"The notebook ended with status {status}{_duration(result)}"
        return failure(f"{cause}{reasons and f': {reasons}'} ({name})")
    if outcome.ending == "deadline":
        end = (
            "was cancelled" if outcome.is_cancelled else "was not cancelled, so it may still use run minutes"
        )
        return NotebookWaitTimedOut(f"The execution did not end within {limit} and {end}: {status} ({name})")
    if outcome.ending == "not_found":
        cause = f"The execution does not exist: {outcome.problem}"
        return NotebookExecutionError(f"{cause}; check execution_id and notebook_id ({name})")
    cause = (
        "Losant denied access to the notebook's execution log"
        if outcome.ending == "refused"
        else "Lost contact with Losant"
    )
    hint = fate or "the execution was not cancelled, and a retry will reconnect to it"
    return NotebookExecutionError(f"{cause}: {outcome.problem}; {hint} ({name})")


def _duration(result: dict[str, Any]) -> str:
    durations = result.get("durations") or {}
    total = durations.get("total")
    after = "" if total is None else f" after {total:g} s"
    return after + format_durations(durations, result.get("max_run_minutes"))
