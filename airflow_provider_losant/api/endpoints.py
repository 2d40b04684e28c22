# SPDX-License-Identifier: Apache-2.0
"""
One function per endpoint: it returns a :class:`Call` with the request and the parser of the response.

No request is sent here. Paths, parameters and scopes are those of Losant's REST reference
(https://docs.losant.com/rest-api/notebook/ and /notebooks/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Generic, Literal, Protocol, TypeVar

from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.fields import integer, losant_id, string
from airflow_provider_losant.api.model import ExecutionRef, MinuteCounts, Notebook
from airflow_provider_losant.api.timestamps import to_milliseconds

T = TypeVar("T")

PAGE_SIZE = 100
EXPORT_INTERVAL = 15 * 60.0
"""Seconds that Losant requires between two exports of one notebook."""
COMPACT = {"_actions": "false", "_links": "false", "_embedded": "false"}
"""Omits fields that only a browser needs. Strings, because Losant accepts ``true``, not ``True``."""


class Upload(Protocol):
    """A file to send: a ``pathlib.Path``, an ``ObjectStoragePath``, or any object with these two members."""

    @property
    def name(self) -> str:
        """The file's name, without its folder."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file at its beginning; called once per attempt to send it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """
    A request as a value.

    :param operation: Losant's name of the operation, which is also the token scope it needs.
    :param parse: Converts the JSON response into the call's result.
    :param idempotent: Whether sending it twice has the same effect as sending it once (RFC 9110).
    :param deletes: Whether it deletes or cancels what it names. If a retry of it gets 404 or 400, the earlier
        attempt, whose response was lost, has succeeded.
    :param scope: The token scope it needs, if that is not ``operation``.
    :param upload: A Jupyter file to send as ``multipart/form-data``.
    :param min_interval: Seconds that Losant requires between two such calls for one notebook.
    """

    operation: str
    method: str
    path: str
    parse: Callable[[Any], T]
    idempotent: bool = True
    deletes: bool = False
    scope: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    upload: Upload | None = None
    min_interval: float | None = None


def list_notebooks(
    application_id: str, *, page: int = 0, per_page: int = PAGE_SIZE, **query: str
) -> Call[Page]:
    """
    Get one page of an application's notebooks.

    :param page: The page; the first is 0.
    :param query: Losant's further parameters: sorting and filters.
    """
    return Call(
        operation="notebooks.get",
        method="GET",
        path=f"{_application_path(application_id)}/notebooks",
        query={"page": str(page), "perPage": str(per_page), **query, **COMPACT},
        parse=Page.from_api,
    )


def get_application(application_id: str) -> Call[str]:
    """Get the name of an application."""
    return Call(
        operation="application.get",
        method="GET",
        path=_application_path(application_id),
        query=COMPACT,
        parse=lambda response: string(response, "name"),
    )


def create_notebook(application_id: str, body: Mapping[str, Any]) -> Call[Notebook]:
    """
    Create a notebook; sending it twice creates two.

    :param body: From :func:`~airflow_provider_losant.api.payloads.notebook_body`.
    """
    return Call(
        operation="notebooks.post",
        method="POST",
        path=f"{_application_path(application_id)}/notebooks",
        json=body,
        idempotent=False,
        parse=Notebook.from_api,
    )


def get_notebook(application_id: str, notebook_id: str) -> Call[Notebook]:
    """Get one notebook."""
    path = _notebook_path(application_id, notebook_id)
    return Call(operation="notebook.get", method="GET", path=path, query=COMPACT, parse=Notebook.from_api)


def update_notebook(application_id: str, notebook_id: str, body: Mapping[str, Any]) -> Call[Notebook]:
    """Update the fields in the body; a list replaces the whole previous list."""
    return Call(
        operation="notebook.patch",
        method="PATCH",
        path=_notebook_path(application_id, notebook_id),
        json=body,
        parse=Notebook.from_api,
    )


def delete_notebook(application_id: str, notebook_id: str) -> Call[None]:
    """Delete a notebook and its execution log."""
    return Call(
        operation="notebook.delete",
        method="DELETE",
        path=_notebook_path(application_id, notebook_id),
        deletes=True,
        parse=_expect_success,
    )


def upload_notebook(application_id: str, notebook_id: str, file: Upload) -> Call[Notebook]:
    """Replace a notebook's Jupyter file."""
    return Call(
        operation="notebook.upload",
        method="POST",
        path=f"{_notebook_path(application_id, notebook_id)}/upload",
        upload=file,
        parse=Notebook.from_api,
    )


def execute(application_id: str, notebook_id: str, options: Mapping[str, Any]) -> Call[ExecutionRef]:
    """
    Submit an execution; Losant has no idempotency key, so sending it twice submits two.

    :param options: The body, from :func:`~airflow_provider_losant.api.payloads.execution_options`; Losant
        requires a body, even an empty one.
    """

    def parse(response: Any) -> ExecutionRef:
        execution_id = losant_id(response["executionId"], field="executionId")
        return ExecutionRef(application_id=application_id, notebook_id=notebook_id, execution_id=execution_id)

    return Call(
        operation="notebook.execute",
        method="POST",
        path=f"{_notebook_path(application_id, notebook_id)}/execute",
        json=options,
        idempotent=False,
        parse=parse,
    )


def cancel_execution(ref: ExecutionRef) -> Call[None]:
    """Request cancellation of an execution; its status becomes ``canceling`` and later ``canceled``."""
    return Call(
        operation="notebook.cancelExecution",
        scope="notebook.execute",
        method="POST",
        path=f"{_notebook_path(ref.application_id, ref.notebook_id)}/cancelExecution",
        query={"executionId": losant_id(ref.execution_id, field="execution_id")},
        deletes=True,
        parse=_expect_success,
    )


def execution_logs(application_id: str, notebook_id: str, *, limit: int, since: float) -> Call[ExecutionLog]:
    """
    Get a notebook's latest executions, newest first.

    :param limit: Maximum number of executions; Losant's default of 1 may show another task's execution only.
    :param since: Epoch seconds; 0 for executions as old as Losant keeps. It is then left out, as Losant takes
        0 in other parameters for the current time.
    """
    span = {"since": to_milliseconds(since)} if since > 0 else {}
    return Call(
        operation="notebook.logs",
        method="GET",
        path=f"{_notebook_path(application_id, notebook_id)}/logs",
        query={"limit": str(limit), **span, **COMPACT},
        parse=lambda response: ExecutionLog(_list(response)),
    )


def minute_counts(
    application_id: str, notebook_id: str, *, start: float | None = None, end: float | None = None
) -> Call[MinuteCounts]:
    """
    Get a notebook's run minutes and numbers of executions per day.

    :param start: Epoch seconds; None for Losant's default.
    :param end: As ``start``.
    """
    span = {"start": start, "end": end}
    return Call(
        operation="notebook.notebookMinuteCounts",
        method="GET",
        path=f"{_notebook_path(application_id, notebook_id)}/notebookMinuteCounts",
        query={name: to_milliseconds(at) for name, at in span.items() if at is not None} | COMPACT,
        parse=MinuteCounts.from_api,
    )


def request_export(application_id: str, notebook_id: str, options: Mapping[str, Any]) -> Call[str]:
    """
    Request an export of a notebook's input data; the result is the id of the export job.

    If it is sent twice, Losant rejects the second request or exports twice.

    :param options: The body, as for :func:`execute`.
    """
    return Call(
        operation="notebook.requestInputDataExport",
        method="POST",
        path=f"{_notebook_path(application_id, notebook_id)}/requestInputDataExport",
        json=options,
        idempotent=False,
        min_interval=EXPORT_INTERVAL,
        parse=lambda response: string(response, "jobId"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of an application's notebooks, and the total number of its notebooks."""

    notebooks: Sequence[Notebook]
    total: int

    @classmethod
    def from_api(cls, response: Mapping[str, Any]) -> Page:
        notebooks = [Notebook.from_api(entry) for entry in _list(response["items"])]
        total = integer(response, "totalCount")
        return cls(notebooks=notebooks, total=len(notebooks) if total is None else total)


SUCCESS: Mapping[str, Any] = {"success": True}
"""Losant's response to a call that returns no data."""


def _expect_success(response: Any) -> None:
    # A missing key means success: with status 200, only an explicit false is a failure.
    if response.get("success", True) is not True:
        raise ValueError("success is not true")


def _list(response: Any) -> list[Any]:
    if not isinstance(response, list):
        raise TypeError("not a list")
    return response


def _application_path(application_id: str) -> str:
    return f"/applications/{losant_id(application_id, field='application_id')}"


def _notebook_path(application_id: str, notebook_id: str) -> str:
    return f"{_application_path(application_id)}/notebooks/{losant_id(notebook_id, field='notebook_id')}"
