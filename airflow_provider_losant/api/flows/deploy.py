# SPDX-License-Identifier: Apache-2.0
"""Bringing a notebook from somewhere else into Losant, and touching nothing that is already right."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Literal

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import JSON_ERRORS, InvalidArgument, LosantError
from airflow_provider_losant.api.flows.notebooks import list_notebooks
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import Fetch, LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow
    from airflow_provider_losant.api.model import Notebook

GLOB = frozenset("*?[]{}\\!")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookFile:
    """A Jupyter file in memory, so that what is sent is what was checked."""

    name: str
    raw: bytes = field(repr=False)

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open it at its beginning."""
        del mode
        return BytesIO(self.raw)

    def is_same_as(self, other: bytes) -> bool:
        """Tell whether the other holds the same notebook, however it is laid out."""
        if self.raw == other:
            return True
        try:
            return bool(json.loads(self.raw) == json.loads(other))
        except JSON_ERRORS:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is to be there in the end.

    :param notebook_id: The notebook, where its id is known.
    :param name: The notebook's name otherwise.
    :param may_create: Make the notebook when there is none of that name.
    :param body: What else is to be so, in Losant's spelling; what it does not name stays as it is.
    """

    application_id: str
    content: NotebookFile
    notebook_id: str | None = None
    name: str | None = None
    may_create: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The notebook as it is now, and what had to be done for it."""

    notebook: Notebook
    is_created: bool
    is_changed: bool
    is_uploaded: bool


def deploy(plan: Plan, retries: int) -> FileFlow[Deployed]:
    """
    Bring a notebook about as planned.

    :raises InvalidArgument: there is no notebook of that name and none may be made, or there are several.
    """
    notebook = yield from _find(plan, retries)
    is_created = notebook is None
    if notebook is None:
        notebook = yield from _create(plan, retries)
    body = {name: value for name, value in plan.body.items() if notebook.raw.get(name) != value}
    if body:
        call = endpoints.update_notebook(plan.application_id, notebook.id, body)
        notebook = yield from call_with_retry(call, retries)
        yield LogLine(f"Changed notebook {notebook.id}: {', '.join(body)}")
    is_uploaded = not (yield from _has_content(notebook, plan.content))
    if is_uploaded:
        upload = endpoints.upload_notebook(plan.application_id, notebook.id, plan.content)
        notebook = yield from call_with_retry(upload, retries)
        yield LogLine(f"Uploaded {plan.content.name} to notebook {notebook.id} ({notebook.name})")
    else:
        yield LogLine(
            f"Notebook {notebook.id} ({notebook.name}) has the content of {plan.content.name} already"
        )
    return Deployed(notebook=notebook, is_created=is_created, is_changed=bool(body), is_uploaded=is_uploaded)


def _find(plan: Plan, retries: int) -> Flow[Notebook | None]:
    if plan.notebook_id is not None:
        return (
            yield from call_with_retry(endpoints.get_notebook(plan.application_id, plan.notebook_id), retries)
        )
    found = yield from _named(plan, retries)
    if found is None and not plan.may_create:
        raise InvalidArgument("name", f"there is no notebook {plan.name!r} in the application")
    return found


def _named(plan: Plan, retries: int) -> Flow[Notebook | None]:
    """Find the one notebook of the name; Losant's filter is a glob, which a name may look like."""
    name = plan.name or ""
    query = {} if GLOB & set(name) else {"filterField": "name", "filter": name}
    listed = yield from list_notebooks(plan.application_id, query, retries)
    found = {it.id: it for it in listed if it.name == name}
    if len(found) > 1:
        raise InvalidArgument(
            "name", f"{len(found)} notebooks are called {name!r} ({', '.join(sorted(found))}); give an id"
        )
    return next(iter(found.values()), None)


def _create(plan: Plan, retries: int) -> Flow[Notebook]:
    """Make the notebook, once: when the answer is lost, it is looked for."""
    call = endpoints.create_notebook(plan.application_id, {"name": plan.name, **plan.body})
    try:
        made: Notebook = yield from call_with_retry(call, retries)
    except LosantError as error:
        if not error.may_have_taken_effect:
            raise
        yield LogLine(f"{error}; looking whether the notebook was made all the same", logging.WARNING)
        found = yield from _named(plan, retries)
        if found is None:
            raise
        made = found
    yield LogLine(f"Made notebook {made.id} ({made.name})")
    return made


def _has_content(notebook: Notebook, content: NotebookFile) -> FileFlow[bool]:
    """Compare with the file that Losant has; what cannot be read is not the same."""
    if not notebook.file_url:
        return False
    present = BytesIO()

    @contextmanager
    def opened() -> Iterator[BytesIO]:
        present.seek(0)
        present.truncate()
        yield present

    # Twice as large is not the same, whatever the layout.
    limit = 2 * len(content.raw) + 65_536
    try:
        yield Fetch(url=notebook.file_url, open_sink=opened, limit=limit)
    except LosantError as error:
        yield LogLine(f"The file of notebook {notebook.id} could not be compared: {error}")
        return False
    return content.is_same_as(present.getvalue())
