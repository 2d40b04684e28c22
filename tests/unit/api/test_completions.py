# SPDX-License-Identifier: Apache-2.0
"""Every execution that ends is told once: in any order, whoever takes over, however late it is listed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import Forbidden, TransportError
from airflow_provider_losant.api.flows.completions import (
    INITIAL_LOOKBACK,
    OVERLAP,
    STALE_AFTER,
    Checkpoint,
    Completion,
    CompletionFeed,
)
from airflow_provider_losant.api.flows.poll_schedule import FIRST_LIMIT, PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.model import ExecutionLog
from tests.support.factories import APPLICATION, MADE, NOTEBOOK, briefly, entry, iso, run_id
from tests.unit.api.flow_driver import Hand, calm

INTERVAL = 60.0
GONE = TransportError("connection lost")


@dataclass(frozen=True)
class Run:
    """One execution: seconds after the first moment of the story at which something happens to it."""

    number: int
    queued: float
    ends: float
    listed: float = 0.0
    status: str = "completed"

    @property
    def id(self) -> str:
        return f"{int(MADE + self.queued):08x}{self.number:016x}"

    def entry(self, now: float) -> dict[str, Any]:
        has_ended = now >= MADE + self.ends
        return entry(
            self.status if has_ended else "inProgress",
            self.id,
            runQueuedAt=iso(MADE + self.queued),
            outputsCompletedAt=iso(MADE + self.ends) if has_ended else None,
        )


class Losant:
    """Answers with the log of its runs, as long and as far back as it is asked for."""

    def __init__(self, *runs: Run) -> None:
        self.runs = sorted(runs, key=lambda run: run.queued, reverse=True)
        self.hand = Hand([self.answer], now=MADE)

    def answer(self, call: Any) -> ExecutionLog:
        now, since = self.hand.now, int(call.query["since"]) / 1000
        listed = [run for run in self.runs if MADE + max(run.queued, run.listed) <= now]
        wanted = [run.entry(now) for run in listed if MADE + run.queued >= since]
        return ExecutionLog(wanted[: int(call.query["limit"])])


class Teller:
    """Looks as a triggerer does, from a process that may be a new one every time."""

    def __init__(self, losant: Losant, checkpoint: Checkpoint | None = None, **more: Any) -> None:
        self.losant = losant
        given: dict[str, Any] = {"statuses": ["completed"], "poll_interval": INTERVAL, **more}
        self.feed = CompletionFeed(APPLICATION, NOTEBOOK, now=losant.hand.now, checkpoint=checkpoint, **given)
        self.schedule = PollSchedule.of(self.feed, calm)
        self.notes: list[str] = []

    def poll_once(self) -> list[Completion]:
        hand = self.losant.hand
        hand.now += self.schedule.delay(hand.now)
        hand.drive(poll_once(self.schedule, hand.clock))
        self.notes += [note.text for note in self.feed.drain_logs()]
        return list(self.feed.drain_completions())

    def until(self, seconds: float) -> list[Completion]:
        """Look until so many seconds after the first moment."""
        news: list[Completion] = []
        while self.losant.hand.now < MADE + seconds:
            news += self.poll_once()
        return news


def ids(news: list[Completion]) -> list[str]:
    return [it.execution.ref.execution_id for it in news if it.execution is not None]


def over_the_wire(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json())))


# -- what is news -----------------------------------------------------------------------------------------


def test_executions_ended_before_the_first_poll_are_not_delivered_and_active_ones_are() -> None:
    old, under_way, new = Run(1, -500, -100), Run(2, -600, 100), Run(3, 50, 90)

    assert ids(Teller(Losant(old, under_way, new)).until(300)) == [new.id, under_way.id]


def test_the_first_poll_has_a_checkpoint_even_without_a_completion() -> None:
    (news,) = Teller(Losant(Run(1, -500, -100))).poll_once()

    assert news.execution is None
    assert list(news.checkpoint.delivered) == [Run(1, -500, -100).id]


def test_only_completions_with_a_selected_status_are_delivered() -> None:
    runs = [
        Run(number, 10, 20, status=name) for number, name in enumerate(("completed", "errored", "timeout"))
    ]

    assert ids(Teller(Losant(*runs), statuses=["errored", "timeout"]).until(120)) == [runs[1].id, runs[2].id]


def test_simultaneous_completions_are_delivered_in_the_order_of_their_ends() -> None:
    late, early = Run(1, 10, 50), Run(2, 20, 30)

    assert ids(Teller(Losant(late, early)).until(120)) == [early.id, late.id]


def test_another_feed_continues_from_the_checkpoint_of_the_first() -> None:
    losant = Losant(*(Run(number, 40 * number, 40 * number + 100) for number in range(1, 9)))

    first = Teller(losant).until(200)
    losant.hand.now += 100  # nobody looks
    second = Teller(losant, over_the_wire(first[-1].checkpoint)).until(600)

    assert ids(first + second) == [run.id for run in reversed(losant.runs)]


def test_completions_without_a_saved_checkpoint_are_delivered_again() -> None:
    losant = Losant(Run(1, 10, 20), Run(2, 10, 30), Run(3, 10, 40))

    first = Teller(losant).until(120)
    second = Teller(losant, over_the_wire(first[1].checkpoint)).until(240)

    assert ids(second) == [Run(2, 10, 30).id, Run(3, 10, 40).id]


@briefly
@given(data=st.data())
def test_each_completion_is_delivered_once_whatever_the_order_lag_and_restarts(data: st.DataObject) -> None:
    runs = [
        Run(
            number,
            queued=(queued := data.draw(st.integers(-2_000, 4_000))),
            ends=queued + data.draw(st.integers(0, 3_000)),
            listed=queued + data.draw(st.integers(0, int(OVERLAP) - 300)),
        )
        for number in range(data.draw(st.integers(0, 30)))
    ]
    losant, delivered, checkpoint = Losant(*runs), Counter[str](), None
    for _ in range(data.draw(st.integers(1, 5))):
        teller = Teller(losant, checkpoint)
        news = teller.until(losant.hand.now - MADE + data.draw(st.integers(1, 3_000)))
        delivered.update(ids(news))
        if news:
            checkpoint = over_the_wire(news[-1].checkpoint)
        losant.hand.now += data.draw(st.integers(0, 2_000))
    delivered.update(ids(Teller(losant, checkpoint).until(12_000)))

    assert delivered == Counter(run.id for run in runs if max(run.ends, run.listed) > 0)


# -- how far back -----------------------------------------------------------------------------------------


def reach(teller: Teller) -> float:
    """Return how many seconds before the first moment the last request reached."""
    return MADE - int(teller.losant.hand.calls[-1].query["since"]) / 1000


def test_the_first_poll_reaches_a_day_back_and_later_ones_only_as_far_as_required() -> None:
    teller = Teller(Losant(Run(1, -10, -5)))
    teller.poll_once()
    assert reach(teller) > INITIAL_LOOKBACK
    teller.poll_once()
    assert reach(teller) < 2 * OVERLAP


def test_an_active_execution_keeps_the_window_long_but_not_forever() -> None:
    stuck = Run(1, -3_000, 10 * STALE_AFTER)
    losant = Losant(stuck, Run(2, STALE_AFTER, STALE_AFTER + 10))
    teller = Teller(losant, poll_interval=3_600.0)

    teller.until(STALE_AFTER - 7_200)
    assert reach(teller) >= 3_000
    teller.until(STALE_AFTER + 7_200)
    assert reach(teller) < 0


def test_a_busy_notebook_is_polled_with_a_higher_limit() -> None:
    losant = Losant(*(Run(number, number, number + 30) for number in range(5 * FIRST_LIMIT)))

    assert len(ids(Teller(losant).until(300))) == 5 * FIRST_LIMIT


def test_a_wait_for_the_same_notebook_shares_the_request() -> None:
    losant = Losant(Run(1, 10, 20))
    teller = Teller(losant)
    target = Target(
        application_id=APPLICATION, notebook_id=NOTEBOOK, execution_id=Run(1, 10, 20).id, since=MADE
    )
    watch = Wait(target, WaitConfig(poll_interval=INTERVAL, deadline=MADE + 3_600, max_poll_outage=600.0))
    teller.schedule.join(watch)

    news = teller.poll_once() + teller.poll_once()

    assert ids(news) == [target.execution_id]
    assert watch.ending == "ended"
    assert len(losant.hand.calls) == 2


# -- trouble ----------------------------------------------------------------------------------------------


def test_consecutive_failures_are_logged_once_and_lose_no_completion() -> None:
    losant = Losant(Run(1, 10, 20))
    teller = Teller(losant)
    teller.poll_once()
    losant.hand._left = [GONE, GONE, Forbidden(403, "Forbidden", "no"), losant.answer]

    assert ids(teller.until(600)) == [Run(1, 10, 20).id]
    assert len(teller.notes) == 1


def test_an_unreadable_entry_hides_no_other_and_is_logged_once() -> None:
    losant = Losant(Run(1, 10, 20))
    odd = {"id": run_id(5), "status": "completed"}
    losant.hand._left = [lambda call: ExecutionLog([odd, *(it.raw for it in losant.answer(call))])]
    teller = Teller(losant)

    assert ids(teller.until(300)) == [Run(1, 10, 20).id]
    assert [run_id(5) in note for note in teller.notes] == [True]


def test_a_checkpoint_of_a_later_version_can_be_loaded() -> None:
    assert Checkpoint.from_json({"since": 1.0, "delivered": {"a": 2.0}, "more": []}) == Checkpoint(
        since=1.0, delivered={"a": 2.0}
    )
