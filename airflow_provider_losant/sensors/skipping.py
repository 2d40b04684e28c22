# SPDX-License-Identifier: Apache-2.0
"""Skip a sensor instead of failing it, after the same failures in all modes and Airflow versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_losant._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow_provider_losant.exceptions import NotebookWaitTimedOut
from airflow_provider_losant.execution.deadline import is_own_timeout

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseSensorOperator

FINAL = (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout, NotebookWaitTimedOut)
"""After these, another poke cannot change anything, or there is no time for one."""


@contextmanager
def ended_by(limit: str) -> Iterator[None]:
    """
    Raise the end of a deferral as that of the argument that has ended it.

    Airflow raises the same exception for both, and retries after none.

    :param limit: The argument that sets the deadline, with its value.
    :raises NotebookWaitTimedOut: it is ``execution_timeout``, after which Airflow retries in a worker.
    """
    try:
        yield
    except AirflowSensorTimeout as error:
        if is_own_timeout(limit):
            raise
        raise NotebookWaitTimedOut(f"The execution did not end within {limit}") from error


@contextmanager
def skipping(sensor: BaseSensorOperator) -> Iterator[None]:
    """
    Skip the sensor after the failures that its ``soft_fail`` or ``never_fail`` is for.

    With ``never_fail``, Airflow itself does not skip after ``timeout`` in the mode ``poke``, nor before 3.1
    any sensor that was deferred.

    :raises AirflowSkipException: with ``soft_fail`` after one of :data:`FINAL`, with ``never_fail`` after any
        exception.
    """
    try:
        yield
    except AirflowSkipException:
        raise
    except FINAL as error:
        if sensor.soft_fail or sensor.never_fail:
            raise AirflowSkipException(str(error)) from error
        raise
    except Exception as error:
        is_rescheduled = hasattr(error, "reschedule_date")  # Airflow's exception has no common import path
        if sensor.never_fail and not is_rescheduled:
            raise AirflowSkipException(str(error)) from error
        raise
