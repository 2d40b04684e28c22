# SPDX-License-Identifier: Apache-2.0
"""Resolve arguments to the notebook, and a sensor's to the execution to wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import is_given, losant_id, parse_statuses, refuse
from airflow_provider_losant.api.flows.execution_filter import parse_context_contains
from airflow_provider_losant.api.flows.notebooks import find_notebook
from airflow_provider_losant.api.flows.wait import Target
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.hooks.losant import LosantHook

NOTEBOOK_KEY = "notebook_id"
"""The XCom with the id of a notebook that was found by its name."""


def name_to_find(notebook_id: object, notebook_name: object) -> str | None:
    """
    Return the name by which to find the notebook; None if its id is given.

    A template that renders to an empty text or to ``None`` counts as not given.

    :raises InvalidArgument: both or neither are given, or the name is not text.
    """
    if not is_given(notebook_name):
        if not is_given(notebook_id):
            raise InvalidArgument(
                "notebook_id", "is missing, and so is notebook_name; give exactly one of them"
            )
        return None
    if is_given(notebook_id):
        raise InvalidArgument("notebook_name", "is given, and so is notebook_id; give exactly one of them")
    if not isinstance(notebook_name, str):
        refuse(notebook_name, "notebook_name", "is not text")
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


def resolve_target(
    hook: LosantHook,
    *,
    notebook_id: str | None,
    execution_id: str | None,
    since: object,
    statuses: Sequence[str] | None = None,
    context_contains: Mapping[str, Any] | str | None = None,
) -> Target:
    """
    Return the execution to wait for.

    :param execution_id: The execution; None or empty for the first to end of those queued since ``since``.
    :param since: Datetime, ISO-8601 text or epoch *milliseconds*.
    :param statuses: With ``since``: the final statuses that count.
    :param context_contains: With ``since``: what the template context contains.
    :raises LosantConfigError: an argument is missing or invalid, or two exclude each other.
    """
    choice = {"since": since, "statuses": statuses, "context_contains": context_contains}
    refuse_choice_beside_id(execution_id, choice)
    with permanent_errors_as_config_error():
        if execution_id is not None and is_given(execution_id):
            return Target.of(hook.execution_ref(losant_id(notebook_id, field="notebook_id"), execution_id))
        if not is_given(since):
            raise InvalidArgument("execution_id", "is missing, and so is since; the sensor needs one of them")
        return Target(
            application_id=hook.resolve_application_id(),
            notebook_id=losant_id(notebook_id, field="notebook_id"),
            since=parse_timestamp(since, field="since").timestamp(),
            statuses=() if statuses is None else parse_statuses(statuses),
            context_contains=parse_context_contains(context_contains),
        )


def refuse_choice_beside_id(execution_id: object, choice: Mapping[str, object]) -> None:
    """
    Do nothing unless both an execution and how to choose one are given.

    :param choice: The arguments that choose an execution, by name.
    :raises LosantConfigError: both are given.
    """
    given = [name for name, value in choice.items() if is_given(value)]
    if is_given(execution_id) and given:
        raise LosantConfigError(
            f"execution_id: names one execution, so {' and '.join(given)} cannot be given together with it"
        )
