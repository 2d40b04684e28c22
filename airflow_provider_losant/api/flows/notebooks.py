# SPDX-License-Identifier: Apache-2.0
"""List an application's notebooks, and find one by its name."""

from __future__ import annotations

import logging
import random
import re
import time
from contextlib import suppress
from difflib import get_close_matches
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import SHAPE_ERRORS, InvalidArgument, LosantError
from airflow_provider_losant.api.fields import listed, one_line, timestamp_or_none
from airflow_provider_losant.api.flows.retry import Jitter, backoff, call_with_retry, is_transient
from airflow_provider_losant.api.flows.steps import Clock, LogLine, Sleep
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Notebook

_GLOB = re.compile(r"[^\w .-]+")
"""What Losant's filter may not take literally; of its globs, it documents only ``*``."""
MAX_SIMILAR = 5
"""Names in the message about a notebook that does not exist."""


def list_notebooks(
    application_id: str,
    query: Mapping[str, str],
    retries: int,
    *,
    page: int | None = None,
    per_page: int = endpoints.PAGE_SIZE,
) -> Flow[list[Notebook]]:
    """
    List an application's notebooks: all pages, or one page.

    :param query: Losant's parameters for sorting and filtering.
    :param retries: How often a failed request is retried.
    :param page: Only this page; the first is 0.
    :param per_page: Notebooks per request.
    """
    found: list[Notebook] = []
    known: set[str] = set()
    for number in count() if page is None else [page]:
        call = endpoints.list_notebooks(application_id, page=number, per_page=per_page, **query)
        response = yield from call_with_retry(call, retries)
        found += response.notebooks
        ids = {it.id for it in response.notebooks}
        # Stops at a host that returns the same page for every number.
        if ids <= known or len(found) >= response.total:
            break
        known |= ids
    return found


def notebooks_named(application_id: str, name: str, retries: int) -> Flow[list[Notebook]]:
    """
    Return the notebooks of exactly that name, upper and lower case included; usually with one request.

    Losant filters by a glob and does not document how one is escaped. So the filter matches at least the
    name, and the names are compared here.

    :param retries: How often a failed request is retried.
    """
    query = {"filterField": "name", "filter": _GLOB.sub("*", name)}
    notebooks = yield from list_notebooks(application_id, query, retries)
    return _exactly(name, notebooks)


def find_notebook(
    application_id: str,
    name: str,
    retries: int,
    *,
    max_outage: float = 0.0,
    is_worth_retrying: Callable[[LosantError], bool] = is_transient,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Notebook]:
    """
    Return the only notebook of that name.

    :param retries: How often a failed request is retried.
    :param max_outage: Seconds for which the search is repeated while Losant cannot be asked.
    :param is_worth_retrying: After which errors.
    :raises InvalidArgument: none or several have the name; the message lists what there is.
    """
    started_at = clock()
    for attempt in count(1):
        try:
            found = yield from _find_notebook(application_id, name, retries)
        except InvalidArgument:
            raise
        except LosantError as error:
            if not is_worth_retrying(error) or clock() - started_at >= max_outage:
                raise
            yield LogLine(f"{error}; looking up the notebook again", logging.WARNING)
            yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            yield LogLine(f"Notebook {one_line(name)!r} is {found.id}")
            return found
    raise AssertionError  # the loop above only ends by return or raise


def last_updated(notebook: Notebook) -> datetime | None:
    """Return when a notebook was last changed, its name included; None if Losant does not report it."""
    with suppress(*SHAPE_ERRORS):
        return timestamp_or_none(notebook.raw, "lastUpdated")
    return None


def ambiguous(name: str, found: Sequence[Notebook]) -> InvalidArgument:
    """Return the error about several notebooks of one name."""
    ids = sorted(f"{it.id} (last updated {_format(last_updated(it))})" for it in found)
    return InvalidArgument(
        "notebook_name",
        f"{len(found)} notebooks of application {found[0].application_id} are named {one_line(name)!r}: "
        f"{listed(ids)}; rename all but one, or use notebook_id",
    )


def missing(application_id: str, name: str, notebooks: Sequence[Notebook]) -> InvalidArgument:
    """
    Return the error about a name that no notebook has.

    :param notebooks: All notebooks of the application; similar names are listed, or else the first ones.
    """
    folded = {it.name.casefold(): it.name for it in notebooks}
    similar = [folded[it] for it in get_close_matches(name.casefold(), folded, MAX_SIMILAR)]
    names = similar or sorted(it.name for it in notebooks)
    there_is = f"{'similar names' if similar else 'its notebooks'}: {listed(map(repr, names))}"
    return InvalidArgument(
        "notebook_name",
        f"application {application_id} has no notebook named {one_line(name)!r}; "
        f"{there_is if names else 'the token sees no notebooks in it'}",
    )


def _find_notebook(application_id: str, name: str, retries: int) -> Flow[Notebook]:
    found = yield from notebooks_named(application_id, name, retries)
    if not found:
        # Without Losant's filter, which the conclusion that there is none must not depend on.
        notebooks = yield from list_notebooks(application_id, {}, retries)
        found = _exactly(name, notebooks)
        if not found:
            raise missing(application_id, name, notebooks)
    if len(found) > 1:
        raise ambiguous(name, found)
    return found[0]


def _exactly(name: str, notebooks: Sequence[Notebook]) -> list[Notebook]:
    # A page that another client's change has shifted may repeat a notebook.
    return list({it.id: it for it in notebooks if it.name == name}.values())


def _format(moment: datetime | None) -> str:
    return "unknown" if moment is None else format_timestamp(moment)
