# SPDX-License-Identifier: Apache-2.0
"""
One endpoint, one function: it returns a :class:`Call`, which says what to send and how to read the answer.

Nothing is sent here. Paths, parameters and scopes are those of Losant's REST reference
(https://docs.losant.com/rest-api/notebook/ and /notebooks/).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from airflow_provider_losant.api.errors import (
    UNKNOWN_SHAPE,
    InvalidArgument,
    NotLosant,
    ProtocolError,
    ResponseError,
    error_class,
)
from airflow_provider_losant.api.instants import milliseconds, spell
from airflow_provider_losant.api.model import ExecutionLog, ExecutionRef, Notebook, losant_id
from airflow_provider_losant.api.retry import retry_after

T = TypeVar("T")

MAX_CONTEXT = 32_767
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
        query={"limit": str(limit), "since": milliseconds(since), **LEAN},
        read=lambda answer: ExecutionLog(_list(answer)),
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


def execution_options(
    *,
    relative_to: datetime | None = None,
    template_context: str | None = None,
    email: str | None = None,
    callback_url: str | None = None,
) -> dict[str, Any]:
    """Build the body of ``execute``: only what is given, in Losant's spelling."""
    options = {
        "relativeTo": relative_to and spell(relative_to),
        "templateContext": template_context,
        "email": email,
        "callbackUrl": callback_url,
    }
    return {name: value for name, value in options.items() if value is not None}


def context_text(value: Mapping[str, Any] | str | None, *, field: str = "template_context") -> str | None:
    """
    Return a template context as the text Losant wants.

    :param value: A mapping, or JSON text (sent as it is).
    :raises InvalidArgument: it is not JSON, or longer than Losant's 32,767 characters.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            text = value
            json.loads(text, parse_constant=_refuse)
        else:
            text = compact(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if len(text) > MAX_CONTEXT:
        raise InvalidArgument(field, f"is {len(text):,} characters long; Losant takes {MAX_CONTEXT:,}")
    return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is a number for Python only")


def compact(value: Mapping[str, Any]) -> str:
    """Write JSON in as few characters as it takes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_answer(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """
    Turn an HTTP answer into what the call promises, or into the error it means.

    :param headers: Case-insensitive.
    :raises ResponseError: an error status.
    :raises NotLosant: a redirect, or a web page.
    :raises ProtocolError: JSON that breaks off or has another shape.
    """
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's own numbers
        raise NotLosant(f"{call.operation} was redirected ({status}): the host is not Losant's API")
    answer = _json(body)
    kind = headers.get("content-type") or "no content type"
    if status >= 400:  # noqa: PLR2004 - as above
        error = _error(call, status, headers, answer)
        if body and answer is _UNREADABLE and not error.is_passing:
            raise NotLosant(f"{call.operation} got {status} with {kind}: the host is not Losant's API")
        raise error
    if answer is _UNREADABLE:
        # Without a body it may as well have broken off before its headers were complete.
        if body and "json" not in kind:
            # A gateway may have said so after it had passed the request on.
            raise NotLosant(
                f"{call.operation} got {kind} instead of JSON: the host is not Losant's API",
                may_have_landed=True,
            )
        raise ProtocolError(f"the answer to {call.operation} broke off after {len(body)} bytes")
    try:
        return call.read(answer)
    except UNKNOWN_SHAPE as error:
        raise ProtocolError(
            f"the answer to {call.operation} has an unknown shape: {type(error).__name__} {error}"
        ) from None


_UNREADABLE: Any = object()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _UNREADABLE


def _error(call: Call[Any], status: int, headers: Mapping[str, str], answer: Any) -> ResponseError:
    envelope = answer if isinstance(answer, dict) else {}
    return error_class(status)(
        status,
        str(envelope.get("type") or envelope.get("code") or ""),
        str(envelope.get("message") or "no message"),
        operation=call.operation,
        retry_after=retry_after(headers.get("retry-after")),
        hint=_hint(call, status),
    )


def _hint(call: Call[Any], status: int) -> str:
    if status == 401:  # noqa: PLR2004 - HTTP's own number
        return "the API token is wrong, expired or revoked"
    if status == 403:  # noqa: PLR2004 - as above
        return f"the API token needs the scope {call.scope or call.operation}"
    return ""


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise TypeError("a list was expected")
    return answer


def _application(application_id: str) -> str:
    return f"/applications/{losant_id(application_id, field='application_id')}"


def _notebook(application_id: str, notebook_id: str) -> str:
    return f"{_application(application_id)}/notebooks/{losant_id(notebook_id, field='notebook_id')}"
