# SPDX-License-Identifier: Apache-2.0
"""The handlers of the operations on executions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.http.context import SUCCESS, RequestContext
from airflow_provider_losant.emulator.http.wire import Refused
from airflow_provider_losant.emulator.state import serializers
from airflow_provider_losant.emulator.state.identity import job_id, object_id
from airflow_provider_losant.emulator.state.model import Export
from airflow_provider_losant.emulator.state.timeline import FINAL, Execution
from airflow_provider_losant.emulator.state.timestamps import format_timestamp, parse_relative_to

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Notebook

DEFAULT_RANGE: Final = timedelta(days=30)


def execute(context: RequestContext) -> tuple[int, Any]:
    """Queue an execution; if the notebook has a script, apply it at once."""
    backend, notebook = context.backend, context.notebook
    now = backend.clock()
    _check_limits(backend, notebook, now)
    execution = _requested_execution(context, "executionOptions", now)
    if notebook.script is not None:
        execution = backend.apply_script(execution, notebook.script)
    elif notebook.file_name is None:
        if backend.switches.execute_without_file == "bad_request":
            raise Refused(400, "Validation", "notebook has no Jupyter file")
        error = ("MissingFileError", "The notebook has no file to run; upload one.")
        execution = replace(execution, started_at=now, ended_at=now, ending="errored", errors=(error,))
    else:
        backend.queued.append(execution)
    backend.pending_notifications.append(execution)
    backend.put(execution)
    backend.put(replace(notebook, requested_at=now))
    return 200, {**SUCCESS, "executionId": execution.id}


def _requested_execution(context: RequestContext, name: str, now: float) -> Execution:
    """
    Return an execution with the options of a request.

    :param name: what Losant calls the options.
    :raises Refused: if ``relativeTo`` is invalid and the switches do not let it mean now.
    """
    notebook, options = context.notebook, context.body
    relative_to = parse_relative_to(options.get("relativeTo"), now)
    if relative_to is None and not context.backend.switches.relative_to_fallback:
        raise Refused(400, "Validation", f"{name}.relativeTo is not a time")
    return Execution(
        id=object_id(now),
        notebook_id=notebook.id,
        application_id=notebook.application_id,
        # Rounded to milliseconds as in the log, so that a `since` with this value includes the execution.
        queued_at=round(now, 3),
        relative_to=now if relative_to is None else relative_to,
        max_minutes=notebook.max_minutes,
        image_version=notebook.image_version,
        source_id=context.token.id,
        template_context=options.get("templateContext"),
        email=options.get("email"),
        callback_url=options.get("callbackUrl"),
    )


def _check_limits(backend: Backend, notebook: Notebook, now: float) -> None:
    """
    Check the limits for parallel executions and for run minutes.

    :raises Refused: if one of them is reached.
    """
    switches, reason = backend.switches, ""
    executions = partial(backend.executions_of_application, notebook.application_id)
    if (
        switches.over_parallel == "refuse"
        and sum(not execution.is_over(now) for execution in executions()) >= switches.parallel
    ):
        reason = "Too many notebooks are running in parallel"
    quota = switches.notebook_minutes
    if quota is not None and sum(execution.minutes(now) for execution in executions()) >= quota:
        reason = "The notebook minutes of this period are used up"
    if reason:
        raise Refused(switches.refusal_status, switches.refusal_type, reason)


def cancel_execution(context: RequestContext) -> tuple[int, Any]:
    """Cancel an execution."""
    backend, switches, now = context.backend, context.backend.switches, context.backend.clock()
    execution = backend.execution(context.notebook.id, context.query["executionId"].lower())
    if execution is None or (switches.cancel_lag and execution.queued_at > now - switches.cancel_lag):
        raise Refused(404, "NotFound", "Execution was not found")
    status = execution.status(now)
    if execution.is_over(now) or status in FINAL:
        if switches.cancel_final == "ok":
            return 200, SUCCESS
        if switches.cancel_final == "bad_request":
            raise Refused(400, "Validation", "The execution has already ended")
        raise Refused(404, "NotFound", "Execution was not found")
    if status == "queued" and switches.cancel_queued == "not_found":
        raise Refused(404, "NotFound", "Execution was not found")
    backend.put(execution.cancel(now, switches.cancel_delay))
    return 200, SUCCESS


def logs(context: RequestContext) -> tuple[int, Any]:
    """Return the notebook's executions, newest first; by default only one."""
    backend, switches, now = context.backend, context.backend.switches, context.backend.clock()
    limit, since = max(1, context.integer("limit", 1)), context.timestamp("since")
    if switches.refuse_limit_above is not None and limit > switches.refuse_limit_above:
        raise Refused(400, "Validation", "limit is too large")
    limit = min(limit, switches.max_limit or limit)

    def is_listed(execution: Execution) -> bool:
        if switches.listing_lag and execution.queued_at > now - switches.listing_lag:
            return False
        if since is None:
            return True
        timestamps = {
            "queued": execution.queued_at,
            "started": execution.started_at,
            "completed": execution.ended_at,
        }
        timestamp = timestamps[switches.since_field]
        return timestamp is not None and since <= timestamp <= now

    listed = (
        (execution.queued_at, serializers.execution(backend, execution))
        for execution in filter(is_listed, backend.executions(context.notebook.id))
    )
    odd = reversed(backend.odd_entries.get(context.notebook.id, ()))
    newest_first = merge(listed, odd, key=itemgetter(0), reverse=True)
    return 200, [entry for _, entry in islice(newest_first, limit)]


def minute_counts(context: RequestContext) -> tuple[int, Any]:
    """Count run minutes and final statuses by day; by default of the last thirty days."""
    backend, now = context.backend, context.backend.clock()
    end = context.timestamp("end")
    end = now if end is None else end
    start = context.timestamp("start")
    start = end - DEFAULT_RANGE.total_seconds() if start is None else start
    days: dict[datetime, dict[str, int]] = {}
    for execution in backend.executions(context.notebook.id):
        if not execution.is_over(now) or not start <= execution.queued_at <= end:
            continue
        day = datetime.fromtimestamp(execution.queued_at, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        count = days.setdefault(day, {"minutes": 0, **dict.fromkeys(sorted(FINAL), 0)})
        count["minutes"] += execution.minutes(now)
        if execution.ending in FINAL:
            count[str(execution.ending)] += 1
    counts = [{"date": format_timestamp(day.timestamp()), **days[day]} for day in sorted(days)]
    return 200, {"start": format_timestamp(start), "end": format_timestamp(end), "counts": counts}


def request_export(context: RequestContext) -> tuple[int, Any]:
    """Queue an export of the input data, unless there was one less than ``export_interval`` seconds ago."""
    backend, notebook, now = context.backend, context.notebook, context.backend.clock()
    last = backend.exported_at.get(notebook.id)
    if last is not None and now - last < backend.switches.export_interval:
        raise Refused(429, backend.switches.rate_limit_type, "Input data was exported a short while ago")
    export = Export(
        id=job_id(),
        execution=_requested_execution(context, "exportOptions", now),
        notebook=replace(notebook, samples=backend.samples(notebook)),
    )
    backend.exported_at[notebook.id] = now
    backend.pending_exports.append(export)
    return 202, {**SUCCESS, "jobQueued": True, "jobId": export.id}
