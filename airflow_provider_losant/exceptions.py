# SPDX-License-Identifier: Apache-2.0
"""
The exceptions that a failed task raises.

::

    AirflowFailException
    └── LosantConfigError              something must be changed first; Airflow does not retry
    AirflowException
    ├── NotebookOutputError            an output could not be read or written; the execution is not affected
    └── NotebookExecutionError         the execution, or the wait for it, failed; Airflow retries
        ├── NotebookNotStarted         another execution is active, or the run minutes are used up
        ├── NotebookExecutionFailed    the notebook ended with an error
        ├── NotebookExecutionTimedOut  it used up the run minutes that Losant allows it
        ├── NotebookExecutionCanceled  it was cancelled
        │   └── NotebookExecutionReplaced  by another task that runs the notebook; Airflow does not retry
        └── NotebookWaitTimedOut       it had not ended within the task's timeout
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_losant._compat import AirflowException, AirflowFailException
from airflow_provider_losant.api.errors import LosantError


class LosantConfigError(AirflowFailException):
    """
    An argument, the connection or the token is invalid; Airflow does not retry.

    Also if ``values_from`` names an output that a completed execution does not have, or that has no values.
    """


class NotebookOutputError(AirflowException):
    """
    An output file could not be read from Losant, or written to its destination.

    The execution itself is not affected.
    """


class NotebookExecutionError(AirflowException):
    """A notebook's execution, or the wait for it, failed."""


class NotebookNotStarted(NotebookExecutionError):
    """``if_running`` or ``max_minutes`` did not allow a submission."""


class NotebookExecutionFailed(NotebookExecutionError):
    """The notebook ended with an error (status ``errored``)."""


class NotebookExecutionTimedOut(NotebookExecutionError):
    """The notebook used up the run minutes that Losant allows it (status ``timeout``)."""


class NotebookExecutionCanceled(NotebookExecutionError):
    """The execution was cancelled (status ``canceled``)."""


class NotebookExecutionReplaced(NotebookExecutionCanceled, AirflowFailException):
    """
    Another task with ``if_running="cancel_previous"`` has cancelled the execution and submitted its own.

    Airflow does not retry, because a retry would replace the newer execution in turn.
    """


class NotebookWaitTimedOut(NotebookExecutionError):
    """The execution had not ended within ``timeout`` (or ``execution_timeout``)."""


@contextmanager
def permanent_errors_as_config_error(where: str = "") -> Iterator[None]:
    """
    Raise permanent errors as :class:`LosantConfigError`, which Airflow does not retry.

    :param where: What the message begins with.
    """
    try:
        yield
    except LosantError as error:
        if error.is_transient:
            raise
        raise LosantConfigError(f"{where}{error}") from error
