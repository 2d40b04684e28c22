# SPDX-License-Identifier: Apache-2.0
"""Build the submission: with the owner's marker, and the execution id that an earlier try stored."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import deployment_id, loop_index, loop_region, task_store
from airflow_provider_losant.api.flows.ownership import MARKER_KEY, Owner, format_start
from airflow_provider_losant.api.flows.submission import Submission
from airflow_provider_losant.api.payloads import MAX_CONTEXT, compact_json, execution_options
from airflow_provider_losant.openlineage.collect import parent_run_variables

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.steps import Log
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.execution.arguments import ExecuteArguments

STORE_KEY = "losant_execution"
"""In Airflow's task state store: the id of the latest execution that a try has submitted, and its owner."""
NOTEBOOK_STORE_KEY = "losant_notebook"
"""The same of the notebook that a try has found by its name, stored before it submits."""


def build_submission(arguments: ExecuteArguments, context: Context, log: Log) -> Submission:
    """
    Return what the task submits, with the marker by which a retry can reconnect.

    :param log: The task's log: a logger's ``log``.
    """
    owner = _owner(arguments, context)
    template_context, problem = arguments.template_context, ""
    if not arguments.durable:
        problem = "durable=False"
    elif owner is None:
        problem = "this Airflow has the region of a looped task in an unknown form"
    else:
        template_context, problem = _add_marker(owner, template_context, context, log)
    if arguments.reconnect_after_clear and owner and owner.try_number > 1 and not owner.deployment:
        log(
            logging.WARNING,
            "reconnect_after_clear: without Airflow's [api] base_url, an execution from before its whole DAG "
            "run was cleared cannot be recognised",
        )
    known_id = load_execution_id(context) if arguments.durable else None
    if problem and not known_id:
        log(logging.WARNING, "A retry cannot reconnect to this execution: %s", problem)
    return Submission(
        application_id=arguments.application_id,
        notebook_id=arguments.notebook_id,
        notebook_name=arguments.notebook_name,
        options=execution_options(
            relative_to=arguments.relative_to,
            template_context=template_context,
            email=arguments.notification_email,
            callback_url=arguments.callback_url,
        ),
        owner=None if problem else owner,
        known_id=known_id,
    )


def save_execution_id(context: Context, ref: ExecutionRef, log: Log) -> None:
    """Store the execution's id for the next try, where Airflow has a place for it (3.3)."""
    _save(context, STORE_KEY, "execution_id", ref.execution_id, log)


def save_notebook_id(context: Context, notebook_id: str, log: Log) -> None:
    """Store the id of a notebook that was found by its name, for the next try, in the same place."""
    _save(context, NOTEBOOK_STORE_KEY, "notebook_id", notebook_id, log)


def load_execution_id(context: Context) -> str | None:
    """
    Return the execution's id that an earlier try of the owner has stored, or this one.

    Airflow begins a first try twice if its scheduler notices the deferral only after the trigger has fired
    (apache/airflow#66374).
    """
    return _load(context, STORE_KEY, "execution_id")


def load_notebook_id(context: Context) -> str | None:
    """Return the id of the notebook that the latest try of the owner has found by its name."""
    return _load(context, NOTEBOOK_STORE_KEY, "notebook_id")


def _save(context: Context, key: str, field: str, value: str, log: Log) -> None:
    store, names = task_store(context), _names_between_clears(context)
    if store is None or names is None:
        return
    try:
        store.set(key, {field: value, **names})
    except Exception:  # noqa: BLE001 - it is logged; the marker in the context serves as well, only slower
        log(
            logging.WARNING,
            "The %s could not be stored in the task state store",
            field.replace("_", " "),
            exc_info=True,
        )


def _load(context: Context, key: str, field: str) -> str | None:
    store, names = task_store(context), _names_between_clears(context)
    if store is None or names is None:
        return None
    stored = store.get(key)
    # A clear keeps the store, but must not find the old id.
    if not isinstance(stored, dict) or not stored.items() >= names.items():
        return None
    return stored.get(field)


def _names_between_clears(context: Context) -> dict[str, Any] | None:
    """Return what differs between two owners of the same task, without the marker, which may be missing."""
    region = loop_region(context)
    if region is None:
        return None
    return {
        "dag_run_start": format_start(context["dag_run"].start_date),
        "max_tries": context["ti"].max_tries,
        "region": region,
    }


def _owner(arguments: ExecuteArguments, context: Context) -> Owner | None:
    """Return who submits; None for an iteration that cannot be distinguished from the others of its task."""
    ti, region = context["ti"], loop_region(context)
    if region is None:
        return None
    return Owner(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        region=region,
        loop_index=loop_index(context),
        try_number=ti.try_number,
        max_tries=ti.max_tries,
        dag_run_start=format_start(context["dag_run"].start_date),
        deployment=deployment_id(),
        may_sweep=arguments.wait_for_completion and arguments.cancel_on_kill,
    )


def _add_marker(owner: Owner, text: str | None, context: Context, log: Log) -> tuple[str | None, str]:
    """Return the template context with the owner's marker and no problem, or unchanged and why."""
    given = json.loads(text or "{}")
    if MARKER_KEY in given:
        return text, f"template_context has its own key {MARKER_KEY!r}"
    # To find the execution again matters more than its parent in OpenLineage, which is left out first.
    for openlineage in (parent_run_variables(context["ti"], log), None):
        marked = compact_json(owner.add_marker(given, openlineage))
        if len(marked) <= MAX_CONTEXT:
            return marked, ""
    return text, "template_context has no room for the marker"
