# SPDX-License-Identifier: Apache-2.0
"""List an application's notebooks, page after page."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.flows.retry import call_with_retry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Notebook


def list_notebooks(
    application_id: str,
    query: Mapping[str, str],
    retries: int,
    *,
    page: int | None = None,
    per_page: int = endpoints.PAGE_SIZE,
) -> Flow[list[Notebook]]:
    """List an application's notebooks, page after page; or only one page."""
    found: list[Notebook] = []
    known: set[str] = set()
    for number in count() if page is None else [page]:
        call = endpoints.list_notebooks(application_id, page=number, per_page=per_page, **query)
        answer = yield from call_with_retry(call, retries)
        found += answer.notebooks
        ids = {it.id for it in answer.notebooks}
        # A host that gives the same page over and over would be asked for ever.
        if ids <= known or len(found) >= answer.total:
            break
        known |= ids
    return found
