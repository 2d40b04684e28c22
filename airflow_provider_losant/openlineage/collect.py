# SPDX-License-Identifier: Apache-2.0
"""
Collect what a task reports to OpenLineage: the execution that it waited for, and their parent relation.

Airflow calls an operator's OpenLineage method after the task has ended, in a fork of its process that cannot
query Airflow or use a connection. So the data is collected while the task still runs, at its end, and only if
OpenLineage is enabled. An error here never fails the task.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.model import ExecutionRef, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.steps import Log
    from airflow_provider_losant.api.model import Notebook
    from airflow_provider_losant.hooks.losant import LosantHook

_PROVIDER = "airflow.providers.openlineage"
NOTEBOOK_TIMEOUT = 5.0
"""Seconds for reading the notebook's configuration; without it, lineage is less detailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    An execution, as it is reported to OpenLineage.

    :param result: The task's result.
    :param host: Losant's API, as in the connection.
    :param is_child: Whether this task submitted the execution.
    :param notebook: The notebook's configuration; None if it could not be read.
    :param errors: Losant's execution errors.
    :param error_log: The end of ``result.error.log``, if there is one.
    """

    result: Mapping[str, Any]
    host: str
    is_child: bool
    notebook: Notebook | None = None
    errors: Sequence[Mapping[str, str]] = ()
    error_log: str | None = None

    @property
    def ref(self) -> ExecutionRef:
        """The execution's ids."""
        ids = ("application_id", "notebook_id", "execution_id")
        return ExecutionRef(**{name: self.result[name] for name in ids})

    @property
    def status(self) -> Status:
        """The execution's status."""
        return Status.of(self.result["status"])

    def with_result(self, result: Mapping[str, Any]) -> Report:
        """Return a copy with a newer result."""
        return replace(self, result=result)


def is_enabled() -> bool:
    """Return whether Airflow's OpenLineage provider is installed and not disabled."""
    if find_spec(_PROVIDER) is None or find_spec(f"{_PROVIDER}.api") is None:
        return False
    from airflow.providers.openlineage import conf

    return not conf.is_disabled()


def collect(
    hook: LosantHook,
    result: Mapping[str, Any],
    outcome: Outcome | None = None,
    *,
    is_child: Callable[[], bool] = lambda: False,
) -> Report | None:
    """
    Collect what is known of an execution; None if OpenLineage is disabled or after an error.

    The sources of inputs are only in the notebook's configuration, so it is requested once.

    :param result: The task's result.
    :param is_child: Returns whether this task submitted the execution.
    """
    try:
        if not result.get("status") or not is_enabled():
            return None
        return Report(
            result=result,
            host=hook.settings.base_url,
            is_child=is_child(),
            notebook=_configuration(hook, result),
            errors=outcome.errors if outcome else (),
            error_log=outcome.error_log if outcome else None,
        )
    except Exception:
        hook.log.warning("Could not collect OpenLineage data of the execution", exc_info=True)
        return None


def parent_run_variables(task_instance: Any, log: Log) -> Mapping[str, str]:
    """
    Return the variables with which a notebook can report to OpenLineage that the task is its parent.

    The names are those of the environment variables that OpenLineage's integrations read.

    :param log: The task's log: a logger's ``log``.
    """
    try:
        if not is_enabled():
            return {}
        from airflow.providers.openlineage.plugins import macros

        return {
            "OPENLINEAGE_PARENT_ID": macros.lineage_parent_id(task_instance),
            "OPENLINEAGE_ROOT_PARENT_ID": macros.lineage_root_parent_id(task_instance),
        }
    except Exception:  # noqa: BLE001 - it is logged, and lineage never fails a task
        log(logging.WARNING, "Could not pass the OpenLineage parent to the notebook", exc_info=True)
        return {}


def _configuration(hook: LosantHook, result: Mapping[str, Any]) -> Notebook | None:
    from airflow_provider_losant.api.http.client import Client

    client = Client(replace(hook.settings, timeout=NOTEBOOK_TIMEOUT), hook.log.log)
    try:
        call = endpoints.get_notebook(result["application_id"], result["notebook_id"])
        return client.run(call_with_retry(call, 0))
    except LosantError as error:
        hook.log.info(
            "Could not read the notebook (%s); OpenLineage gets inputs without their sources", error
        )
        return None
    finally:
        client.close()
