# SPDX-License-Identifier: Apache-2.0
"""Deploy a notebook to Losant: create, update and upload only what differs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Literal

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import JSON_ERRORS, LosantError
from airflow_provider_losant.api.fields import is_same_json
from airflow_provider_losant.api.flows.notebooks import ambiguous, find_notebook, notebooks_named
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import Fetch, LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow
    from airflow_provider_losant.api.model import Notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookFile:
    """A Jupyter file in memory, so that the content that is uploaded is the one that was validated."""

    name: str
    raw: bytes = field(repr=False)

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file at its beginning."""
        del mode
        return BytesIO(self.raw)

    def is_same_as(self, other: bytes) -> bool:
        """Return whether the other file has the same content, ignoring the JSON's layout."""
        if self.raw == other:
            return True
        try:
            return is_same_json(json.loads(self.raw), json.loads(other))
        except JSON_ERRORS:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The desired state of a notebook.

    :param content: The Jupyter file.
    :param notebook_id: ID of the notebook; None to find it by ``name``.
    :param name: The notebook's exact name.
    :param may_create: Whether to create the notebook if none has that name.
    :param body: Further fields to set, in Losant's spelling; other fields stay unchanged.
    """

    application_id: str
    content: NotebookFile
    notebook_id: str | None = None
    name: str | None = None
    may_create: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The deployed notebook, and which steps were necessary."""

    notebook: Notebook
    is_created: bool
    is_changed: bool
    is_uploaded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    What deploying a notebook would change.

    :param notebook: The notebook in Losant; None if it would be created.
    :param body: The fields that would be set, in Losant's spelling.
    :param is_uploaded: Whether the file would be uploaded.
    :param current: Losant's file; None if there is none, or it cannot be read.
    """

    notebook: Notebook | None
    body: Mapping[str, Any]
    is_uploaded: bool
    current: bytes | None = field(repr=False)


def compare(plan: Plan, retries: int) -> FileFlow[Difference]:
    """
    Return what :func:`deploy` would change, without changing it.

    :param retries: How often a failed request is retried.
    :raises InvalidArgument: as :func:`deploy`.
    """
    notebook = yield from _find(plan, retries)
    if notebook is None:
        return Difference(notebook=None, body=plan.body, is_uploaded=True, current=None)
    return (yield from _compare(plan, notebook))


def deploy(plan: Plan, retries: int) -> FileFlow[Deployed]:
    """
    Deploy a notebook as planned.

    :param retries: How often a failed request is retried.
    :raises InvalidArgument: no notebook has the name and none may be created, or several have it.
    """
    difference = yield from compare(plan, retries)
    return (yield from deploy_difference(plan, difference, retries))


def deploy_difference(plan: Plan, difference: Difference, retries: int) -> FileFlow[Deployed]:
    """
    Change in Losant what differs from the plan.

    :param retries: How often a failed request is retried.
    """
    notebook = difference.notebook
    is_created = notebook is None
    if notebook is None:
        notebook = yield from _create(plan, retries)
        difference = yield from _compare(plan, notebook)
    body, is_uploaded = difference.body, difference.is_uploaded
    if body:
        call = endpoints.update_notebook(plan.application_id, notebook.id, body)
        notebook = yield from call_with_retry(call, retries)
        yield LogLine(f"Updated notebook {notebook.id}: {', '.join(body)}")
    if is_uploaded:
        upload = endpoints.upload_notebook(plan.application_id, notebook.id, plan.content)
        notebook = yield from call_with_retry(upload, retries)
        yield LogLine(f"Uploaded {plan.content.name} to notebook {notebook.id} ({notebook.name})")
    else:
        yield LogLine(
            f"Notebook {notebook.id} ({notebook.name}) already has the content of {plan.content.name}"
        )
    return Deployed(notebook=notebook, is_created=is_created, is_changed=bool(body), is_uploaded=is_uploaded)


def _compare(plan: Plan, notebook: Notebook) -> FileFlow[Difference]:
    body = {
        name: value for name, value in plan.body.items() if not is_same_json(notebook.raw.get(name), value)
    }
    current = yield from _read_file(notebook, plan.content)
    is_uploaded = current is None or not plan.content.is_same_as(current)
    return Difference(notebook=notebook, body=body, is_uploaded=is_uploaded, current=current)


def _find(plan: Plan, retries: int) -> Flow[Notebook | None]:
    if plan.notebook_id is not None:
        return (
            yield from call_with_retry(endpoints.get_notebook(plan.application_id, plan.notebook_id), retries)
        )
    if plan.may_create:
        return (yield from _find_by_name(plan, retries))
    return (yield from find_notebook(plan.application_id, plan.name or "", retries))


def _find_by_name(plan: Plan, retries: int) -> Flow[Notebook | None]:
    name = plan.name or ""
    found = yield from notebooks_named(plan.application_id, name, retries)
    if len(found) > 1:
        raise ambiguous(name, found)
    return next(iter(found), None)


def _create(plan: Plan, retries: int) -> Flow[Notebook]:
    """Create the notebook once: if the response is lost, search for the notebook by its name."""
    call = endpoints.create_notebook(plan.application_id, {"name": plan.name, **plan.body})
    try:
        created: Notebook = yield from call_with_retry(call, retries)
    except LosantError as error:
        if not error.may_have_taken_effect:
            raise
        yield LogLine(f"{error}; checking whether the notebook was created", logging.WARNING)
        found = yield from _find_by_name(plan, retries)
        if found is None:
            raise
        created = found
    yield LogLine(f"Created notebook {created.id} ({created.name})")
    return created


def _read_file(notebook: Notebook, content: NotebookFile) -> FileFlow[bytes | None]:
    """Return Losant's file; None if there is none, or it cannot be read."""
    if not notebook.file_url:
        return None
    current = BytesIO()

    @contextmanager
    def open_sink() -> Iterator[BytesIO]:
        current.seek(0)
        current.truncate()
        yield current

    # A file of twice the size differs, no matter how the JSON is laid out.
    limit = 2 * len(content.raw) + 65_536
    try:
        yield Fetch(url=notebook.file_url, open_sink=open_sink, limit=limit)
    except LosantError as error:
        yield LogLine(f"Could not compare the file of notebook {notebook.id}: {error}")
        return None
    return current.getvalue()
