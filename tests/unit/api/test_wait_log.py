# SPDX-License-Identifier: Apache-2.0
"""What a wait writes into the task log while nothing changes, and after an outage."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_losant.api.errors import ProtocolError, RateLimited, ServerError, TransportError
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.polling import wait_for_execution
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.timestamps import format_elapsed
from tests.support.factories import APPLICATION_ID, CREATED_AT, EXECUTION_ID, NOTEBOOK_ID, REF, execution, iso
from tests.unit.api.flow_driver import FlowDriver, mean_delay

HOUR = 3_600.0
NAME = f"execution {EXECUTION_ID} of notebook {NOTEBOOK_ID}"
LOST = TransportError("connection lost")
RUNNING = [execution("inProgress", runStartedAt=iso(CREATED_AT + 1), inputsCompletedAt=iso(CREATED_AT + 2))]
DONE = [execution("completed", outputsCompletedAt=iso(CREATED_AT + 60))]


def drive(*responses: Any, hours: float = 6, target: Target | None = None, **config: float) -> FlowDriver:
    driver = FlowDriver(responses, now=CREATED_AT)
    settings = {"poll_interval": 20.0, "deadline": CREATED_AT + hours * HOUR, "max_poll_outage": 600.0}
    driver.drive(
        wait_for_execution(
            target or Target.of(REF),
            WaitConfig(**settings | config),
            clock=driver.clock,
            jitter=mean_delay,
        )
    )
    return driver


def lines_with(driver: FlowDriver, text: str) -> list[str]:
    return [line.text for line in driver.log_lines if text in line.text]


# -- after an outage --------------------------------------------------------------------------------------


def test_the_end_of_an_outage_is_logged_once_with_its_duration() -> None:
    driver = drive(RUNNING, LOST, LOST, LOST, RUNNING, RUNNING, DONE)

    first, again = driver.request_times[1], driver.request_times[4]
    assert lines_with(driver, "again") == [
        f"Losant responds again after {format_elapsed(again - first)} (polling the {NAME})"
    ]
    assert again > first


def test_the_duration_includes_the_time_in_which_losant_forbids_requests() -> None:
    """An outage, then a rate limit, then a response: one line for all of it."""
    limit = RateLimited(429, "", "slow down", retry_after=300.0)
    driver = drive(RUNNING, LOST, ServerError(503, "", "no message"), limit, RUNNING, DONE)

    first, again = driver.request_times[1], driver.request_times[4]
    assert again - first > 300
    assert lines_with(driver, "again") == [
        f"Losant responds again after {format_elapsed(again - first)} (polling the {NAME})"
    ]


def test_each_outage_is_logged_for_itself() -> None:
    assert len(lines_with(drive(LOST, RUNNING, LOST, LOST, DONE), "responds again")) == 2


def test_nothing_is_logged_about_outages_without_one() -> None:
    assert lines_with(drive(RUNNING, RUNNING, DONE), "again") == []


def test_a_log_that_does_not_list_the_execution_yet_is_no_outage() -> None:
    assert lines_with(drive([], [], RUNNING, DONE), "again") == []


def test_losant_responds_again_even_if_the_log_does_not_list_the_execution() -> None:
    driver = drive(LOST, [], [], RUNNING, DONE)

    assert [line.text.partition(" after")[0] for line in driver.log_lines][:2] == [
        f"Polling the {NAME} failed: connection lost",
        "Losant responds again",
    ]


def test_an_unreadable_response_is_not_the_end_of_an_outage() -> None:
    driver = drive(LOST, ProtocolError("cut short"), RUNNING, DONE)

    (line,) = lines_with(driver, "responds again")
    assert format_elapsed(driver.request_times[2] - driver.request_times[0]) in line


def test_an_outage_that_the_wait_does_not_survive_has_no_end() -> None:
    assert lines_with(drive(RUNNING, LOST), "again") == []


def test_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    wait = Wait(Target.of(REF), WaitConfig(poll_interval=20.0, deadline=CREATED_AT + HOUR, max_poll_outage=9))
    wait.on_error(LOST, CREATED_AT + 100)

    wait.on_response(ExecutionLog([RUNNING[0].raw]), CREATED_AT + 50)

    assert any("responds again after 0 s" in line.text for line in wait.drain_logs())


# -- every hour -------------------------------------------------------------------------------------------


def test_a_wait_that_continues_is_logged_every_hour_with_what_ends_it() -> None:
    driver = drive(RUNNING, hours=3.5)

    end = iso(CREATED_AT + 3.5 * HOUR)
    assert lines_with(driver, "still") == [
        f"After {hours} h, the {NAME} is still inProgress: running the notebook; "
        f"the wait ends at {end} (timeout) at the latest"
        for hours in (1, 2, 3)
    ]
    assert all(line.level == logging.INFO for line in driver.log_lines)


def test_the_hourly_line_needs_no_request() -> None:
    longer, shorter = drive(RUNNING, hours=3), drive(RUNNING, hours=0.5)

    assert lines_with(longer, "still")
    assert not lines_with(shorter, "still")
    assert set(longer.operations()) == set(shorter.operations())
    assert len(longer.calls) == 6 * len(shorter.calls) - 5


def test_a_seldom_poll_logs_once_and_not_for_each_hour_in_between() -> None:
    driver = drive(RUNNING, hours=8, poll_interval=2.5 * HOUR)

    assert [it.partition(",")[0] for it in lines_with(driver, "still")] == [
        "After 2 h",
        "After 5 h",
        "After 7 h",
    ]


def test_during_an_outage_the_line_says_when_that_ends_the_wait() -> None:
    driver = drive(
        RUNNING, *[LOST] * 40, RUNNING, DONE, hours=24, poll_interval=300.0, max_poll_outage=5 * HOUR
    )

    end = iso(driver.request_times[1] + 5 * HOUR)
    line = lines_with(driver, "After 1 h")[0]
    assert line.endswith(f"the wait ends at {end} (max_poll_outage) at the latest")
    assert "is still inProgress" in line


def test_an_execution_that_is_not_listed_is_said_to_be_so() -> None:
    driver = drive([], hours=24, max_poll_outage=1.5 * HOUR)

    (line,) = lines_with(driver, "is still")
    assert line.startswith(f"After 1 h, the {NAME} is still not listed; the wait ends at ")


def test_a_wait_without_an_id_is_logged_every_hour_too() -> None:
    since = Target(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, since=CREATED_AT)
    driver = drive([], hours=2.5, target=since)

    assert [it.partition(";")[0] for it in lines_with(driver, "still")] == [
        f"After {hours} h, the first execution of notebook {NOTEBOOK_ID} since {iso(CREATED_AT)} "
        "has still not ended"
        for hours in (1, 2)
    ]


def test_a_wait_that_begins_late_waits_for_the_next_full_hour() -> None:
    """As after a restart of the triggerer, when thousands of waits begin again."""
    wait = Wait(
        Target.of(REF), WaitConfig(poll_interval=20, deadline=CREATED_AT + 9 * HOUR, max_poll_outage=9)
    )
    log = ExecutionLog([RUNNING[0].raw])

    wait.on_response(log, CREATED_AT + 2.5 * HOUR)
    first = [line.text for line in wait.drain_logs()]
    for minutes in range(1, 40):
        wait.on_response(log, CREATED_AT + 2.5 * HOUR + minutes * 60)

    assert not any("still" in it for it in first)
    assert [line.text.partition(",")[0] for line in wait.drain_logs()] == ["After 3 h"]


def test_an_execution_from_the_future_by_losants_clock_is_not_logged_before_its_first_hour() -> None:
    wait = Wait(
        Target.of(REF), WaitConfig(poll_interval=20, deadline=CREATED_AT + 9 * HOUR, max_poll_outage=9)
    )
    log = ExecutionLog([RUNNING[0].raw])
    for hour in (-1.5, -0.5, 0.1, 0.9, 1.1):
        wait.on_response(log, CREATED_AT + hour * HOUR)

    lines = [line.text.partition(",")[0] for line in wait.drain_logs()]

    assert [it for it in lines if it.startswith("After")] == ["After 1 h"]


def test_a_clock_that_was_set_back_repeats_no_hour() -> None:
    wait = Wait(
        Target.of(REF), WaitConfig(poll_interval=20, deadline=CREATED_AT + 9 * HOUR, max_poll_outage=9)
    )
    log = ExecutionLog([RUNNING[0].raw])
    for hour in (0.1, 1.1, 0.1, 1.2, 2.1):
        wait.on_response(log, CREATED_AT + hour * HOUR)

    lines = [line.text.partition(",")[0] for line in wait.drain_logs()]

    assert [it for it in lines if it.startswith("After")] == ["After 1 h", "After 2 h"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (7_500, "2 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert format_elapsed(seconds) == expected
