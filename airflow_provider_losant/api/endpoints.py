# SPDX-License-Identifier: Apache-2.0
"""
One endpoint, one function: it returns a :class:`Call`, which says what to send and how to read the answer.

Nothing is sent here. Paths, parameters and scopes are those of Losant's REST reference
(https://docs.losant.com/rest-api/notebook/ and /notebooks/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from airflow_provider_losant.api.fields import integer, string
from airflow_provider_losant.api.model import ExecutionLog, ExecutionRef, Notebook, losant_id
from airflow_provider_losant.api.timestamps import to_milliseconds

if TYPE_CHECKING:
    from airflow_provider_losant.api.usage import MinuteCounts

T = TypeVar("T")

PAGE_SIZE = 100
MAX_LOG_LIMIT = 1_000
"""How long a log is asked for where something has to be found in it."""
EXPORT_INTERVAL = 15 * 60.0
COMPACT = {"_actions": "false", "_links": "false", "_embedded": "false"}
"""Leave out what only a browser needs. Text, because Losant takes ``true``, not ``True``, for true."""


class Upload(Protocol):
    """A file to send: a ``pathlib.Path``, an ``ObjectStoragePath``, or what looks like one."""

    @property
    def name(self) -> str:
        """The file's name, without any folder."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file at its beginning, once for each attempt to send it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """
    A request as a value.

    :param operation: Losant's name for it, which is also the token scope it needs.
    :param parse: Turns the JSON answer into what the caller wants.
    :param idempotent: Sending it twice does no more than sending it once.
    :param upload: A Jupyter file to send as ``multipart/form-data``.
    :param deletes: It takes away what it names. That it finds nothing proves an attempt before it, whose
        answer was lost, to have been carried out.
    :param min_interval: Seconds that Losant wants between two of these for one notebook, where it does.
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
    """Ask for one page of an application's notebooks."""
    return Call(
        operation="notebooks.get",
        method="GET",
        path=f"{_application(application_id)}/notebooks",
        query={"page": str(page), "perPage": str(per_page), **query, **COMPACT},
        parse=Page.from_api,
    )


def get_application(application_id: str) -> Call[str]:
    """Ask for the name of an application."""
    return Call(
        operation="application.get",
        method="GET",
        path=_application(application_id),
        query=COMPACT,
        parse=lambda answer: string(answer, "name"),
    )


def create_notebook(application_id: str, body: Mapping[str, Any]) -> Call[Notebook]:
    """
    Make a notebook; sending it twice makes two.

    :param body: From :func:`~airflow_provider_losant.api.payloads.notebook_body`.
    """
    return Call(
        operation="notebooks.post",
        method="POST",
        path=f"{_application(application_id)}/notebooks",
        json=body,
        idempotent=False,
        parse=Notebook.from_api,
    )


def get_notebook(application_id: str, notebook_id: str) -> Call[Notebook]:
    """Ask for one notebook."""
    path = _notebook(application_id, notebook_id)
    return Call(operation="notebook.get", method="GET", path=path, query=COMPACT, parse=Notebook.from_api)


def update_notebook(application_id: str, notebook_id: str, body: Mapping[str, Any]) -> Call[Notebook]:
    """Change what the body names; a list takes the place of the whole list that was there."""
    return Call(
        operation="notebook.patch",
        method="PATCH",
        path=_notebook(application_id, notebook_id),
        json=body,
        parse=Notebook.from_api,
    )


def delete_notebook(application_id: str, notebook_id: str) -> Call[None]:
    """Remove a notebook, and with it the log of its executions."""
    return Call(
        operation="notebook.delete",
        method="DELETE",
        path=_notebook(application_id, notebook_id),
        deletes=True,
        parse=_done,
    )


def upload_notebook(application_id: str, notebook_id: str, file: Upload) -> Call[Notebook]:
    """Replace a notebook's Jupyter file."""
    return Call(
        operation="notebook.upload",
        method="POST",
        path=f"{_notebook(application_id, notebook_id)}/upload",
        upload=file,
        parse=Notebook.from_api,
    )


def execute(application_id: str, notebook_id: str, options: Mapping[str, Any]) -> Call[ExecutionRef]:
    """
    Start a run; Losant has no idempotency key, so sending it twice starts two.

    :param options: The body, from :func:`execution_options`; Losant wants one, if an empty one.
    """

    def parse(answer: Any) -> ExecutionRef:
        execution_id = losant_id(answer["executionId"], field="executionId")
        return ExecutionRef(application_id=application_id, notebook_id=notebook_id, execution_id=execution_id)

    return Call(
        operation="notebook.execute",
        method="POST",
        path=f"{_notebook(application_id, notebook_id)}/execute",
        json=options,
        idempotent=False,
        parse=parse,
    )


def cancel_execution(ref: ExecutionRef) -> Call[None]:
    """Mark a run for cancellation; it becomes ``canceling`` and later ``canceled``."""
    return Call(
        operation="notebook.cancelExecution",
        scope="notebook.execute",
        method="POST",
        path=f"{_notebook(ref.application_id, ref.notebook_id)}/cancelExecution",
        query={"executionId": losant_id(ref.execution_id, field="execution_id")},
        deletes=True,
        parse=_done,
    )


def execution_logs(application_id: str, notebook_id: str, *, limit: int, since: float) -> Call[ExecutionLog]:
    """
    Ask for a notebook's latest executions, newest first.

    :param limit: How many at the most; Losant's own default is 1, which shows somebody else's run.
    :param since: Epoch seconds; 0 is as far back as Losant goes.
    """
    return Call(
        operation="notebook.logs",
        method="GET",
        path=f"{_notebook(application_id, notebook_id)}/logs",
        query={"limit": str(limit), "since": to_milliseconds(since), **COMPACT},
        parse=lambda answer: ExecutionLog(_list(answer)),
    )


def minute_counts(
    application_id: str, notebook_id: str, *, start: float | None = None, end: float | None = None
) -> Call[MinuteCounts]:
    """
    Ask what a notebook's runs came to, day by day.

    :param start: Epoch seconds; Losant chooses where it is None.
    :param end: As ``start``.
    """
    from airflow_provider_losant.api.usage import MinuteCounts

    span = {"start": start, "end": end}
    return Call(
        operation="notebook.notebookMinuteCounts",
        method="GET",
        path=f"{_notebook(application_id, notebook_id)}/notebookMinuteCounts",
        query={name: to_milliseconds(at) for name, at in span.items() if at is not None} | COMPACT,
        parse=MinuteCounts.from_api,
    )


def request_export(application_id: str, notebook_id: str, options: Mapping[str, Any]) -> Call[str]:
    """
    Have a notebook's input data exported; returns the id of the job.

    Sending it twice is refused at best, and at worst exports twice.

    :param options: The body, as for :func:`execute`.
    """
    return Call(
        operation="notebook.requestInputDataExport",
        method="POST",
        path=f"{_notebook(application_id, notebook_id)}/requestInputDataExport",
        json=options,
        idempotent=False,
        min_interval=EXPORT_INTERVAL,
        parse=lambda answer: string(answer, "jobId"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of an application's notebooks, and how many there are in all."""

    notebooks: Sequence[Notebook]
    total: int

    @classmethod
    def from_api(cls, answer: Mapping[str, Any]) -> Page:
        notebooks = [Notebook.from_api(entry) for entry in _list(answer["items"])]
        total = integer(answer, "totalCount")
        return cls(notebooks=notebooks, total=len(notebooks) if total is None else total)


SUCCESS: Mapping[str, Any] = {"success": True}
"""What Losant says when there is nothing else to say."""


def _done(answer: Any) -> None:
    # That the word is missing one day is no reason to doubt what was done; that it says no, is.
    if answer.get("success", True) is not True:
        raise ValueError("it was not done")


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise TypeError("a list was expected")
    return answer


def _application(application_id: str) -> str:
    return f"/applications/{losant_id(application_id, field='application_id')}"


def _notebook(application_id: str, notebook_id: str) -> str:
    return f"{_application(application_id)}/notebooks/{losant_id(notebook_id, field='notebook_id')}"
