# SPDX-License-Identifier: Apache-2.0
"""
One endpoint, one function: it returns a :class:`Call`, which says what to send and how to read the answer.

Nothing is sent here. Paths, parameters and scopes are those of Losant's REST reference
(https://docs.losant.com/rest-api/notebook/ and /notebooks/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from airflow_provider_losant.api.instants import milliseconds
from airflow_provider_losant.api.model import Execution, ExecutionRef, Notebook, losant_id

T = TypeVar("T")

PER_PAGE = 100
LEAN = {"_actions": "false", "_links": "false", "_embedded": "false"}
"""Leave out what only a browser needs. Text, because Losant takes ``true``, not ``True``, for true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """
    A request as a value.

    :param operation: Losant's name for it, which is also the token scope it needs.
    :param read: Turns the JSON answer into what the caller wants.
    :param repeatable: Sending it twice does no more than sending it once.
    :param upload: A Jupyter file to send as ``multipart/form-data``.
    """

    operation: str
    method: str
    path: str
    read: Callable[[Any], T]
    repeatable: bool = True
    scope: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    upload: Path | None = None


def list_notebooks(
    application_id: str, *, page: int = 0, per_page: int = PER_PAGE, **query: str
) -> Call[Page]:
    """Ask for one page of an application's notebooks."""
    return Call(
        operation="notebooks.get",
        method="GET",
        path=f"{_application(application_id)}/notebooks",
        query={"page": str(page), "perPage": str(per_page), **query, **LEAN},
        read=Page.from_api,
    )


def create_notebook(application_id: str, **fields: Any) -> Call[Notebook]:
    """Make a notebook; sending it twice makes two."""
    return Call(
        operation="notebooks.post",
        method="POST",
        path=f"{_application(application_id)}/notebooks",
        json=fields,
        repeatable=False,
        read=Notebook.from_api,
    )


def get_notebook(application_id: str, notebook_id: str) -> Call[Notebook]:
    """Ask for one notebook."""
    path = _notebook(application_id, notebook_id)
    return Call(operation="notebook.get", method="GET", path=path, query=LEAN, read=Notebook.from_api)


def upload_notebook(application_id: str, notebook_id: str, file: Path) -> Call[Notebook]:
    """Replace a notebook's Jupyter file."""
    return Call(
        operation="notebook.upload",
        method="POST",
        path=f"{_notebook(application_id, notebook_id)}/upload",
        upload=file,
        read=Notebook.from_api,
    )


def execute(application_id: str, notebook_id: str, options: Mapping[str, Any]) -> Call[ExecutionRef]:
    """
    Start a run; Losant has no idempotency key, so sending it twice starts two.

    :param options: The body, from :func:`execution_options`; Losant wants one, if an empty one.
    """

    def read(answer: Any) -> ExecutionRef:
        execution_id = losant_id(answer["executionId"], field="executionId")
        return ExecutionRef(application_id=application_id, notebook_id=notebook_id, execution_id=execution_id)

    return Call(
        operation="notebook.execute",
        method="POST",
        path=f"{_notebook(application_id, notebook_id)}/execute",
        json=options,
        repeatable=False,
        read=read,
    )


def cancel_execution(ref: ExecutionRef) -> Call[None]:
    """Mark a run for cancellation; it becomes ``canceling`` and later ``canceled``."""
    return Call(
        operation="notebook.cancelExecution",
        scope="notebook.execute",
        method="POST",
        path=f"{_notebook(ref.application_id, ref.notebook_id)}/cancelExecution",
        query={"executionId": losant_id(ref.execution_id, field="execution_id")},
        read=lambda _: None,
    )


def execution_logs(
    application_id: str, notebook_id: str, *, limit: int, since: float
) -> Call[list[Execution]]:
    """
    Ask for a notebook's latest executions, newest first.

    :param limit: How many at the most; Losant's own default is 1, which shows somebody else's run.
    :param since: Epoch seconds; 0 is as far back as Losant goes.
    """
    return Call(
        operation="notebook.logs",
        method="GET",
        path=f"{_notebook(application_id, notebook_id)}/logs",
        query={"limit": str(limit), "since": milliseconds(since), **LEAN},
        read=lambda answer: [Execution.from_api(entry) for entry in _list(answer)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of an application's notebooks, and how many there are in all."""

    notebooks: Sequence[Notebook]
    total: int

    @classmethod
    def from_api(cls, answer: Mapping[str, Any]) -> Page:
        notebooks = [Notebook.from_api(entry) for entry in _list(answer["items"])]
        return cls(notebooks=notebooks, total=answer.get("totalCount", len(notebooks)))


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise TypeError("a list was expected")
    return answer


def _application(application_id: str) -> str:
    return f"/applications/{losant_id(application_id, field='application_id')}"


def _notebook(application_id: str, notebook_id: str) -> str:
    return f"{_application(application_id)}/notebooks/{losant_id(notebook_id, field='notebook_id')}"
