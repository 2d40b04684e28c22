# SPDX-License-Identifier: Apache-2.0
"""Every completion is delivered once: in any order, across restarts, however late it is listed."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import Forbidden, RateLimited, TransportError
from airflow_provider_losant.api.execution_log import SLICE, ExecutionLog
from airflow_provider_losant.api.fields import MAX_EVENT
from airflow_provider_losant.api.flows.completions import (
    INITIAL_LOOKBACK,
    OVERLAP,
    STALE_AFTER,
    Checkpoint,
    CompletionFeed,
    Delivery,
)
from airflow_provider_losant.api.flows.log_reader import FIRST_LIMIT
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once
from airflow_provider_losant.api.flows.skipped_entries import MAX_REPORTED
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    NOTEBOOK_ID,
    entry,
    execution_id_at,
    few_examples,
    iso,
)
from tests.unit.api.flow_driver import FlowDriver, mean_delay

INTERVAL = 60.0
GONE = TransportError("connection lost")


@dataclass(frozen=True)
class FakeExecution:
    """One execution, with the times of its events in seconds after the first execution was created."""

    number: int
    queued: float
    ends: float
    listed: float = 0.0
    status: str = "completed"

    @property
    def id(self) -> str:
        return f"{int(CREATED_AT + self.queued):08x}{self.number:016x}"

    def entry(self, now: float) -> dict[str, Any]:
        has_ended = now >= CREATED_AT + self.ends
        return entry(
            self.status if has_ended else "inProgress",
            self.id,
            runQueuedAt=iso(CREATED_AT + self.queued),
            outputsCompletedAt=iso(CREATED_AT + self.ends) if has_ended else None,
        )


class FakeLosant:
    """Responds with the log of its executions, limited by ``limit`` and ``since``."""

    def __init__(self, *executions: FakeExecution) -> None:
        self.executions = sorted(executions, key=lambda execution: execution.queued, reverse=True)
        self.driver = FlowDriver([self.respond], now=CREATED_AT)

    def respond(self, call: Any) -> ExecutionLog:
        return ExecutionLog(self.entries(call))

    def entries(self, call: Any) -> list[dict[str, Any]]:
        now, since = self.driver.now, int(call.query.get("since", 0)) / 1000
        listed = [
            execution
            for execution in self.executions
            if CREATED_AT + max(execution.queued, execution.listed) <= now
        ]
        wanted = [execution.entry(now) for execution in listed if CREATED_AT + execution.queued >= since]
        return wanted[: int(call.query["limit"])]


@dataclass(frozen=True)
class Delivered:
    """The results of a delivery, and the checkpoint after it."""

    results: list[dict[str, Any]]
    checkpoint: Checkpoint


class FeedPoller:
    """Polls as a triggerer does; a new poller stands for a new process."""

    def __init__(self, losant: FakeLosant, checkpoint: Checkpoint | None = None, **more: Any) -> None:
        self.losant = losant
        given: dict[str, Any] = {"statuses": ["completed"], "poll_interval": INTERVAL, **more}
        self.feed = CompletionFeed(
            APPLICATION_ID, NOTEBOOK_ID, now=losant.driver.now, checkpoint=checkpoint, **given
        )
        self.checkpoint = Checkpoint() if checkpoint is None else checkpoint.copy()
        self.schedule = PollSchedule.of(self.feed, mean_delay)
        self.log_lines: list[str] = []

    def poll_once(self) -> list[Delivered]:
        self.poll_without_delivery()
        return self.deliver()

    def poll_without_delivery(self) -> None:
        driver = self.losant.driver
        driver.now += self.schedule.delay(driver.now)
        driver.drive(poll_once(self.schedule, driver.clock))
        self.log_lines += [line.text for line in self.feed.drain_logs()]

    def deliver(self) -> list[Delivered]:
        delivered = []
        while (delivery := self.feed.next_delivery()) is not None:
            self.checkpoint.advance(delivery.progress)
            delivered.append(Delivered(delivery.results, self.checkpoint.copy()))
        return delivered

    def poll_until(self, seconds: float) -> list[Delivered]:
        """Poll until this many seconds after the first execution was created."""
        completions: list[Delivered] = []
        while self.losant.driver.now < CREATED_AT + seconds:
            completions += self.poll_once()
        return completions


def ids(completions: list[Delivered]) -> list[str]:
    return [result["execution_id"] for it in completions for result in it.results]


def through_json(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json())))


# -- completions ------------------------------------------------------------------------------------------


def test_executions_ended_before_the_first_poll_are_not_delivered_and_active_ones_are() -> None:
    old, under_way, new = FakeExecution(1, -500, -100), FakeExecution(2, -600, 100), FakeExecution(3, 50, 90)

    assert ids(FeedPoller(FakeLosant(old, under_way, new)).poll_until(300)) == [new.id, under_way.id]


def test_the_first_poll_has_a_checkpoint_even_without_a_completion() -> None:
    (completion,) = FeedPoller(FakeLosant(FakeExecution(1, -500, -100))).poll_once()

    assert completion.results == []
    assert list(completion.checkpoint.delivered) == [FakeExecution(1, -500, -100).id]


def test_only_completions_with_a_selected_status_are_delivered() -> None:
    executions = [
        FakeExecution(number, 10, 20, status=name)
        for number, name in enumerate(("completed", "errored", "timeout"))
    ]

    assert ids(FeedPoller(FakeLosant(*executions), statuses=["errored", "timeout"]).poll_until(120)) == [
        executions[1].id,
        executions[2].id,
    ]


def test_simultaneous_completions_are_delivered_in_the_order_of_their_ends() -> None:
    late, early = FakeExecution(1, 10, 50), FakeExecution(2, 20, 30)

    assert ids(FeedPoller(FakeLosant(late, early)).poll_until(120)) == [early.id, late.id]


def test_another_feed_continues_from_the_checkpoint_of_the_first() -> None:
    losant = FakeLosant(*(FakeExecution(number, 40 * number, 40 * number + 100) for number in range(1, 9)))

    first = FeedPoller(losant).poll_until(200)
    losant.driver.now += 100  # time without polls
    second = FeedPoller(losant, through_json(first[-1].checkpoint)).poll_until(600)

    assert ids(first + second) == [execution.id for execution in reversed(losant.executions)]


def test_completions_without_a_saved_checkpoint_are_delivered_again() -> None:
    losant = FakeLosant(FakeExecution(1, 10, 20), FakeExecution(2, 10, 30), FakeExecution(3, 10, 40))

    first = FeedPoller(losant).poll_until(120)
    second = FeedPoller(losant, through_json(first[1].checkpoint)).poll_until(240)

    assert ids(second) == [FakeExecution(2, 10, 30).id, FakeExecution(3, 10, 40).id]


@few_examples
@given(data=st.data())
def test_each_completion_is_delivered_once_whatever_the_order_lag_and_restarts(data: st.DataObject) -> None:
    executions = [
        FakeExecution(
            number,
            queued=(queued := data.draw(st.integers(-2_000, 4_000))),
            ends=queued + data.draw(st.integers(0, 3_000)),
            listed=queued + data.draw(st.integers(0, int(OVERLAP) - 300)),
        )
        for number in range(data.draw(st.integers(0, 30)))
    ]
    losant, delivered, checkpoint = FakeLosant(*executions), Counter[str](), None
    for _ in range(data.draw(st.integers(1, 5))):
        poller = FeedPoller(losant, checkpoint)
        completions = poller.poll_until(losant.driver.now - CREATED_AT + data.draw(st.integers(1, 3_000)))
        delivered.update(ids(completions))
        if completions:
            checkpoint = through_json(completions[-1].checkpoint)
        losant.driver.now += data.draw(st.integers(0, 2_000))
    delivered.update(ids(FeedPoller(losant, checkpoint).poll_until(12_000)))

    assert delivered == Counter(
        execution.id for execution in executions if max(execution.ends, execution.listed) > 0
    )


# -- the lookback -----------------------------------------------------------------------------------------


def lookback(poller: FeedPoller) -> float:
    """Return by how many seconds ``since`` of the last request precedes the first execution."""
    return CREATED_AT - int(poller.losant.driver.calls[-1].query["since"]) / 1000


def test_the_first_poll_reaches_a_day_back_and_later_ones_only_as_far_as_required() -> None:
    poller = FeedPoller(FakeLosant(FakeExecution(1, -10, -5)))
    poller.poll_once()
    assert lookback(poller) > INITIAL_LOOKBACK
    poller.poll_once()
    assert lookback(poller) < 2 * OVERLAP


def test_an_active_execution_keeps_the_window_long_but_not_forever() -> None:
    stuck = FakeExecution(1, -3_000, 10 * STALE_AFTER)
    losant = FakeLosant(stuck, FakeExecution(2, STALE_AFTER, STALE_AFTER + 10))
    poller = FeedPoller(losant, poll_interval=3_600.0)

    poller.poll_until(STALE_AFTER - 7_200)
    assert lookback(poller) >= 3_000
    poller.poll_until(STALE_AFTER + 7_200)
    assert lookback(poller) < 0


def test_a_busy_notebook_is_polled_with_a_higher_limit() -> None:
    losant = FakeLosant(*(FakeExecution(number, number, number + 30) for number in range(5 * FIRST_LIMIT)))

    assert len(ids(FeedPoller(losant).poll_until(300))) == 5 * FIRST_LIMIT


def add_wait(poller: FeedPoller, execution_id: str, *, timeout: float) -> Wait:
    """Let something wait for one execution by the feed's polls."""
    target = Target(
        application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=execution_id, since=CREATED_AT
    )
    config = WaitConfig(poll_interval=INTERVAL, deadline=CREATED_AT + timeout, max_poll_outage=600.0)
    wait = Wait(target, config)
    poller.schedule.join(wait)
    return wait


def test_a_wait_for_the_same_notebook_shares_the_request() -> None:
    execution = FakeExecution(1, 10, 20)
    losant = FakeLosant(execution)
    poller = FeedPoller(losant)
    watch = add_wait(poller, execution.id, timeout=3_600)

    completions = poller.poll_once() + poller.poll_once()

    assert ids(completions) == [execution.id]
    assert watch.ending == "ended"
    assert len(losant.driver.calls) == 2


def test_a_wait_that_ends_while_losant_forbids_polls_loses_no_completion() -> None:
    losant = FakeLosant(FakeExecution(1, 10, 20))
    poller = FeedPoller(losant)
    watch = add_wait(poller, execution_id_at(5), timeout=90)
    poller.poll_once()
    busy = RateLimited(429, "", "slow down", retry_after=600.0)
    losant.driver._remaining = [busy, losant.respond]

    during = poller.poll_until(90)
    polls = len(losant.driver.calls)

    assert (watch.ending, ids(during), polls) == ("deadline", [], 2)
    assert ids(poller.poll_until(900)) == [FakeExecution(1, 10, 20).id]


# -- errors -----------------------------------------------------------------------------------------------


def test_consecutive_failures_are_logged_once_and_lose_no_completion() -> None:
    losant = FakeLosant(FakeExecution(1, 10, 20))
    poller = FeedPoller(losant)
    poller.poll_once()
    losant.driver._remaining = [GONE, GONE, Forbidden(403, "Forbidden", "no"), losant.respond]

    assert ids(poller.poll_until(600)) == [FakeExecution(1, 10, 20).id]
    assert [line.partition(" after ")[0].partition(":")[0] for line in poller.log_lines] == [
        f"Polling the executions of notebook {NOTEBOOK_ID} failed",
        "Losant responds again",
    ]


def test_an_unreadable_entry_hides_no_other_and_is_logged_once() -> None:
    losant = FakeLosant(FakeExecution(1, 10, 20))
    odd = {"id": execution_id_at(5), "status": "completed"}
    losant.driver._remaining = [lambda call: ExecutionLog([odd, *losant.entries(call)])]
    poller = FeedPoller(losant)

    assert ids(poller.poll_until(300)) == [FakeExecution(1, 10, 20).id]
    assert [execution_id_at(5) in line for line in poller.log_lines] == [True]


# -- many completions -------------------------------------------------------------------------------------

FILES = {f"file-{it}.csv": {"size": it, "contentType": "text/csv", "url": "x" * 300} for it in range(2)}


def ended(
    count: int, *, first: int = 0, apart: float = 0.0, status: str = "completed", **more: Any
) -> list[dict[str, Any]]:
    """
    Return the log of executions that have ended, newest first, as new objects, as after a request.

    :param first: How many of the oldest it does not list.
    """
    entries = [
        entry(
            status,
            f"{int(CREATED_AT + number * apart):08x}{number:016x}",
            runQueuedAt=iso(CREATED_AT + number * apart),
            outputsCompletedAt=iso(CREATED_AT + number * apart + 4),
            outputInfo=FILES,
            **more,
        )
        for number in range(first, count)
    ]
    return json.loads(json.dumps(entries[::-1]))  # type: ignore[no-any-return]  # JSON has no type


def feed_of(**more: Any) -> CompletionFeed:
    given = {"statuses": ["completed"], "poll_interval": INTERVAL, "now": CREATED_AT, **more}
    return CompletionFeed(APPLICATION_ID, NOTEBOOK_ID, **given)


def process(feed: CompletionFeed, entries: list[dict[str, Any]], now: float) -> int:
    """Give a feed a response; return in how many slices it was processed."""
    log, slices = ExecutionLog(entries), 1
    while feed.on_response(log, now) is None:
        slices += 1
    return slices


def deliveries(feed: CompletionFeed) -> Iterator[Delivery]:
    while (delivery := feed.next_delivery()) is not None:
        yield delivery


def test_thousands_that_end_at_once_take_linear_memory_and_short_steps() -> None:
    feed, checkpoint = feed_of(checkpoint=Checkpoint(since=CREATED_AT)), Checkpoint()
    entries = ended(4_000)

    tracemalloc.start()
    try:
        slices = process(feed, entries, CREATED_AT + 10)
        changes = 0
        for delivery in deliveries(feed):
            changes += len(delivery.progress.delivered)
            checkpoint.advance(delivery.progress)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(checkpoint.delivered) == 4_000
    assert changes == 4_000
    assert slices > 4_000 / SLICE
    assert peak < 20e6


def test_an_execution_that_is_still_to_be_delivered_takes_about_a_kilobyte() -> None:
    feed = feed_of(checkpoint=Checkpoint(since=CREATED_AT))
    process(feed, ended(10, apart=0.1), CREATED_AT)
    context = json.dumps({"plan": "p" * 20_000})

    tracemalloc.start()
    try:
        for end in range(600, 6_001, 600):  # ten per second for ten minutes, a poll each minute
            entries = ended(end, first=max(0, end - 700), apart=0.1, templateContext=context)
            process(feed, entries, CREATED_AT + end / 10)
            del entries
        gc.collect()
        waiting = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert sum(len(it.results) for it in deliveries(feed)) == 6_000
    assert waiting / 6_000 < 1_300


def test_executions_that_are_not_delivered_to_anyone_do_not_accumulate() -> None:
    feed = feed_of(statuses=["errored"], checkpoint=Checkpoint(since=CREATED_AT))
    entries = ended(4_000, apart=10.0)
    for end in range(100, 4_001, 100):
        process(feed, entries[4_000 - end :][:200], CREATED_AT + end * 10)
    last = entry("errored", f"{int(CREATED_AT + 40_000):08x}{4_000:016x}")

    process(feed, [last, *entries[:100]], CREATED_AT + 40_000)
    [delivery] = deliveries(feed)

    assert len(delivery.progress.delivered) <= OVERLAP / 10 + 100


def test_thousands_of_unreadable_entries_hide_no_other_and_get_a_few_lines() -> None:
    feed = feed_of(checkpoint=Checkpoint(since=CREATED_AT))
    ids = (f"{int(CREATED_AT):08x}{10**6 + number:016x}" for number in range(2_000))
    odd = [{"id": it, "status": "completed"} for it in ids]

    slices = process(feed, [*odd, *ended(500)], CREATED_AT + 10)

    assert sum(len(it.results) for it in deliveries(feed)) == 500
    assert slices > 2_500 / SLICE
    assert len(feed.drain_logs()) == MAX_REPORTED + 1
    process(feed, [*odd, *ended(500)], CREATED_AT + 70)
    assert list(feed.drain_logs()) == []


# -- batches ----------------------------------------------------------------------------------------------


def test_a_batch_has_all_that_ended_together_in_the_order_of_the_ends() -> None:
    losant = FakeLosant(FakeExecution(1, 10, 50), FakeExecution(2, 20, 30), FakeExecution(3, 15, 40))
    poller = FeedPoller(losant, batch=True)

    batches = [ids([it]) for it in poller.poll_until(120) if it.results]

    assert batches == [
        [FakeExecution(2, 20, 30).id, FakeExecution(3, 15, 40).id, FakeExecution(1, 10, 50).id]
    ]


def test_batches_and_single_deliveries_lead_to_the_same_results_and_checkpoint() -> None:
    executions = [
        FakeExecution(number, 5 * number, 5 * number + 60, status="errored" if number % 3 else "completed")
        for number in range(60)
    ]
    single = FeedPoller(FakeLosant(*executions))
    batch = FeedPoller(FakeLosant(*executions), batch=True)

    alone, together = single.poll_until(900), batch.poll_until(900)

    assert ids(alone) == ids(together)
    assert len(alone) > len(together)
    assert single.checkpoint == batch.checkpoint


def test_a_batch_has_at_most_64_kilobytes_and_the_next_one_the_rest() -> None:
    feed = feed_of(
        checkpoint=Checkpoint(since=CREATED_AT), batch=True, complete=lambda it: it | {"url": "u" * 99}
    )
    process(feed, ended(1_000, apart=0.1), CREATED_AT + 200)

    found = list(deliveries(feed))

    sizes = [len(json.dumps({"executions": it.results})) for it in found]
    assert max(sizes) <= MAX_EVENT
    assert min(sizes[:-1]) > 0.9 * MAX_EVENT
    queued = [result["queued_at"] for it in found for result in it.results]
    assert (len(queued), queued) == (1_000, sorted(queued))


def test_an_execution_with_thousands_of_files_is_a_batch_of_its_own() -> None:
    feed = feed_of(checkpoint=Checkpoint(since=CREATED_AT), batch=True)
    large = {f"{'n' * 50}-{it}": {"size": 1} for it in range(3_000)}
    entries = ended(3, apart=1.0)
    entries[1]["outputInfo"] = large
    process(feed, entries, CREATED_AT + 200)

    sizes = [len(json.dumps({"executions": it.results})) for it in deliveries(feed)]

    assert len(sizes) <= 3
    assert max(sizes) <= MAX_EVENT


def test_what_no_stored_batch_contains_is_delivered_again_after_a_restart() -> None:
    executions = [FakeExecution(number, number, number + 60) for number in range(40)]
    losant = FakeLosant(*executions)
    poller = FeedPoller(losant, batch=True)
    (start,) = poller.poll_once()
    first = poller.poll_until(65)
    rest = poller.poll_until(240)

    again = FeedPoller(losant, through_json(first[0].checkpoint), batch=True).poll_until(400)

    assert ids(first) + ids(rest) == [it.id for it in executions]
    assert ids(again) == ids([*first[1:], *rest])
    assert ids(FeedPoller(losant, through_json(start.checkpoint)).poll_until(600)) == [
        it.id for it in executions
    ]
