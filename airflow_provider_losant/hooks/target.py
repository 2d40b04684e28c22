# SPDX-License-Identifier: Apache-2.0
"""Resolve arguments to the notebook, and a sensor's to the execution to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.flows.notebooks import find_notebook
from airflow_provider_losant.api.flows.wait import Target
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.exceptions import permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.hooks.losant import LosantHook

NOTEBOOK_KEY = "notebook_id"
"""The XCom with the id of a notebook that was found by its name."""


def name_to_find(notebook_id: object, notebook_name: object) -> str | None:
    """
    Return the name by which to find the notebook; None if its id is given.

    A template that renders to an empty text counts as not given.

    :raises InvalidArgument: both or neither are given, or the name is not text.
    """
    if _is_empty(notebook_name):
        if _is_empty(notebook_id):
            raise InvalidArgument(
                "notebook_id", "is missing, and so is notebook_name; give exactly one of them"
            )
        return None
    if not _is_empty(notebook_id):
        raise InvalidArgument("notebook_name", "is given, and so is notebook_id; give exactly one of them")
    if not isinstance(notebook_name, str):
        raise InvalidArgument("notebook_name", f"{notebook_name!r} is not text")
    return notebook_name


def resolve_notebook(
    hook: LosantHook,
    context: Context,
    *,
    notebook_id: str | None,
    notebook_name: str | None,
    max_outage: float = 0.0,
) -> str:
    """
    Return the notebook's id: the one given, or that of the only notebook with the name, pushed as an XCom.

    :param max_outage: Seconds for which the search is repeated while Losant cannot be asked.
    :raises LosantConfigError: an argument is missing or invalid, or none or several notebooks have the name.
    """
    with permanent_errors_as_config_error():
        name = name_to_find(notebook_id, notebook_name)
        if name is None:
            return losant_id(notebook_id, field="notebook_id")
        ids = hook.resolve_application_id(), name
        found = hook.client.run(find_notebook(*ids, hook.settings.max_retries, max_outage=max_outage))
    context["ti"].xcom_push(key=NOTEBOOK_KEY, value=found.id)
    return found.id


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def resolve_target(
    hook: LosantHook, *, notebook_id: str | None, execution_id: str | None, since: object
) -> Target:
    """
    Return the execution to wait for.

    :param execution_id: The execution; None for the first one to end of those queued since ``since``.
    :param since: Datetime, ISO-8601 text or epoch *milliseconds*.
    :raises LosantConfigError: an argument is missing or invalid.
    """
    with permanent_errors_as_config_error():
        if execution_id is not None:
            return Target.of(hook.execution_ref(losant_id(notebook_id, field="notebook_id"), execution_id))
        if since is None:
            raise InvalidArgument("execution_id", "is missing, and so is since; the sensor needs one of them")
        return Target(
            application_id=hook.resolve_application_id(),
            notebook_id=losant_id(notebook_id, field="notebook_id"),
            since=parse_timestamp(since, field="since").timestamp(),
        )
