# SPDX-License-Identifier: Apache-2.0
"""
Decide whether Airflow may retry after a failure: always, unless no execution can exist.

A retry reconnects to the execution that exists. After a final failure nothing would, and a user who then
clears the task would pay for another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow_provider_losant._compat import AirflowException, AirflowSkipException
from airflow_provider_losant.api.flows.start_policy import Replaced, StartDenied, StartSkipped
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookExecutionReplaced,
    NotebookNotStarted,
)
from airflow_provider_losant.execution.submission import load_execution_id
from airflow_provider_losant.execution.try_state import EXECUTION_KEY, pull_own_xcom

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.hooks.losant import LosantHook


def raise_config_failure(
    error: AirflowException, task: BaseOperator, context: Context, *, is_resumed: bool
) -> NoReturn:
    """
    Raise what ends the task after an error in its arguments or its connection.

    :param is_resumed: The task was deferred before.
    """
    if not is_resumed and context["ti"].try_number == 1:
        raise error
    known_id = pull_own_xcom(task, context, EXECUTION_KEY) or load_execution_id(context)
    which = f"Execution {known_id}" if known_id else "An execution of an earlier try"
    failure = NotebookExecutionError(f"{error}. {which} may still be active, and was not cancelled")
    raise failure.describe({"execution_id": known_id}) from error


def submit_failure(error: LosantError, submission: Submission, hook: LosantHook) -> Exception:
    """Return what the task raises when nothing was submitted, or it is unknown whether something was."""
    ids = {"application_id": submission.application_id, "notebook_id": submission.notebook_id}
    known = {**ids, "url": hook.settings.notebook_url(**ids, execution_id="")}
    match error:
        case StartSkipped():
            return AirflowSkipException(str(error))
        case StartDenied():
            return NotebookNotStarted(str(error)).describe(known)
        case Replaced():
            return NotebookExecutionReplaced(str(error)).describe(known)
    where = f"{submission}, connection {hook.losant_conn_id!r}"
    message = f"Submitting an execution failed: {error} ({where})"
    # If Losant may have processed the request, neither the arguments nor the token are wrong.
    if error.is_transient or error.may_have_taken_effect:
        return NotebookExecutionError(message).describe(known)
    return LosantConfigError(message)
