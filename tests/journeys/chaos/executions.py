# SPDX-License-Identifier: Apache-2.0
"""What an emulator ran, for the bookkeeping."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any

from tests.journeys.chaos.bookkeeping import Execution

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator


def executions(losant: Emulator, notebooks: Iterable[str]) -> Iterator[Execution]:
    """Yield all executions of these notebooks."""
    answered = {
        (marker["id"], marker["try_number"])
        for it in losant.requests
        if it.operation == "notebook.execute"
        and it.status == HTTPStatus.OK
        and (marker := _marker(it.body["templateContext"]))
    }
    with losant.backend.lock:
        found = [it for notebook in notebooks for it in losant.backend.executions(notebook)]
    now = losant.backend.clock()
    for it in found:
        marker = _marker(it.template_context)
        is_over = it.is_over(now)
        ended = it.ended_at if is_over and it.ended_at is not None else inf
        yield Execution(
            id=it.id,
            task=(marker["dag_id"], marker["run_id"], marker["map_index"]) if marker else None,
            try_number=marker.get("try_number", 0),
            queued=it.queued_at,
            stopped=ended if it.canceling_at is None else it.canceling_at,
            is_complete=is_over and it.ending == "completed",
            is_answered=(marker.get("id"), marker.get("try_number")) in answered,
        )


def _marker(template_context: str | None) -> dict[str, Any]:
    marker: dict[str, Any] = json.loads(template_context or "{}").get("airflow", {})
    return marker
