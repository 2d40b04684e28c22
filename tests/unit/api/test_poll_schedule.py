# SPDX-License-Identifier: Apache-2.0
"""One request for all waits for a notebook: its ``since``, ``limit`` and time, and the waits it notifies."""

from __future__ import annotations

from math import inf
from typing import Any, cast

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
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.log_reader import FIRST_LIMIT, MAX_LIMIT, SINCE_MARGIN
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    NOTEBOOK_ID,
    entry,
    execution_id_at,
    few_examples,
)
from tests.unit.api.flow_driver import FlowDriver, maximum, mean_delay

GONE = TransportError("connection lost")


def wait(number: int = 0, *, interval: float = 20.0, not_before: float = 0.0, **more: float) -> Wait:
    """Make a wait for the execution that was created ``number`` seconds after the first one."""
    target = Target(
        application_id=APPLICATION_ID,
        notebook_id=NOTEBOOK_ID,
        execution_id=execution_id_at(number),
        since=CREATED_AT + number,
    )
    given = {"deadline": CREATED_AT + 86_400, "max_poll_outage": 600.0, **more}
    return Wait(target, WaitConfig(poll_interval=interval, **given), not_before=not_before)


def make_schedule(*waits: Wait, **more: Any) -> PollSchedule:
    schedule = PollSchedule(APPLICATION_ID, NOTEBOOK_ID, **{"jitter": mean_delay, **more})
    for one_wait in waits:
        schedule.join(one_wait)
    return schedule


def log(*entries: Any) -> ExecutionLog:
    return ExecutionLog(entries)


def running(*numbers: int) -> ExecutionLog:
    return log(*(entry("inProgress", execution_id_at(it)) for it in numbers))


def done(*numbers: int) -> ExecutionLog:
    return log(*(entry("completed", execution_id_at(it)) for it in numbers))


class PollRun:
    """Poll repeatedly, as the shared poll does; each response belongs to one request."""

    def __init__(self, schedule: PollSchedule, *responses: Any) -> None:
        self.schedule = schedule
        self.driver = FlowDriver(responses, now=CREATED_AT)
        self.notified: list[list[Wait]] = []
        self.ended: list[Wait] = []

    def poll(self, count: int = 1) -> PollRun:
        """Poll ``count`` times, also if a poll sends no request."""
        for _ in range(count):
            self.driver.now += self.schedule.delay(self.driver.now)
            notified = cast("list[Wait]", self.driver.drive(poll_once(self.schedule, self.driver.clock)))
            self.notified.append(notified)
            self.ended += [one_wait for one_wait in notified if one_wait.ending is not None]
            for one_wait in notified:
                one_wait.drain_logs()
        return self

    @property
    def windows(self) -> list[tuple[int, float]]:
        return [(int(it.query["limit"]), int(it.query.get("since", 0)) / 1000) for it in self.driver.calls]

    @property
    def poll_times(self) -> list[float]:
        return [at - CREATED_AT for at in self.driver.request_times]


# -- one request for all waits ----------------------------------------------------------------------------


def test_one_response_is_delivered_to_all_waits() -> None:
    waits = [wait(number) for number in range(3)]

    polls = PollRun(make_schedule(*waits), done(2, 1, 0)).poll()

    assert [it.ending for it in waits] == ["ended"] * 3
    assert polls.notified == [waits]
    assert len(polls.driver.calls) == 1


def test_since_covers_the_oldest_wait_and_limit_the_number_of_waits() -> None:
    waits = [wait(number) for number in range(5, 55)]

    polls = PollRun(make_schedule(*waits), running()).poll()

    assert polls.windows == [(100, CREATED_AT + 5 - SINCE_MARGIN)]


def test_since_is_no_earlier_than_the_remaining_waits_require() -> None:
    old, young = wait(0), wait(900)
    schedule = make_schedule(old, young)
    polls = PollRun(schedule, running(900, 0)).poll()

    schedule.leave(old)
    polls.poll()

    assert [since for _, since in polls.windows] == [
        CREATED_AT - SINCE_MARGIN,
        CREATED_AT + 900 - SINCE_MARGIN,
    ]


def test_a_wait_without_a_change_is_not_notified() -> None:
    first, second = wait(0), wait(1)
    schedule = make_schedule(first, second)

    ended = log(entry("completed", execution_id_at(1)), entry("inProgress", execution_id_at(0)))
    polls = PollRun(schedule, running(1, 0), running(1, 0), ended).poll(3)

    assert polls.notified == [[first, second], [], [second]]


def test_a_new_wait_ignores_the_response_to_an_earlier_request() -> None:
    first = wait(0)
    schedule = make_schedule(first)
    schedule.next_request(CREATED_AT)
    schedule.join(wait(1))

    assert schedule.on_response(running(0), CREATED_AT) == [first]


def test_a_wait_gets_no_response_before_its_first_poll_even_if_others_poll() -> None:
    early, late = wait(0), wait(1, not_before=CREATED_AT + 30)
    polls = PollRun(make_schedule(early, late), done(1), done(1), done(1)).poll(2)

    assert late.ending is None
    polls.poll()
    assert (late.ending, polls.poll_times[-1]) == ("ended", 40)  # type: ignore[comparison-overlap]  # no longer None


def test_a_single_new_wait_is_polled_when_it_asks_for_it() -> None:
    first = wait(0)
    schedule = make_schedule(first)
    schedule.next_request(CREATED_AT)
    schedule.leave(first)
    schedule.join(wait(1, not_before=CREATED_AT + 9))

    schedule.on_response(running(0), CREATED_AT)
    schedule.reschedule()

    assert schedule.delay(CREATED_AT) == 20


def test_a_wait_that_has_left_is_not_notified() -> None:
    first, second = wait(0), wait(1)
    schedule = make_schedule(first, second)
    schedule.next_request(CREATED_AT)
    schedule.leave(first)

    assert schedule.on_response(done(1, 0), CREATED_AT) == [second]


def test_an_unreadable_execution_fails_only_its_own_wait() -> None:
    healthy, unreadable = wait(0), wait(1, max_poll_outage=30.0)
    response = log(
        entry("completed", execution_id_at(1), runQueuedAt="yesterday"),
        entry("inProgress", execution_id_at(0)),
    )

    polls = PollRun(make_schedule(healthy, unreadable), response).poll(4)

    assert (healthy.ending, unreadable.ending) == (None, "outage")
    assert "unknown shape" in str(unreadable.problem)
    assert len(polls.driver.calls) == 4


def test_an_unreadable_execution_has_no_effect_on_a_wait_for_any_execution() -> None:
    any_execution = Target(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, since=CREATED_AT)
    wait_for_any = Wait(
        any_execution, WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 3_600, max_poll_outage=30.0)
    )
    others = [entry("inProgress", execution_id_at(number)) for number in range(FIRST_LIMIT + 5, 2, -1)]
    odd = [entry("completed", execution_id_at(2), runQueuedAt="yesterday"), {"status": "completed"}]
    ended = entry("completed", execution_id_at(1))

    polls = PollRun(make_schedule(wait_for_any), log(*others, *odd), log(*others, *odd, ended)).poll(2)

    assert len(polls.driver.calls) == 2
    assert wait_for_any.ending == "ended"
    assert wait_for_any.execution is not None
    assert wait_for_any.execution.ref.execution_id == execution_id_at(1)


def test_an_unreadable_execution_is_logged_once() -> None:
    any_execution = Target(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, since=CREATED_AT)
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 3_600, max_poll_outage=30.0)
    wait_for_any = Wait(any_execution, config)
    response = log(entry("errored", execution_id_at(2), executionErrors=["boom"]), {"status": "completed"}, 7)

    lines = []
    for _ in range(3):
        wait_for_any.on_response(response, CREATED_AT)
        lines += [line.text for line in wait_for_any.drain_logs()]

    assert len(lines) == 2
    assert f"Ignoring execution {execution_id_at(2)} of notebook {NOTEBOOK_ID}" in lines[1]
    assert wait_for_any.ending is None


# -- when it is due ---------------------------------------------------------------------------------------


def test_the_shortest_poll_interval_is_used() -> None:
    frequent = wait(0, interval=5.0)
    schedule = make_schedule(wait(1, interval=60.0), frequent)
    polls = PollRun(schedule, running(1, 0)).poll(3)

    schedule.leave(frequent)
    polls.poll(3)

    assert polls.poll_times == pytest.approx([0, 5, 10, 15, 75, 135])


def test_a_new_wait_joins_the_next_shared_poll() -> None:
    schedule = make_schedule(wait(0))
    polls = PollRun(schedule, running(1, 0)).poll()
    polls.driver.now += 7

    schedule.join(wait(1, not_before=CREATED_AT + 12))
    polls.poll(2)

    assert polls.poll_times == pytest.approx([0, 20, 40])


@pytest.mark.parametrize(("duration", "polls_at"), [(3.0, [0, 20, 40]), (18.0, [0, 28, 56])])
def test_an_interval_starts_at_the_request_but_a_slow_losant_gets_a_pause(
    duration: float, polls_at: list[float]
) -> None:
    def respond(_: Any) -> ExecutionLog:
        polls.driver.now += duration
        return running(0)

    polls = PollRun(make_schedule(wait()), respond)

    assert polls.poll(3).poll_times == pytest.approx(polls_at)


def test_an_urgent_new_wait_is_polled_at_once() -> None:
    schedule = make_schedule(wait(0, interval=60.0))
    polls = PollRun(schedule, running(1, 0)).poll()

    schedule.join(wait(1, interval=2.0))

    assert schedule.delay(CREATED_AT) == pytest.approx(2.0)
    polls.poll(3)
    assert polls.poll_times == pytest.approx([0, 2, 4, 6])


@few_examples
@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=40))
def test_there_is_one_poll_per_interval_however_many_waits_join(arrivals: list[float]) -> None:
    schedule = make_schedule(wait(0))
    polls = PollRun(schedule, running(*range(41)))
    for number, arrival in enumerate(sorted(arrivals), 1):
        while CREATED_AT + arrival > polls.driver.now + schedule.delay(polls.driver.now):
            polls.poll()
        polls.driver.now = max(polls.driver.now, CREATED_AT + arrival)
        schedule.join(wait(number, not_before=CREATED_AT + arrival + 20))
    while polls.driver.now < CREATED_AT + 120:
        polls.poll()

    assert len(polls.poll_times) <= 120 / 20 + 2


def test_polls_of_many_notebooks_are_spread_out() -> None:
    intervals = []
    for jitter in (lambda low, _: low, maximum):
        polls = PollRun(make_schedule(wait(), jitter=jitter), running(0)).poll(2)
        intervals.append(polls.poll_times[1])

    assert intervals == pytest.approx([20, 21])


def test_no_poll_comes_earlier_than_requested_except_for_a_deadline() -> None:
    schedule = make_schedule()

    for one_wait, opens_at, pause in [(wait(), 9, 9), (wait(deadline=CREATED_AT + 7), 12, 7), (wait(), 4, 4)]:
        schedule.join(one_wait, CREATED_AT, opens_at)
        assert schedule.delay(CREATED_AT) == pause


def test_a_queued_execution_is_polled_less_and_less_often_up_to_a_maximum() -> None:
    queued = log(entry("queued", execution_id_at(0)))
    polls = PollRun(make_schedule(wait()), *[queued] * 7, running(0)).poll(9)

    pauses = [after - before for before, after in zip(polls.poll_times, polls.poll_times[1:], strict=False)]
    assert pauses == pytest.approx([20, 30, 45, 60, 60, 60, 60, 20])


def test_deadlines_that_pass_together_share_a_poll() -> None:
    waits = [wait(number, deadline=CREATED_AT + 10 + number / 100) for number in range(100)]

    polls = PollRun(make_schedule(*waits), running(*range(100))).poll(3)

    assert [it.ending for it in waits] == ["deadline"] * 100
    assert polls.poll_times == pytest.approx([0, 10, 11])


def test_without_waits_no_poll_is_due() -> None:
    first = wait()
    schedule = make_schedule(first)

    PollRun(schedule, done(0)).poll()

    assert schedule.delay(CREATED_AT) == inf


@pytest.mark.parametrize("back", [2.0, 3_600.0, 1e9])
@pytest.mark.parametrize("response", [running(1, 0), GONE, ServerError(503, "", "busy")])
def test_no_poll_is_later_when_the_wall_clock_is_set_back(back: float, response: Any) -> None:
    schedule = make_schedule(wait(0), wait(1, interval=60.0), jitter=maximum)
    polls = PollRun(schedule, response).poll(2)

    polls.driver.now -= back
    delays = []
    for new in range(3):
        schedule.join(wait(2 + new, not_before=polls.driver.now + 5), polls.driver.now)
        delays.append(schedule.delay(polls.driver.now))
        polls.poll()

    assert max(delays) <= 20 * 1.05
    assert len(polls.poll_times) == 5


def test_a_clock_set_back_before_the_first_poll_of_a_wait_does_not_delay_that() -> None:
    schedule = make_schedule(wait(0, not_before=CREATED_AT + 20), jitter=maximum)
    polls = PollRun(schedule, done(0))
    assert schedule.delay(CREATED_AT) == 20

    polls.driver.now -= 3_600

    assert schedule.delay(polls.driver.now) == 20
    assert [it.ending for it in polls.poll().ended] == ["ended"]


def test_retry_after_and_then_a_clock_that_is_set_back_delay_no_poll_by_the_difference() -> None:
    schedule = make_schedule(wait(0), jitter=maximum)
    slow_down = RateLimited(429, "", "slow down", retry_after=120.0)
    polls = PollRun(schedule, slow_down, running(0)).poll()

    polls.driver.now -= 3_600

    assert schedule.delay(polls.driver.now) <= 120 + 20
    assert schedule.is_rate_limited(polls.driver.now)
    polls.poll(2)
    assert not schedule.is_rate_limited(polls.driver.now)
    assert schedule.delay(polls.driver.now) <= 20 * 1.05


def test_a_deadline_follows_the_wall_clock_also_when_it_is_set_back() -> None:
    brief = wait(0, deadline=CREATED_AT + 100)
    polls = PollRun(make_schedule(brief), running(0)).poll()

    polls.driver.now -= 3_600
    while brief.ending is None:
        polls.poll()

    assert (brief.ending, polls.driver.now) == ("deadline", CREATED_AT + 100)


# -- when it fails ----------------------------------------------------------------------------------------


def test_a_failed_poll_counts_once_however_many_waits_share_it() -> None:
    drawn: list[tuple[float, float]] = []

    def jitter(low: float, top: float) -> float:
        drawn.append((low, top))
        return top

    schedule = make_schedule(*(wait(number) for number in range(50)), jitter=jitter)
    polls = PollRun(schedule, GONE).poll(7)

    assert drawn == [(0.0, pause) for pause in (1, 2, 4, 8, 16, 20, 20)]
    assert polls.poll_times == pytest.approx([0, 1, 3, 7, 15, 31, 51])


def test_a_failed_poll_ends_only_the_waits_whose_max_poll_outage_has_passed() -> None:
    short, long = wait(0, max_poll_outage=5.0), wait(1)

    PollRun(make_schedule(short, long, jitter=maximum), GONE).poll(4)

    assert (short.ending, long.ending) == ("outage", None)


def test_a_permanent_refusal_ends_all_waits_at_once() -> None:
    waits = [wait(0), wait(1)]

    PollRun(make_schedule(*waits), Forbidden(403, "Forbidden", "no")).poll()

    assert [it.ending for it in waits] == ["refused"] * 2


def test_a_deadline_during_retry_after_ends_its_wait_without_a_poll() -> None:
    brief, patient = wait(0, deadline=CREATED_AT + 30), wait(1)
    slow_down = RateLimited(429, "", "slow down", retry_after=120.0)

    polls = PollRun(make_schedule(brief, patient), slow_down, running(1, 0)).poll(3)

    assert (brief.ending, patient.ending) == ("deadline", None)
    assert polls.poll_times[0] == 0
    assert polls.poll_times[1] >= 120


def test_a_deadline_during_a_long_retry_after_ends_no_other_wait() -> None:
    brief, *others = waits = [wait(0, deadline=CREATED_AT + 700), wait(1), wait(2)]
    slow_down = RateLimited(429, "", "slow down", retry_after=900.0)

    polls = PollRun(make_schedule(*waits), slow_down, running(2, 1)).poll(3)

    assert [it.ending for it in waits] == ["deadline", None, None]
    assert polls.ended == [brief]
    assert polls.poll_times == [0, pytest.approx(900, abs=1)]
    assert all(it.execution for it in others)


def test_the_time_of_retry_after_is_no_outage_for_the_failures_before_and_after_it() -> None:
    short, long = wait(0, max_poll_outage=100.0), wait(1, max_poll_outage=600.0)
    slow_down = RateLimited(429, "", "slow down", retry_after=900.0)
    schedule = make_schedule(short, long, jitter=maximum)

    # 7 s before the refusal, and up to 600 s after it.
    polls = PollRun(schedule, GONE, GONE, GONE, slow_down, GONE).poll(12)

    assert (short.ending, long.ending) == ("outage", None)
    assert 900 + 100 < polls.driver.now - CREATED_AT < 900 + 600
    while long.ending is None:
        polls.poll()
    assert long.ending == "outage"
    assert polls.driver.now - CREATED_AT == pytest.approx(900 + 600, abs=20)


def test_a_new_wait_is_not_polled_before_retry_after() -> None:
    schedule = make_schedule(wait(0))
    polls = PollRun(schedule, RateLimited(429, "", "slow down", retry_after=120.0), running(1, 0)).poll()

    schedule.join(wait(1))
    polls.poll()

    assert polls.poll_times[1] >= 120


# -- the window of the log --------------------------------------------------------------------------------


def paged(*entries: dict[str, Any], max_limit: float = inf) -> Any:
    """Respond as Losant does: the newest entries up to ``limit``, which must not exceed ``max_limit``."""

    def respond(call: Any) -> Any:
        limit = int(call.query["limit"])
        if limit > max_limit:
            return BadRequest(400, "Validation", "limit is too large")
        return log(*entries[:limit])

    return respond


def newer_entries(count: int) -> list[dict[str, Any]]:
    """Make newer executions that no wait is for, newest first."""
    return [entry("completed", execution_id_at(number)) for number in range(count + 100, 100, -1)]


def test_a_log_too_large_for_one_response_is_requested_with_a_lower_limit() -> None:
    def respond(call: Any) -> Any:
        limit = int(call.query["limit"])
        return (
            log(*newer_entries(1_000)[:limit])
            if limit < 1_000
            else ResponseTooLarge("it has more than there is room for")
        )

    deep = wait(0)
    polls = PollRun(make_schedule(deep), respond).poll(5)

    assert [limit for limit, _ in polls.windows] == [20, 160, 1280, 1000, 500]
    assert deep.demand is not None


def test_a_log_that_is_too_short_is_requested_again_at_once_with_a_higher_limit() -> None:
    deep, shallow = wait(0), wait(400)
    schedule = make_schedule(deep, shallow)

    polls = PollRun(schedule, paged(*newer_entries(300), entry("inProgress", execution_id_at(0)))).poll(3)

    assert [limit for limit, _ in polls.windows] == [20, 160, 1280]
    assert polls.poll_times == [0, 0, 0]
    assert shallow.ending == "ended"
    polls.poll()
    assert polls.windows[-1][0] == 1280


def test_an_execution_missing_from_the_longest_log_does_not_raise_every_limit() -> None:
    polls = PollRun(make_schedule(wait(0)), paged(*newer_entries(10_000))).poll(40)

    longest = [limit for limit, _ in polls.windows if limit == MAX_LIMIT]
    assert 3 <= len(longest) <= 6
    assert sum(limit for limit, _ in polls.windows) / len(polls.windows) < MAX_LIMIT / 3


def test_a_refused_limit_is_lowered() -> None:
    waits = [wait(number) for number in range(400)]
    entries = [entry("inProgress", execution_id_at(number)) for number in range(399, -1, -1)]

    polls = PollRun(make_schedule(*waits), paged(*entries, max_limit=500)).poll(3)

    assert [limit for limit, _ in polls.windows] == [800, 500, 500]
    assert {it.ending for it in waits} == {None}
    assert all(it.execution is not None for it in waits)


def test_the_remaining_waits_keep_the_limit_of_all_waits() -> None:
    waits = [wait(number) for number in range(2_000)]
    states = dict.fromkeys(range(2_000), "inProgress")
    schedule = make_schedule(*waits)

    def respond(call: Any) -> Any:
        entries = [entry(states[number], execution_id_at(number)) for number in range(1_999, -1, -1)]
        return log(*entries[: int(call.query["limit"])])

    polls = PollRun(schedule, respond).poll()
    for number in range(1_900):  # the newer ones end first; the oldest are the last in the log
        states[1_999 - number] = "completed"
    polls.poll()
    for one_wait in polls.ended:
        schedule.leave(one_wait)
    polls.poll(3)

    assert len(polls.ended) == 1_900
    assert len(polls.windows) == 5
    assert not any(one_wait.drain_logs() for one_wait in waits[:100])


def test_a_refusal_not_caused_by_the_limit_ends_the_wait() -> None:
    first = wait()
    waits = [first, *(wait(number) for number in range(1, 100))]

    polls = PollRun(make_schedule(*waits), BadRequest(400, "Validation", "no")).poll(4)

    assert {it.ending for it in waits} == {"refused"}
    assert [limit for limit, _ in polls.windows] == [200, 100, 50, FIRST_LIMIT]


@few_examples
@given(st.data())
def test_no_sequence_of_responses_and_failures_loses_a_wait(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    waits = [wait(number, deadline=CREATED_AT + 3_600) for number in range(count)]
    schedule = make_schedule(*waits)
    faults: tuple[LosantError, ...] = (
        GONE,
        ServerError(503, "", "no"),
        RateLimited(429, "", "", retry_after=3),
    )
    ends = [data.draw(st.integers(0, 400)) for _ in waits]

    def respond(_: Any) -> Any:
        if data.draw(st.booleans()):
            return data.draw(st.sampled_from(faults))
        now = polls.driver.now - CREATED_AT
        states = ["completed" if now >= end else "inProgress" for end in ends]
        return log(*(entry(state, execution_id_at(number)) for number, state in enumerate(states)))

    polls = PollRun(schedule, respond)
    for _ in range(400):
        if schedule.delay(polls.driver.now) == inf:
            break
        polls.poll()

    assert {it.ending for it in waits} <= {"ended", "outage"}
    assert all(it.ending is not None for it in waits)
    assert sorted(map(id, polls.ended)) == sorted(map(id, waits))
