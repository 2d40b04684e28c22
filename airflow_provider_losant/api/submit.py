# SPDX-License-Identifier: Apache-2.0
"""
Starting a run exactly once.

``execute`` has no idempotency key, so it is never repeated blindly: after an answer was lost, and on
every retry, the notebook's log is searched for the mark (:mod:`.chain`) before anything is sent again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api import calls
from airflow_provider_losant.api.chain import Chain, read_mark
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows import Clock, Flow, Note, Sleep, cancel
from airflow_provider_losant.api.retry import Jitter, backoff
from airflow_provider_losant.api.watch import SINCE_MARGIN, WIDEST_LIMIT, may_pass

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution, ExecutionRef

FIRST_LIMIT = 100
LOOK_CAP = 15.0


class FateUnknown(LosantError):
    """The answer to ``execute`` was lost, and nothing tells whether Losant started a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What is to be run.

    :param options: The body of ``execute``.
    :param chain: Whose run it is; None when the context carries no mark, and nothing can be found again.
    """

    application_id: str
    notebook_id: str
    options: Mapping[str, Any]
    chain: Chain | None = None

    def __str__(self) -> str:
        return f"notebook {self.notebook_id} of application {self.application_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    How hard to try.

    :param retries: How often to ask again while Losant provably has not taken the order.
    :param listing_patience: Seconds that the log may lag behind ``execute``.
    :param max_poll_outage: Seconds without one readable answer after which the search is given up.
    :param lookback: Seconds that an earlier try's run may be old.
    :param cancel_stale: Stop runs that nobody waits for any more.
    """

    retries: int
    listing_patience: float = 60.0
    max_poll_outage: float = 600.0
    lookback: float = 48 * 3600.0
    cancel_stale: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """
    A run that belongs to this task now.

    :param submitted_at: Epoch seconds from which its time counts.
    :param execution: What the log showed, when the run was found there and not started just now.
    """

    ref: ExecutionRef
    submitted_at: float
    execution: Execution | None = None

    @classmethod
    def found(cls, execution: Execution) -> Started:
        """Take over a run from the log."""
        return cls(ref=execution.ref, submitted_at=execution.queued, execution=execution)


def start(
    order: Order,
    terms: Terms,
    *,
    is_retry: bool,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Started]:
    """
    Bring about one run for the order: find the one an earlier try started, or start it.

    :param is_retry: An earlier try may have started one; a clean first try looks nothing up.
    :raises FateUnknown: an answer was lost, and the run can neither be found nor ruled out.
    """
    if is_retry and order.chain is not None:
        found = yield from _recover(order, order.chain, terms, clock, jitter)
        if found is not None:
            return Started.found(found)
    for attempt in count(1):
        asked_at = clock()
        try:
            ref = yield calls.execute(order.application_id, order.notebook_id, order.options)
        except LosantError as error:
            found = yield from _after(
                error, attempt, asked_at, order, terms=terms, clock=clock, jitter=jitter
            )
            if found is not None:
                return Started.found(found)
        else:
            return Started(ref=ref, submitted_at=asked_at)
    raise AssertionError  # the loop above only ends by return or raise


def withdraw(order: Order, *, since: float, looks: int = 3) -> Flow[None]:
    """
    Stop what an interrupted :func:`start` may have brought about, without having learnt its id.

    :param since: Epoch seconds at which it began.
    :param looks: How often to look, a second apart, as the log may lag.
    """
    chain = order.chain
    for look in range(looks if chain else 0):
        yield Sleep(min(look, 1))
        try:
            recent = yield from _log(order, since - SINCE_MARGIN)
        except LosantError as error:
            yield Note(f"Whether a run of {order} goes on is unknown: {error}", logging.ERROR)
            return
        begun = [it for it in recent if chain and chain.owns(it) and it.status.is_active]
        for execution in begun:
            yield from cancel(execution.ref)
        if begun:
            return


def _after(
    error: LosantError,
    attempt: int,
    asked_at: float,
    order: Order,
    *,
    terms: Terms,
    clock: Clock,
    jitter: Jitter,
) -> Flow[Execution | None]:
    """Decide what a failed ``execute`` means: over, ask again (None), or a run that had landed."""
    if not error.may_have_landed:
        if attempt > terms.retries or not error.is_passing:
            raise error
        yield Note(f"{error}; asking again ({attempt} of {terms.retries})", logging.WARNING)
        yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        return None
    if order.chain is None:
        raise FateUnknown(f"{error}; without a mark in its context the run cannot be found") from error
    yield Note(f"{error}; looking whether Losant took the order all the same", logging.WARNING)
    found = yield from _find_landed(order, order.chain, asked_at, terms, clock)
    if found is not None:
        yield Note(f"Losant had taken it: adopted execution {found.ref.execution_id} ({found.status})")
        return found
    if attempt > terms.retries:
        raise error
    yield Note(f"Losant had not taken it; asking again ({attempt} of {terms.retries})")
    return None


def _find_landed(
    order: Order, chain: Chain, asked_at: float, terms: Terms, clock: Clock
) -> Flow[Execution | None]:
    """Search the log for the run of this very try until it could not lag any longer."""
    lost_at = clock()
    for attempt in count():
        try:
            recent = yield from _log(order, asked_at - SINCE_MARGIN)
        except LosantError as error:
            if not may_pass(error) or clock() - lost_at > terms.max_poll_outage:
                raise FateUnknown(
                    f"whether Losant runs {order} for this try is unknown; a retry looks again ({error})"
                ) from error
        else:
            for execution in recent:
                if chain.owns(execution) and _try_number(execution) == chain.try_number:
                    return execution
            if clock() - lost_at >= terms.listing_patience:
                return None
        yield Sleep(min(2.0**attempt, LOOK_CAP))
    raise AssertionError  # the loop above only ends by return or raise


def _recover(
    order: Order, chain: Chain, terms: Terms, clock: Clock, jitter: Jitter
) -> Flow[Execution | None]:
    """Find what earlier tries left behind: take over the run worth having, stop the others."""
    recent = yield from _log_for_sure(order, clock() - terms.lookback, terms, clock, jitter)
    ours = [it for it in recent if chain.owns(it)]
    worth = sorted((it for it in ours if it.status.is_worth_adopting), key=_finished_then_oldest)
    stale = [it for it in recent if chain.precedes(it) and it.status.is_active]
    surplus = [it for it in worth[1:] if it.status.is_active]
    for execution in (*stale, *surplus) if terms.cancel_stale else ():
        why = "from before the task was cleared" if execution in stale else "of this task"
        yield Note(f"Another run {why} is still active: execution {execution.ref.execution_id}")
        yield from cancel(execution.ref, terms.retries)
    if worth:
        yield Note(f"Adopted execution {worth[0].ref.execution_id} of an earlier try ({worth[0].status})")
        return worth[0]
    endings = ", ".join(f"{it.ref.execution_id} {it.status}" for it in ours)
    yield Note(f"No run of an earlier try to take over ({endings or 'none found'}): starting afresh")
    return None


def _log_for_sure(
    order: Order, since: float, terms: Terms, clock: Clock, jitter: Jitter
) -> Flow[Sequence[Execution]]:
    """Read the log, however long it takes within bounds: without it, starting could mean starting twice."""
    began = clock()
    for attempt in count(1):
        try:
            return (yield from _log(order, since))
        except LosantError as error:
            if not may_pass(error) or clock() - began > terms.max_poll_outage:
                raise
            yield Note(f"{error}; nothing is started before the log can be read", logging.WARNING)
            yield Sleep(backoff(attempt, cap=LOOK_CAP, floor=error.retry_after, jitter=jitter))
    raise AssertionError  # the loop above only ends by return or raise


def _log(order: Order, since: float) -> Flow[Sequence[Execution]]:
    """Read the whole log since an instant, as far as Losant gives it."""
    limit = FIRST_LIMIT
    while True:
        recent: Sequence[Execution] = yield calls.execution_logs(
            order.application_id, order.notebook_id, limit=limit, since=since
        )
        if len(recent) < limit or limit >= WIDEST_LIMIT:
            return recent
        limit = min(limit * 4, WIDEST_LIMIT)


def _try_number(execution: Execution) -> object:
    return read_mark(execution).get("try_number")


def _finished_then_oldest(execution: Execution) -> tuple[bool, float]:
    return not execution.status.is_success, execution.queued
