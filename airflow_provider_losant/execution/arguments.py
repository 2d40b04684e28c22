# SPDX-License-Identifier: Apache-2.0
"""From an operator's arguments to an order: checked, marked, and remembered from one try to the next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import deployment_id, task_store
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.flows.ownership import MARKER_KEY, Owner
from airflow_provider_losant.api.flows.submission import Submission
from airflow_provider_losant.api.model import losant_id
from airflow_provider_losant.api.payloads import MAX_CONTEXT, compact_json, encode_context, execution_options
from airflow_provider_losant.api.timestamps import parse_seconds, parse_timestamp
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.openlineage.collect import parent_run_variables

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.start_policy import StartPolicy
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.hooks.losant import LosantHook
    from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator


def build_submission(task: LosantNotebookExecuteOperator, context: Context, hook: LosantHook) -> Submission:
    """
    Check every argument, before any request, and put them into an order.

    :raises LosantConfigError: an argument is missing or makes no sense; the message names it.
    """
    with permanent_errors_as_config_error():
        notebook_id = losant_id(task.notebook_id, field="notebook_id")
        for name in ("poll_interval", "timeout", "max_poll_outage", "max_log_lag"):
            parse_seconds(getattr(task, name), field=name)
        text = encode_context(task.template_context)
        if task.save_outputs_to is not None:
            _check_folder(task)
        moment = None if task.relative_to is None else parse_timestamp(task.relative_to, field="relative_to")
    owner = _owner(task, context)
    marked, problem = _mark(owner, text, task, context) if task.durable else (text, "durable is off")
    known_id = _load_execution_id(task, context)
    if problem and not known_id:
        task.log.warning("A retry will not find this run again: %s", problem)
    options = execution_options(
        relative_to=moment,
        template_context=marked,
        email=task.notification_email,
        callback_url=task.callback_url,
    )
    return Submission(
        application_id=hook.resolve_application_id(),
        notebook_id=notebook_id,
        options=options,
        owner=None if problem else owner,
        known_id=known_id,
    )


def build_start_policy(
    task: LosantNotebookExecuteOperator, began: float, *, give_up_at: float
) -> StartPolicy | None:
    """
    Put the conditions for a start into a gate; None when there are none, and so nothing to ask Losant.

    :param began: Epoch seconds at which the task came to wait, in whatever process.
    :param give_up_at: Epoch seconds at which waiting for another run ends.
    :raises LosantConfigError: a condition makes no sense.
    """
    from airflow_provider_losant.api.flows.start_policy import StartPolicy

    with permanent_errors_as_config_error():
        start_policy = StartPolicy(
            if_running=task.if_running,
            max_minutes=task.max_minutes,
            minutes_window=task.minutes_window,
            on_exceeded=task.on_exceeded,
            began=began,
            give_up_at=give_up_at,
            poll_interval=parse_seconds(task.poll_interval, field="poll_interval"),
            may_wait_here=not task.deferrable,
        ).check()
    return None if start_policy.is_unconditional else start_policy


def _check_folder(task: LosantNotebookExecuteOperator) -> None:
    from airflow_provider_losant.hooks.output_folder import OutputFolder

    if not task.wait_for_completion:
        raise InvalidArgument("save_outputs_to", "needs wait_for_completion, for only then are there outputs")
    OutputFolder.at(task.save_outputs_to or "", field="save_outputs_to")


def save_execution_id(task: LosantNotebookExecuteOperator, context: Context, ref: ExecutionRef) -> None:
    """Note the run down for the next try, where Airflow has a place for it (3.3)."""
    store = task_store(context)
    if store is None or not task.durable:
        return
    try:
        store.set(_store_key(context["ti"]), ref.execution_id)
    except Exception:  # the mark in the context serves as well, so nothing is lost but time
        task.log.warning("The execution id could not be kept in the task state store", exc_info=True)


def _load_execution_id(task: LosantNotebookExecuteOperator, context: Context) -> str | None:
    store, ti = task_store(context), context["ti"]
    if store is None or not task.durable or ti.try_number == 1:
        return None
    return store.get(_store_key(ti))  # type: ignore[no-any-return]  # what remember() put there


def _store_key(ti: Any) -> str:
    """Name a chain of tries: the store outlives a clear, and a clear must not bring the old run back."""
    return f"losant_execution_id.{ti.max_tries}"


def _owner(task: LosantNotebookExecuteOperator, context: Context) -> Owner:
    ti = context["ti"]
    return Owner(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number,
        max_tries=ti.max_tries,
        deployment=deployment_id(context["dag_run"].start_date),
        may_sweep=task.wait_for_completion and task.cancel_on_kill,
    )


def _mark(
    owner: Owner, text: str | None, task: LosantNotebookExecuteOperator, context: Context
) -> tuple[str | None, str | None]:
    """Return the template context with the chain's mark in it, or as it was and why."""
    given = json.loads(text or "{}")
    if not isinstance(given, dict) or MARKER_KEY in given:
        return text, f"template_context is not a JSON object, or has a key {MARKER_KEY!r} of its own"
    # To find the run again matters more than what OpenLineage shows, so that goes first.
    for openlineage in (parent_run_variables(context["ti"], task.log.log), None):
        marked = compact_json(owner.add_marker(given, openlineage))
        if len(marked) <= MAX_CONTEXT:
            return marked, None
    return text, "template_context has no room for the mark"
