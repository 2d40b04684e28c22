# SPDX-License-Identifier: Apache-2.0
"""
What a task keeps in mind for OpenLineage: the execution that it waited for, and how to be its parent.

Airflow asks an operator for its lineage after the task has ended, in a fork of its process in which neither
Airflow nor a connection can be asked for anything. So all of it is noted while the task still runs, wherever
it has come to its end, and only where somebody listens. Nothing of this ever fails a task.
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
"""Seconds that Losant has to describe a notebook; without it, lineage is merely coarser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    An execution, for those who listen.

    :param result: The execution, as DAGs see it.
    :param host: Losant's API, as in the connection.
    :param is_child: This task has started it.
    :param notebook: The notebook's configuration, when Losant told.
    :param errors: Losant's execution errors.
    :param error_log: The end of ``result.error.log``, where there is one.
    """

    result: Mapping[str, Any]
    host: str
    is_child: bool
    notebook: Notebook | None = None
    errors: Sequence[Mapping[str, str]] = ()
    error_log: str | None = None

    @property
    def ref(self) -> ExecutionRef:
        """Its ids."""
        ids = ("application_id", "notebook_id", "execution_id")
        return ExecutionRef(**{name: self.result[name] for name in ids})

    @property
    def status(self) -> Status:
        """What has become of it."""
        return Status.of(self.result["status"])

    def with_result(self, result: Mapping[str, Any]) -> Report:
        """Take over what has become known since."""
        return replace(self, result=result)


def is_enabled() -> bool:
    """Tell whether somebody listens: Airflow's OpenLineage provider is installed, and has a transport."""
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
    Keep what is known of an execution.

    Where an input comes from only the notebook's configuration says, so Losant is asked for it once.

    :param is_child: Tells whether this task has started it.
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
        hook.log.warning("OpenLineage will not be told of the execution", exc_info=True)
        return None


def parent_run_variables(task_instance: Any, log: Log) -> Mapping[str, str]:
    """
    Return what lets a notebook tell OpenLineage that it is a child of the task.

    The names are those of the environment variables that OpenLineage's own integrations look for.
    """
    try:
        if not is_enabled():
            return {}
        from airflow.providers.openlineage.plugins import macros

        return {
            "OPENLINEAGE_PARENT_ID": macros.lineage_parent_id(task_instance),
            "OPENLINEAGE_ROOT_PARENT_ID": macros.lineage_root_parent_id(task_instance),
        }
    except Exception:  # noqa: BLE001 - it is told, and lineage fails no task
        log(logging.WARNING, "The notebook will not be told of its OpenLineage parent", exc_info=True)
        return {}


def _configuration(hook: LosantHook, result: Mapping[str, Any]) -> Notebook | None:
    from airflow_provider_losant.api.http.client import Client

    client = Client(replace(hook.settings, timeout=NOTEBOOK_TIMEOUT), hook.log.log)
    try:
        call = endpoints.get_notebook(result["application_id"], result["notebook_id"])
        return client.run(call_with_retry(call, 0))
    except LosantError as error:
        hook.log.info(
            "For OpenLineage inputs are files and no more; the notebook could not be read: %s", error
        )
        return None
    finally:
        client.close()
