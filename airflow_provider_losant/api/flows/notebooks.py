# SPDX-License-Identifier: Apache-2.0
"""List an application's notebooks."""

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
