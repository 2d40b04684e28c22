# SPDX-License-Identifier: Apache-2.0
"""A wait for an execution that does not exist ends, but only after a complete log has shown it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import BadRequest, ResponseTooLarge, TransportError
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once, wait_for_execution
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.timestamps import DAY
from tests.support.factories import CREATED_AT, EXECUTION_ID, REF, entry, execution, execution_id_at, iso
from tests.unit.api.flow_driver import FlowDriver, mean_delay

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.outcome import Outcome

LAG = 60.0
CONFIG = WaitConfig(
    poll_interval=20.0, deadline=CREATED_AT + 3_600, max_poll_outage=7_200.0, not_found_after=LAG
)
POKE = replace(CONFIG, deadline=0.0)
OTHERS = [execution("completed", execution_id_at(number)) for number in (9, 5, 2)]
DONE = execution("completed", outputsCompletedAt=iso(CREATED_AT + 60))
OLD = execution("completed", execution_id_at(-int(DAY) - 1_000))


def outcome_of(driver: FlowDriver, config: WaitConfig = CONFIG) -> Outcome:
    options: Any = {"clock": driver.clock, "jitter": mean_delay}
    return driver.drive(wait_for_execution(Target.of(REF), config, **options))


def driver(*responses: Any, age: float = 1_000.0) -> FlowDriver:
    return FlowDriver(responses, now=CREATED_AT + age)


def sinces(one: FlowDriver) -> list[bool]:
    """Return of each request whether it had a ``since``."""
    return ["since" in call.query for call in one.calls]


@pytest.mark.parametrize("listed", [OTHERS, [], [*OTHERS, OLD]], ids=["others", "empty", "older ones"])
def test_the_wait_ends_once_the_complete_log_does_not_list_the_execution(listed: Any) -> None:
    one = driver(listed)

    outcome = outcome_of(one)

    assert (outcome.ending, outcome.is_success, outcome.may_be_active) == ("not_found", False, False)
    assert outcome.problem == "the complete execution log of the notebook does not list it"
    assert outcome.result["execution_id"] == EXECUTION_ID
    assert sinces(one) == [True, True, False]


@pytest.mark.parametrize("listed", [OTHERS, []], ids=["others", "empty"])
def test_a_single_poll_of_an_unlisted_execution_is_followed_by_one_of_the_whole_log(listed: Any) -> None:
    one = driver(listed)

    assert outcome_of(one, POKE).ending == "not_found"
    assert sinces(one) == [True, False]
    assert set(one.sleeps) == {0.0}


def test_a_clock_that_is_set_back_at_the_deadline_does_not_cause_requests_without_a_pause() -> None:
    def set_back(_: object) -> ExecutionLog:
        one.now = CREATED_AT + 500
        return ExecutionLog([{"id": 7}])  # which does not show that the execution does not exist

    one = driver([], set_back, lambda _: ExecutionLog([{"id": 7}]))

    assert outcome_of(one, replace(CONFIG, deadline=CREATED_AT + 1_000)).ending == "deadline"
    assert len(one.calls) < 40


def test_an_execution_that_only_the_whole_log_lists_is_found_by_a_single_poll() -> None:
    one = driver([], [DONE])

    outcome = outcome_of(one, POKE)

    assert (outcome.ending, outcome.is_success) == ("ended", True)


def test_a_single_poll_that_finds_the_execution_active_is_the_only_one() -> None:
    one = driver([execution("inProgress")])

    assert outcome_of(one, POKE).ending == "deadline"
    assert len(one.calls) == 1


@pytest.mark.parametrize("config", [CONFIG, POKE], ids=["wait", "single poll"])
def test_a_wait_without_the_setting_never_ends_because_of_an_unlisted_execution(config: WaitConfig) -> None:
    one = driver(OTHERS)

    assert outcome_of(one, replace(config, not_found_after=None)).ending == "deadline"


def test_the_execution_may_be_unlisted_for_a_while_after_it_was_submitted() -> None:
    one = driver(*[OTHERS] * 5, [DONE], age=0.0)

    assert outcome_of(one, replace(CONFIG, not_found_after=200.0)).ending == "ended"
    young = driver(OTHERS, age=LAG - 1)
    assert outcome_of(young, POKE).ending == "deadline"
    assert len(young.calls) == 1


def test_an_execution_that_was_listed_before_may_disappear() -> None:
    one = driver([execution("inProgress")], *[OTHERS] * 20, [DONE])

    assert outcome_of(one).ending == "ended"


# -- logs that may hide the execution ---------------------------------------------------------------------


def cut(entries: list[Any], most: int) -> Any:
    """Return a response that has at most so many entries, whatever the limit."""
    return lambda call: entries[: min(most, int(call.query["limit"]))]


MANY = [execution("completed", execution_id_at(second)) for second in range(3_000, 0, -1)]


@pytest.mark.parametrize("config", [CONFIG, POKE], ids=["wait", "single poll"])
@pytest.mark.parametrize("most", [20, 50, 100, 1_000], ids=str)
def test_a_log_that_losant_cuts_never_ends_the_wait(config: WaitConfig, most: int) -> None:
    assert outcome_of(driver(cut(MANY, most)), config).ending == "deadline"


@pytest.mark.parametrize("config", [CONFIG, POKE], ids=["wait", "single poll"])
def test_a_cut_log_that_reaches_back_a_day_further_ends_the_wait(config: WaitConfig) -> None:
    older = [execution("completed", execution_id_at(-int(DAY) - second)) for second in range(1, 2_000)]

    assert outcome_of(driver(cut([*OTHERS, *older], 100)), config).ending == "not_found"


@pytest.mark.parametrize("config", [CONFIG, POKE], ids=["wait", "single poll"])
def test_a_long_log_is_read_to_its_end(config: WaitConfig) -> None:
    one = driver(cut(MANY, 10**6))

    assert outcome_of(one, config).ending == "not_found"
    assert int(one.calls[-1].query["limit"]) > len(MANY)


@pytest.mark.parametrize(
    "odd", [{"id": 7}, {"status": "completed"}, "text", None], ids=["number", "none", "text", "null"]
)
def test_a_log_with_an_entry_without_an_id_does_not_end_the_wait(odd: Any) -> None:
    one = driver(lambda _: ExecutionLog([it.raw for it in OTHERS] + [odd]))

    assert outcome_of(one).ending == "deadline"


def test_an_entry_of_an_unknown_shape_is_not_missing() -> None:
    unreadable = entry("completed", EXECUTION_ID, outputInfo="none")

    assert outcome_of(driver(lambda _: ExecutionLog([unreadable])), POKE).ending == "deadline"


@pytest.mark.parametrize("error", [TransportError("lost"), ResponseTooLarge("too large")], ids=str)
def test_a_failed_poll_of_the_whole_log_does_not_end_the_wait(error: Exception) -> None:
    assert outcome_of(driver(OTHERS, error), POKE).ending == "deadline"
    assert outcome_of(driver(OTHERS, OTHERS, error, OTHERS, OTHERS)).ending == "not_found"


def test_a_refused_limit_does_not_hide_the_execution() -> None:
    def response(call: Any) -> Any:
        if int(call.query["limit"]) > 100:
            return BadRequest(400, "Validation", "limit is too large")
        return cut(MANY, 100)(call)

    assert outcome_of(driver(response), POKE).ending == "deadline"


def test_waits_for_one_notebook_share_the_poll_of_the_whole_log() -> None:
    unknown = [Target.of(replace(REF, execution_id=execution_id_at(number))) for number in (101, 102)]
    waits = [Wait(it, CONFIG) for it in (*unknown, Target.of(REF))]
    schedule = PollSchedule(REF.application_id, REF.notebook_id, mean_delay)
    for wait in waits:
        schedule.join(wait)
    one = driver([execution("inProgress")])

    while any(it.ending is None for it in waits[:2]):
        one.now += schedule.delay(one.now)
        one.drive(poll_once(schedule, one.clock))

    assert sinces(one) == [True, True, False]
    assert [it.ending for it in waits] == ["not_found", "not_found", None]
