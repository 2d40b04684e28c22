# SPDX-License-Identifier: Apache-2.0
"""What Losant ran, as the bookkeeping needs it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.journeys.chaos.bookkeeping import Execution, TaskKey

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Request
    from airflow_provider_losant.emulator.state.backend import Backend
    from tests.support.network import BalancerRequest

SubmittedBy = tuple[TaskKey | None, int]
"""The task instance that a marker names, and the number of the try."""
EXECUTE = "notebook.execute"
CANCEL = "notebook.cancelExecution"


def executions(
    backend: Backend,
    notebooks: Iterable[str],
    answered: Collection[SubmittedBy],
    to_cancel: Collection[str] = (),
) -> Iterator[Execution]:
    """
    Yield the executions of notebooks.

    :param answered: Who got the response to a submission.
    :param to_cancel: IDs of the executions that a client has requested to cancel.
    """
    with backend.lock:
        found = [it for notebook in notebooks for it in backend.executions(notebook)]
    now = backend.clock()
    for it in found:
        marker = _marker(it.template_context)
        is_over = it.is_over(now)
        ended = it.ended_at if is_over and it.ended_at is not None else inf
        yield Execution(
            id=it.id,
            task=_task(marker),
            try_number=marker.get("try_number", 0),
            queued=it.queued_at,
            stopped=ended if it.canceling_at is None else it.canceling_at,
            is_complete=is_over and it.ending == "completed",
            is_answered=_submitted_by(marker) in answered,
            is_cancel_requested=it.id in to_cancel,
        )


def requested_cancels(in_network: Iterable[BalancerRequest]) -> set[str]:
    """Return the ids of the executions for which the load balancer received a request to cancel them."""
    targets = [it.target for it in in_network if it.operation == CANCEL]
    return {parse_qs(urlsplit(target).query)["executionId"][0] for target in targets}


def answered_markers(in_network: Iterable[BalancerRequest], in_losant: Iterable[Request]) -> set[SubmittedBy]:
    """
    Return who got the response to a submission: Losant has sent it, and the network has let it pass.

    One try sends its submissions one after the other, so the n-th that the network has forwarded is the n-th
    that Losant has received.

    :param in_network: Requests as the load balancer received them, in this order.
    :param in_losant: Requests as Losant received them, in this order.
    """
    passed: dict[SubmittedBy, list[bool]] = defaultdict(list)
    for request in in_network:
        if request.operation == EXECUTE and request.forwarded:
            context = json.loads(request.body)["templateContext"]
            has_passed = request.fault is None or request.fault.is_delivered
            passed[_submitted_by(_marker(context))].append(has_passed)
    answered = set()
    for it in in_losant:
        if it.operation == EXECUTE:
            sender = _submitted_by(_marker(it.body["templateContext"]))
            if passed[sender].pop(0) and it.status == HTTPStatus.OK:
                answered.add(sender)
    return answered


def _submitted_by(marker: dict[str, Any]) -> SubmittedBy:
    return _task(marker), marker.get("try_number", 0)


def _task(marker: dict[str, Any]) -> TaskKey | None:
    return (marker["dag_id"], marker["run_id"], marker["map_index"]) if marker else None


def _marker(template_context: str | None) -> dict[str, Any]:
    marker: dict[str, Any] = json.loads(template_context or "{}").get("airflow", {})
    return marker
