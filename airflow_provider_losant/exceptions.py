# SPDX-License-Identifier: Apache-2.0
"""
What a DAG author meets when a task fails.

::

    AirflowFailException
    └── LosantConfigError              something must be changed first; Airflow does not retry
    AirflowException
    ├── NotebookOutputError            a file of a run, which itself is well, could not be written
    └── NotebookExecutionError         the run, or the wait for it, went wrong; Airflow retries
        ├── NotebookNotStarted         another run goes on, or its minutes are used up
        ├── NotebookExecutionFailed    the notebook ended with an error
        ├── NotebookExecutionTimedOut  it ran out of the run minutes Losant allows it
        ├── NotebookExecutionCanceled  somebody stopped it
        └── NotebookWaitTimedOut       it had not ended when our own time was up
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_losant._compat import AirflowException, AirflowFailException
from airflow_provider_losant.api.errors import LosantError


class LosantConfigError(AirflowFailException):
    """An argument, the connection or the token is not right; trying again changes nothing."""


class NotebookOutputError(AirflowException):
    """A file of a run could not be written where it was wanted; the run itself is well."""


class NotebookExecutionError(AirflowException):
    """A notebook's execution, or the wait for it, went wrong."""


class NotebookNotStarted(NotebookExecutionError):
    """``if_running`` or ``max_minutes`` kept the run from being started."""


class NotebookExecutionFailed(NotebookExecutionError):
    """The notebook ended with an error (status ``errored``)."""


class NotebookExecutionTimedOut(NotebookExecutionError):
    """The notebook ran out of the run minutes Losant allows it (status ``timeout``)."""


class NotebookExecutionCanceled(NotebookExecutionError):
    """The execution was cancelled (status ``canceled``)."""


class NotebookWaitTimedOut(NotebookExecutionError):
    """The execution had not ended when ``timeout`` (or ``execution_timeout``) was over."""


@contextmanager
def permanent_errors_as_config_error(where: str = "") -> Iterator[None]:
    """Turn an error of Losant's that trying again cannot change into the one that Airflow does not retry."""
    try:
        yield
    except LosantError as error:
        if error.is_transient:
            raise
        raise LosantConfigError(f"{where}{error}") from error
