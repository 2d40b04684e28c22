# SPDX-License-Identifier: Apache-2.0
"""One request for all who wait on a notebook: how far it reaches, when it is due, and who is told what."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    LosantError,
    RateLimited,
    ResponseTooLarge,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.flows.poll_schedule import FIRST_LIMIT, MAX_LIMIT, PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once
from airflow_provider_losant.api.flows.wait import SINCE_MARGIN, Target, Wait, WaitConfig
from airflow_provider_losant.api.model import ExecutionLog
from tests.support.factories import APPLICATION, MADE, NOTEBOOK, briefly, entry, run_id
from tests.unit.api.flow_driver import Hand, calm, highest

GONE = TransportError("connection lost")


def wait(number: int = 0, *, interval: float = 20.0, not_before: float = 0.0, **more: float) -> Wait:
    """Begin to wait for the run that was made ``number`` seconds after the first one."""
    target = Target(
        application_id=APPLICATION, notebook_id=NOTEBOOK, execution_id=run_id(number), since=MADE + number
    )
    given = {"deadline": MADE + 86_400, "max_poll_outage": 600.0, **more}
    return Wait(target, WaitConfig(poll_interval=interval, **given), not_before=not_before)


def schedule(*watches: Wait, **more: Any) -> PollSchedule:
    together = PollSchedule(APPLICATION, NOTEBOOK, **{"jitter": calm, **more})
    for watch in watches:
        together.join(watch)
    return together


def log(*entries: dict[str, Any]) -> ExecutionLog:
    return ExecutionLog(entries)


def running(*numbers: int) -> ExecutionLog:
    return log(*(entry("inProgress", run_id(it)) for it in numbers))


def done(*numbers: int) -> ExecutionLog:
    return log(*(entry("completed", run_id(it)) for it in numbers))


class Story:
    """Look again and again, as a poller does; each answer stands for one request."""

    def __init__(self, together: PollSchedule, *answers: Any) -> None:
        self.together = together
        self.hand = Hand(answers, now=MADE)
        self.news: list[list[Wait]] = []
        self.ended: list[Wait] = []

    def go_on(self, looks: int = 1) -> Story:
        """Look so many times, also where no request came of it."""
        for _ in range(looks):
            self.hand.now += self.together.delay(self.hand.now)
            news = list(self.hand.drive(poll_once(self.together, self.hand.clock)))
            self.news.append(news)
            self.ended += [watch for watch in news if watch.ending is not None]
            for watch in news:
                watch.drain_logs()
        return self

    @property
    def windows(self) -> list[tuple[int, float]]:
        return [(int(it.query["limit"]), int(it.query["since"]) / 1000) for it in self.hand.calls]

    @property
    def times(self) -> list[float]:
        return [at - MADE for at in self.hand.looks]


# -- one request answers all ------------------------------------------------------------------------------


def test_one_response_is_delivered_to_all_waits() -> None:
    waits = [wait(number) for number in range(3)]

    story = Story(schedule(*waits), done(2, 1, 0)).go_on()

    assert [it.ending for it in waits] == ["ended"] * 3
    assert story.news == [waits]
    assert len(story.hand.calls) == 1


def test_since_covers_the_oldest_wait_and_limit_the_number_of_waits() -> None:
    waits = [wait(number) for number in range(5, 55)]

    story = Story(schedule(*waits), running()).go_on()

    assert story.windows == [(100, MADE + 5 - SINCE_MARGIN)]


def test_since_is_no_earlier_than_the_remaining_waits_require() -> None:
    old, young = wait(0), wait(900)
    together = schedule(old, young)
    story = Story(together, running(900, 0)).go_on()

    together.leave(old)
    story.go_on()

    assert [since for _, since in story.windows] == [MADE - SINCE_MARGIN, MADE + 900 - SINCE_MARGIN]


def test_a_wait_without_a_change_is_not_notified() -> None:
    first, second = wait(0), wait(1)
    together = schedule(first, second)

    ended = log(entry("completed", run_id(1)), entry("inProgress", run_id(0)))
    story = Story(together, running(1, 0), running(1, 0), ended).go_on(3)

    assert story.news == [[first, second], [], [second]]


def test_a_new_wait_ignores_the_response_to_an_earlier_request() -> None:
    first = wait(0)
    together = schedule(first)
    together.next_request(MADE)
    together.join(wait(1))

    assert together.on_response(running(0), MADE) == [first]


def test_a_wait_gets_no_response_before_its_first_poll_even_if_others_poll() -> None:
    early, late = wait(0), wait(1, not_before=MADE + 30)
    story = Story(schedule(early, late), done(1), done(1), done(1)).go_on(2)

    assert late.ending is None
    story.go_on()
    assert (late.ending, story.times[-1]) == ("ended", 40)


def test_a_single_new_wait_is_polled_when_it_asks_for_it() -> None:
    first = wait(0)
    together = schedule(first)
    together.next_request(MADE)
    together.leave(first)
    together.join(wait(1, not_before=MADE + 9))

    together.on_response(running(0), MADE)
    together.reschedule()

    assert together.delay(MADE) == 20


def test_a_wait_that_has_left_is_not_notified() -> None:
    first, second = wait(0), wait(1)
    together = schedule(first, second)
    together.next_request(MADE)
    together.leave(first)

    assert together.on_response(done(1, 0), MADE) == [second]


def test_an_unreadable_execution_fails_only_its_own_wait() -> None:
    well, ill = wait(0), wait(1, max_poll_outage=30.0)
    answer = log(entry("completed", run_id(1), runQueuedAt="yesterday"), entry("inProgress", run_id(0)))

    story = Story(schedule(well, ill), answer).go_on(4)

    assert (well.ending, ill.ending) == (None, "outage")
    assert "unknown shape" in str(ill.problem)
    assert len(story.hand.calls) == 4


def test_an_unreadable_execution_in_a_full_log_fails_only_its_own_wait() -> None:
    whichever = Target(application_id=APPLICATION, notebook_id=NOTEBOOK, since=MADE)
    anyone = Wait(whichever, WaitConfig(poll_interval=20.0, deadline=MADE + 3_600, max_poll_outage=30.0))
    well = wait(0)
    others = [entry("completed", run_id(number)) for number in range(FIRST_LIMIT + 5, 2, -1)]
    answer = log(
        *others[: FIRST_LIMIT - 2],
        entry("completed", run_id(2), runQueuedAt="yesterday"),
        entry(run=run_id(0)),
    )

    Story(schedule(well, anyone), answer).go_on(4)

    assert (well.ending, anyone.ending) == (None, "outage")
    assert well.execution is not None


# -- when it is due ---------------------------------------------------------------------------------------


def test_the_shortest_poll_interval_is_used() -> None:
    hurried = wait(0, interval=5.0)
    together = schedule(wait(1, interval=60.0), hurried)
    story = Story(together, running(1, 0)).go_on(3)

    together.leave(hurried)
    story.go_on(3)

    assert story.times == pytest.approx([0, 5, 10, 15, 75, 135])


def test_a_new_wait_joins_the_next_shared_poll() -> None:
    together = schedule(wait(0))
    story = Story(together, running(1, 0)).go_on()
    story.hand.now += 7

    together.join(wait(1, not_before=MADE + 12))
    story.go_on(2)

    assert story.times == pytest.approx([0, 20, 40])


@pytest.mark.parametrize(("took", "looks"), [(3.0, [0, 20, 40]), (18.0, [0, 28, 56])])
def test_an_interval_starts_at_the_request_but_a_slow_losant_gets_a_pause(
    took: float, looks: list[float]
) -> None:
    def answer(_: Any) -> ExecutionLog:
        story.hand.now += took
        return running(0)

    story = Story(schedule(wait()), answer)

    assert story.go_on(3).times == pytest.approx(looks)


def test_an_urgent_new_wait_is_polled_at_once() -> None:
    together = schedule(wait(0, interval=60.0))
    story = Story(together, running(1, 0)).go_on()

    together.join(wait(1, interval=2.0))

    assert together.delay(MADE) == pytest.approx(2.0)
    story.go_on(3)
    assert story.times == pytest.approx([0, 2, 4, 6])


@briefly
@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=40))
def test_there_is_one_poll_per_interval_however_many_waits_join(arrivals: list[float]) -> None:
    together = schedule(wait(0))
    story = Story(together, running(*range(41)))
    for number, arrival in enumerate(sorted(arrivals), 1):
        while MADE + arrival > story.hand.now + together.delay(story.hand.now):
            story.go_on()
        story.hand.now = max(story.hand.now, MADE + arrival)
        together.join(wait(number, not_before=MADE + arrival + 20))
    while story.hand.now < MADE + 120:
        story.go_on()

    assert len(story.times) <= 120 / 20 + 2


def test_polls_of_many_notebooks_are_spread_out() -> None:
    intervals = []
    for jitter in (lambda low, _: low, highest):
        story = Story(schedule(wait(), jitter=jitter), running(0)).go_on(2)
        intervals.append(story.times[1])

    assert intervals == pytest.approx([20, 21])


def test_no_poll_comes_earlier_than_requested_except_for_a_deadline() -> None:
    together = schedule()

    for watch, opens_at, pause in [(wait(), 9, 9), (wait(deadline=MADE + 7), 12, 7), (wait(), 4, 4)]:
        together.join(watch, MADE + opens_at)
        assert together.delay(MADE) == pause


def test_a_queued_execution_is_polled_less_and_less_often_up_to_a_maximum() -> None:
    queued = log(entry("queued", run_id(0)))
    story = Story(schedule(wait()), *[queued] * 7, running(0)).go_on(9)

    pauses = [after - before for before, after in zip(story.times, story.times[1:], strict=False)]
    assert pauses == pytest.approx([20, 30, 45, 60, 60, 60, 60, 20])


def test_deadlines_that_pass_together_share_a_poll() -> None:
    waits = [wait(number, deadline=MADE + 10 + number / 100) for number in range(100)]

    story = Story(schedule(*waits), running(*range(100))).go_on(3)

    assert [it.ending for it in waits] == ["deadline"] * 100
    assert story.times == pytest.approx([0, 10, 11])


def test_without_waits_no_poll_is_due() -> None:
    first = wait()
    together = schedule(first)

    Story(together, done(0)).go_on()

    assert together.delay(MADE) == inf


# -- when it fails ----------------------------------------------------------------------------------------


def test_a_failed_poll_counts_once_however_many_waits_share_it() -> None:
    drawn: list[tuple[float, float]] = []

    def jitter(low: float, top: float) -> float:
        drawn.append((low, top))
        return top

    together = schedule(*(wait(number) for number in range(50)), jitter=jitter)
    story = Story(together, GONE).go_on(7)

    assert drawn == [(0.0, pause) for pause in (1, 2, 4, 8, 16, 20, 20)]
    assert story.times == pytest.approx([0, 1, 3, 7, 15, 31, 51])


def test_a_failed_poll_ends_only_the_waits_whose_max_poll_outage_has_passed() -> None:
    short, long = wait(0, max_poll_outage=5.0), wait(1)

    Story(schedule(short, long, jitter=highest), GONE).go_on(4)

    assert (short.ending, long.ending) == ("outage", None)


def test_a_permanent_refusal_ends_all_waits_at_once() -> None:
    waits = [wait(0), wait(1)]

    Story(schedule(*waits), Forbidden(403, "Forbidden", "no")).go_on()

    assert [it.ending for it in waits] == ["refused"] * 2


def test_a_deadline_during_retry_after_ends_its_wait_without_a_poll() -> None:
    brief, patient = wait(0, deadline=MADE + 30), wait(1)
    slow_down = RateLimited(429, "", "slow down", retry_after=120.0)

    story = Story(schedule(brief, patient), slow_down, running(1, 0)).go_on(3)

    assert (brief.ending, patient.ending) == ("deadline", None)
    assert story.times[0] == 0
    assert story.times[1] >= 120


def test_a_new_wait_is_not_polled_before_retry_after() -> None:
    together = schedule(wait(0))
    story = Story(together, RateLimited(429, "", "slow down", retry_after=120.0), running(1, 0)).go_on()

    together.join(wait(1))
    story.go_on()

    assert story.times[1] >= 120


# -- how far it reaches -----------------------------------------------------------------------------------


def paged(*entries: dict[str, Any], most: float = inf) -> Any:
    """Answer as Losant does, with the latest of what there is, and at the most so many at once."""

    def answer(call: Any) -> Any:
        limit = int(call.query["limit"])
        if limit > most:
            return BadRequest(400, "Validation", "limit is too large")
        return log(*entries[:limit])

    return answer


def crowd(count: int) -> list[dict[str, Any]]:
    """Make younger runs of somebody else, newest first."""
    return [entry("completed", run_id(number)) for number in range(count + 100, 100, -1)]


def test_a_log_too_large_for_one_response_is_requested_with_a_lower_limit() -> None:
    def answer(call: Any) -> Any:
        limit = int(call.query["limit"])
        return (
            log(*crowd(1_000)[:limit])
            if limit < 1_000
            else ResponseTooLarge("it has more than there is room for")
        )

    deep = wait(0)
    story = Story(schedule(deep), answer).go_on(4)

    assert [limit for limit, _ in story.windows] == [20, 160, 1280, 640]
    assert deep.demand is not None


def test_a_log_that_is_too_short_is_requested_again_at_once_with_a_higher_limit() -> None:
    deep, shallow = wait(0), wait(400)
    together = schedule(deep, shallow)

    story = Story(together, paged(*crowd(300), entry("inProgress", run_id(0)))).go_on(3)

    assert [limit for limit, _ in story.windows] == [20, 160, 1280]
    assert story.times == [0, 0, 0]
    assert shallow.ending == "ended"
    story.go_on()
    assert story.windows[-1][0] == 1280


def test_an_execution_missing_from_the_longest_log_does_not_raise_every_limit() -> None:
    story = Story(schedule(wait(0)), paged(*crowd(10_000))).go_on(40)

    longest = [limit for limit, _ in story.windows if limit == MAX_LIMIT]
    assert 3 <= len(longest) <= 6
    assert sum(limit for limit, _ in story.windows) / len(story.windows) < MAX_LIMIT / 3


def test_a_refused_limit_is_lowered() -> None:
    waits = [wait(number) for number in range(400)]
    entries = [entry("inProgress", run_id(number)) for number in range(399, -1, -1)]

    story = Story(schedule(*waits), paged(*entries, most=500)).go_on(3)

    assert [limit for limit, _ in story.windows] == [800, 400, 400]
    assert {it.ending for it in waits} == {None}
    assert all(it.execution is not None for it in waits)


def test_the_remaining_waits_keep_the_limit_of_all_waits() -> None:
    waits = [wait(number) for number in range(2_000)]
    states = dict.fromkeys(range(2_000), "inProgress")
    together = schedule(*waits)

    def answer(call: Any) -> Any:
        entries = [entry(states[number], run_id(number)) for number in range(1_999, -1, -1)]
        return log(*entries[: int(call.query["limit"])])

    story = Story(together, answer).go_on()
    for number in range(1_900):  # the younger ones end first; the oldest are the last in the log
        states[1_999 - number] = "completed"
    story.go_on()
    for watch in story.ended:
        together.leave(watch)
    story.go_on(3)

    assert len(story.ended) == 1_900
    assert len(story.windows) == 5
    assert not any(watch.drain_logs() for watch in waits[:100])


def test_a_refusal_not_caused_by_the_limit_ends_the_wait() -> None:
    first = wait()
    waits = [first, *(wait(number) for number in range(1, 100))]

    story = Story(schedule(*waits), BadRequest(400, "Validation", "no")).go_on(5)

    assert {it.ending for it in waits} == {"refused"}
    assert [limit for limit, _ in story.windows][-1] <= FIRST_LIMIT
    assert len(story.windows) <= 5


@briefly
@given(st.data())
def test_no_sequence_of_responses_and_failures_loses_a_wait(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    waits = [wait(number, deadline=MADE + 3_600) for number in range(count)]
    together = schedule(*waits)
    faults: tuple[LosantError, ...] = (
        GONE,
        ServerError(503, "", "no"),
        RateLimited(429, "", "", retry_after=3),
    )
    ends = [data.draw(st.integers(0, 400)) for _ in waits]

    def answer(_: Any) -> Any:
        if data.draw(st.booleans()):
            return data.draw(st.sampled_from(faults))
        now = story.hand.now - MADE
        states = ["completed" if now >= end else "inProgress" for end in ends]
        return log(*(entry(state, run_id(number)) for number, state in enumerate(states)))

    story = Story(together, answer)
    for _ in range(400):
        if together.delay(story.hand.now) == inf:
            break
        story.go_on()

    assert {it.ending for it in waits} <= {"ended", "outage"}
    assert all(it.ending is not None for it in waits)
    assert sorted(map(id, story.ended)) == sorted(map(id, waits))
