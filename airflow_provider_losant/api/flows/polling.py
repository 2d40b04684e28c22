# SPDX-License-Identifier: Apache-2.0
"""Poll a notebook's execution log: once for all subscribers, or until one execution has ended."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.defaults import MAX_LOG_LAG
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule, Subscriber
from airflow_provider_losant.api.flows.steps import Clock, Flow, LogLine, Sleep, Tail
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.model import ERROR_LOG, Execution

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.retry import Jitter

BATCH_SIZE = 50
"""Subscribers that get a response before the event loop may do other work."""


def wait_for_execution(
    target: Target,
    config: WaitConfig,
    *,
    not_before: float = 0.0,
    cancel_on_timeout: bool = False,
    max_log_lag: float = MAX_LOG_LAG,
    clock: Clock = time.time,
    jitter: Jitter = random.uniform,
) -> Flow[Outcome]:
    """
    Poll until the execution has ended, or until the wait is given up.

    :param not_before: Epoch seconds before which polling is useless, as the execution is too new.
    :param cancel_on_timeout: Cancel the execution when the deadline passes.
    :param max_log_lag: Seconds that Losant may lag behind a submission.
    """
    wait = Wait(target, config, not_before=not_before)
    schedule = PollSchedule.of(wait, jitter)
    while wait.ending is None:
        yield Sleep(schedule.delay(clock()))
        yield from poll_once(schedule, clock)
        yield from wait.drain_logs()
    return (
        yield from conclude(wait, cancel_on_timeout=cancel_on_timeout, max_log_lag=max_log_lag, clock=clock)
    )


def poll_once(schedule: PollSchedule, clock: Clock = time.time) -> Flow[list[Subscriber]]:
    """Poll a notebook's log once for all subscribers; return those that have something new to report."""
    if schedule.is_rate_limited(now := clock()):
        return (yield from _notify(schedule, schedule.skip_poll(now), lambda it: it.on_tick(now)))
    limit, since = schedule.next_request(now)
    ids = schedule.application_id, schedule.notebook_id
    try:
        log = yield endpoints.execution_logs(*ids, limit=limit, since=since)
    except LosantError as failure:
        error, now = failure, clock()
        return (
            yield from _notify(schedule, schedule.on_error(error, now), lambda it: it.on_error(error, now))
        )
    now = clock()
    return (yield from _notify(schedule, schedule.on_response(log, now), lambda it: it.on_response(log, now)))


def _notify(
    schedule: PollSchedule,
    subscribers: Sequence[Subscriber],
    callback: Callable[[Subscriber], bool | None],
) -> Flow[list[Subscriber]]:
    with_news = []
    for number, subscriber in enumerate(subscribers, 1):
        while (has_news := callback(subscriber)) is None:
            yield Sleep(0.0)
        if has_news:
            with_news.append(subscriber)
        if number % BATCH_SIZE == 0:
            yield Sleep(0.0)  # lets the event loop do other work
    schedule.reschedule()
    return with_news


def conclude(
    wait: Wait,
    *,
    cancel_on_timeout: bool = False,
    max_log_lag: float = MAX_LOG_LAG,
    clock: Clock = time.time,
) -> Flow[Outcome]:
    """
    Return the outcome of a wait that is over: read the error log, or cancel the execution, where needed.

    :param cancel_on_timeout: Cancel the execution when the deadline has passed.
    :param max_log_lag: Seconds that Losant may lag behind a submission.
    """
    if wait.ending == "ended" and wait.execution is not None:
        return (yield from _ended(wait.execution))
    if wait.ending == "deadline" and wait.expects_listing(clock()):
        wait = yield from _poll_whole_log(wait, clock)
        if wait.ending == "ended" and wait.execution is not None:
            return (yield from _ended(wait.execution))
    outcome = _given_up(wait)
    ref = wait.target.ref
    if wait.ending != "deadline" or not cancel_on_timeout or ref is None:
        return outcome
    why = "the deadline of its task has passed"
    result = yield from cancel(ref, why, max_log_lag=max_log_lag, retries=2, clock=clock)
    if result == "not_needed":
        # It may have ended between the last poll and now.
        again = Wait(wait.target, wait.config)
        yield from poll_once(PollSchedule.of(again), clock)
        if again.ending == "ended" and again.execution is not None:
            return (yield from _ended(again.execution))
    return replace(outcome, is_cancelled=result == "requested")


def _poll_whole_log(wait: Wait, clock: Clock) -> Flow[Wait]:
    """
    Search the whole log for an execution that the last poll did not list; return the wait after that.

    A wait in which each poll is in another process, or that had time for few polls, has never requested it.
    """
    again = Wait(wait.target, wait.config, is_unlisted=True)
    schedule = PollSchedule.of(again)
    while again.ending is None:
        yield Sleep(schedule.delay(clock()))  # none, unless the clock was set back before the deadline
        yield from poll_once(schedule, clock)
        yield from again.drain_logs()
    return again if again.ending in ("ended", "not_found") else wait


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


def _given_up(wait: Wait) -> Outcome:
    target = wait.target
    known = {
        "execution_id": target.execution_id,
        "notebook_id": target.notebook_id,
        "application_id": target.application_id,
    }
    result = wait.execution.to_result() if wait.execution else known
    return Outcome(ending=wait.ending or "outage", result=result, problem=wait.problem)
