# SPDX-License-Identifier: Apache-2.0
"""
Every decision about a run, as generators without hands.

A flow *yields* steps and is *sent* their results, or has their :class:`LosantError` thrown into it.
``Client.run`` (workers) and ``AsyncClient.run`` (triggerer) carry steps out; the decisions exist once.
Clock and randomness are arguments, so a test feeds a flow by hand.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal, TypeVar

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import BadRequest, LosantError, NotFound, RateLimited
from airflow_provider_losant.api.flows.poll_schedule import Lookout, Onlooker
from airflow_provider_losant.api.flows.retry import Jitter, backoff
from airflow_provider_losant.api.flows.steps import Clock, Fetch, LogLine, Sleep, Tail
from airflow_provider_losant.api.flows.wait import Outcome, Patience, Target, Watch
from airflow_provider_losant.api.model import ERROR_LOG, Execution, ExecutionRef, Notebook

T = TypeVar("T")
Cancelling = Literal["asked", "needless", "failed"]
Step = Call[Any] | Sleep | LogLine | Tail
Flow = Generator[Step, Any, T]
FileFlow = Generator[Step | Fetch, Any, T]
"""A flow that also moves files, which is for workers only."""

BATCH_SIZE = 50
"""Waits to which something is told before others get a turn."""


def call_with_retry(call: Call[T], retries: int, jitter: Jitter = random.uniform) -> Flow[T]:
    """Make a call; while it fails in a way that may pass, and repeating it does no harm, make it again."""
    attempt, may_be_done = 0, False
    while True:
        try:
            answer: T = yield call
        except LosantError as error:
            if may_be_done and call.deletes and isinstance(error, NotFound | BadRequest):
                return call.parse(endpoints.SUCCESS)
            attempt += 1
            may_be_done = may_be_done or error.may_have_taken_effect
            is_safe = call.idempotent or not error.may_have_taken_effect
            is_soon_over = error.is_transient and not (call.min_interval and isinstance(error, RateLimited))
            if attempt > retries or not (is_soon_over and is_safe):
                raise
            yield LogLine(f"{error}; trying again ({attempt} of {retries})", logging.WARNING)
            yield Sleep(backoff(attempt, floor=error.retry_after, jitter=jitter))
        else:
            return answer


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


def cancel(
    ref: ExecutionRef, why: str, *, retries: int = 0, jitter: Jitter = random.uniform
) -> Flow[Cancelling]:
    """
    Ask Losant to stop a run; one that has ended, or that Losant does not know, needs none of it.

    :param why: The reason, for the log.
    :return: What came of it. A failure is noted, not raised: who cancels has a story of its own.
    """
    try:
        yield from call_with_retry(endpoints.cancel_execution(ref), retries, jitter)
    except (NotFound, BadRequest) as error:
        yield LogLine(f"The {ref} needs no cancelling: {error}")
        return "needless"
    except LosantError as error:
        yield LogLine(f"The {ref} could not be cancelled and may still use minutes: {error}", logging.ERROR)
        return "failed"
    yield LogLine(f"Asked Losant to cancel the {ref}: {why}")
    return "asked"


def watch(
    target: Target,
    patience: Patience,
    *,
    first_look: float = 0.0,
    cancel_on_timeout: bool = False,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Outcome]:
    """
    Look at a run until it ends, or until patience does.

    :param first_look: Epoch seconds before which looking is no use, as the run has only just begun.
    :param cancel_on_timeout: Stop the run when the deadline passes.
    """
    sight = Watch(target, patience, first_look=first_look)
    lookout = Lookout.of(sight, jitter)
    while sight.ending is None:
        yield Sleep(lookout.pause(clock()))
        yield from poll_once(lookout, clock)
        yield from sight.take_notes()
    return (yield from conclude(sight, cancel_on_timeout=cancel_on_timeout, clock=clock))


def poll_once(lookout: Lookout, clock: Clock = time.time) -> Flow[list[Onlooker]]:
    """Look at a notebook once, for all who wait there; return those to whom it brought news."""
    if lookout.is_barred(now := clock()):
        return (yield from _tell(lookout, lookout.skip(now), lambda watch: watch.expire(now)))
    limit, since = lookout.ask(now)
    try:
        log = yield endpoints.execution_logs(
            lookout.application_id, lookout.notebook_id, limit=limit, since=since
        )
    except LosantError as error:
        lost, now = error, clock()
        return (yield from _tell(lookout, lookout.missed(lost, now), lambda watch: watch.missed(lost, now)))
    now = clock()
    return (yield from _tell(lookout, lookout.saw(log, now), lambda watch: watch.saw(log, now)))


def _tell(
    lookout: Lookout, watches: Sequence[Onlooker], take_in: Callable[[Onlooker], bool]
) -> Flow[list[Onlooker]]:
    news = []
    for number, watch in enumerate(watches, 1):
        if take_in(watch):
            news.append(watch)
        if number % BATCH_SIZE == 0:
            yield Sleep(0.0)  # an event loop has other work as well
    lookout.plan()
    return news


def conclude(sight: Watch, *, cancel_on_timeout: bool = False, clock: Clock = time.time) -> Flow[Outcome]:
    """
    Make an outcome of a wait that is over; all that is still asked for is what the ending makes necessary.

    :param cancel_on_timeout: Stop the run when the deadline has passed.
    """
    if sight.ending == "ended" and sight.seen is not None:
        return (yield from _ended(sight.seen))
    outcome = _given_up(sight)
    ref = sight.target.ref
    if sight.ending != "deadline" or not cancel_on_timeout or ref is None:
        return outcome
    done = yield from cancel(ref, "its time is up", retries=2)
    if done == "needless":
        # It may have ended between our last look and now.
        again = Watch(sight.target, sight.patience)
        yield from poll_once(Lookout.of(again), clock)
        if again.ending == "ended" and again.seen is not None:
            return (yield from _ended(again.seen))
    return replace(outcome, is_cancelled=done == "asked")


def _ended(execution: Execution) -> Flow[Outcome]:
    outcome = Outcome(
        ending="ended",
        result=execution.to_result(),
        is_success=execution.status.is_success,
        errors=execution.errors,
    )
    log = execution.outputs.get(ERROR_LOG)
    if outcome.is_success or log is None or not log.url:
        return outcome
    try:
        text = yield Tail(log.url)
    except LosantError as error:
        yield LogLine(f"{ERROR_LOG} could not be read: {error}", logging.WARNING)
        return outcome
    return replace(outcome, error_log=text)


def _given_up(sight: Watch) -> Outcome:
    target = sight.target
    known = {
        "execution_id": target.execution_id,
        "notebook_id": target.notebook_id,
        "application_id": target.application_id,
    }
    result = sight.seen.to_result() if sight.seen else known
    return Outcome(ending=sight.ending or "outage", result=result, problem=sight.problem)
