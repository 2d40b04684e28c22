# SPDX-License-Identifier: Apache-2.0
"""
The exceptions that a failed task raises.

::

    AirflowFailException
    └── LosantConfigError              something must be changed first; Airflow does not retry
    AirflowException
    └── NotebookError                      has the ids, the link and the errors of the execution
        ├── NotebookOutputError            an output could not be read or written; the execution is good
        └── NotebookExecutionError         the execution, or the wait for it, failed; Airflow retries
            ├── NotebookNotStarted         another execution is active, or the run minutes are used up
            ├── NotebookExecutionFailed    the notebook ended with an error
            ├── NotebookExecutionTimedOut  it used up the run minutes that Losant allows it
            ├── NotebookExecutionCanceled  it was cancelled
            │   └── NotebookExecutionReplaced  by another task that runs the notebook; Airflow does not retry
            └── NotebookWaitTimedOut       it had not ended within the task's timeout

Where Airflow must not retry although the class is one that it retries, the exception is also an instance of
Airflow's ``AirflowFailException`` (see ``retry_on`` of the execute operator).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Self, TypeVar, cast

from airflow_provider_losant._compat import AirflowException, AirflowFailException
from airflow_provider_losant.api.errors import LosantError


class LosantConfigError(AirflowFailException):
    """
    An argument, the connection or the token is invalid; Airflow does not retry.

    Also if ``values_from`` names an output that a completed execution does not have, or that has no values.
    """


class NotebookError(AirflowException):
    """
    Base class of the exceptions about an execution of a notebook; its text begins with the cause.

    The attributes are what a callback needs for a message. They contain no token and no signed URL, and
    survive pickling and copying. Each is None, or empty, where it is unknown.

    :ivar execution_id: ID of the execution.
    :ivar notebook_id: ID of the notebook.
    :ivar url: The notebook's page in Losant.
    :ivar status: Losant's status of the execution, such as ``errored``.
    :ivar errors: Losant's execution errors, with ``name`` and ``message``: the first 20, cut to 2,000
        characters, and one more that counts the others.
    :ivar error_log: The end of ``result.error.log``, at most 4,000 bytes.
    """

    execution_id: str | None = None
    notebook_id: str | None = None
    url: str | None = None
    status: str | None = None
    errors: Sequence[Mapping[str, str]] = ()
    error_log: str | None = None

    def describe(
        self,
        known: Mapping[str, Any],
        *,
        errors: Sequence[Mapping[str, str]] = (),
        error_log: str | None = None,
    ) -> Self:
        """
        Set the attributes, and return the exception.

        :param known: What is known of the execution: any keys of a task's result.
        :param errors: Losant's execution errors.
        :param error_log: The end of ``result.error.log``.
        """
        for name in ("execution_id", "notebook_id", "url", "status"):
            if known.get(name) is not None:
                setattr(self, name, str(known[name]))
        self.errors = tuple(dict(error) for error in errors)
        self.error_log = error_log
        return self


class NotebookOutputError(NotebookError):
    """
    An output file could not be read from Losant, or written to its destination.

    The execution itself is not affected.
    """


class NotebookExecutionError(NotebookError):
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


Failure = TypeVar("Failure", bound=NotebookError)


def not_retried(failure: Failure, airflows: type[AirflowException] = AirflowFailException) -> Failure:
    """
    Return an exception as one that Airflow does not retry: also an instance of one of Airflow's classes.

    :param airflows: The class: ``AirflowFailException``, or that of a sensor's timeout.
    """
    if isinstance(failure, airflows):
        return failure
    return cast("Failure", _restore((type(failure), airflows), failure.args, vars(failure)))


@cache
def _class_of_both(bases: tuple[type[Any], type[Any]]) -> type[NotebookError]:
    """Make the class of an exception that is not retried; it has the name of its own class."""

    def reduce(failure: NotebookError) -> tuple[Any, ...]:
        return _restore, (bases, failure.args, vars(failure))

    own = bases[0]
    attributes = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": reduce}
    return type(own.__name__, bases, attributes)


def _restore(bases: tuple[type[Any], type[Any]], args: tuple[Any, ...], state: Mapping[str, Any]) -> Any:
    failure = _class_of_both(bases)(*args)
    vars(failure).update(state)
    return failure


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
