# SPDX-License-Identifier: Apache-2.0
"""Waiting without an event loop: the effect of each response and of each failed poll."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    LosantError,
    NotFound,
    NotLosantApi,
    ProtocolError,
    RateLimited,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.polling import wait_for_execution
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.model import Execution
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    entry,
    execution,
    execution_id_at,
    few_examples,
    iso,
)
from tests.unit.api.flow_driver import FlowDriver, maximum, mean_delay

CONNECTION_LOST = TransportError("connection lost")
RUNNING = [execution("inProgress", runStartedAt=iso(CREATED_AT + 1))]
DONE = [execution("completed", outputsCompletedAt=iso(CREATED_AT + 60))]
CONFIG = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 3_600, max_poll_outage=600.0)
SIGNED = "https://storage.example/result.error.log?X-Amz-Signature=deadbeef"


def wait_until_done(
    driver: FlowDriver, target: Target | None = None, config: WaitConfig = CONFIG, **more: Any
) -> Outcome:
    options = {"clock": driver.clock, "jitter": mean_delay, **more}
    return driver.drive(wait_for_execution(target or Target.of(REF), config, **options))


def make_driver(*responses: Any, **more: Any) -> FlowDriver:
    return FlowDriver(responses, now=CREATED_AT, **more)


def test_an_execution_is_polled_until_it_has_ended() -> None:
    driver = make_driver([execution("queued")], RUNNING, RUNNING, DONE)

    outcome = wait_until_done(driver)

    assert (outcome.ending, outcome.is_success) == ("ended", True)
    assert outcome.result["status"] == "completed"
    assert driver.operations() == ["notebook.logs"] * 4
    assert driver.request_times == [CREATED_AT, CREATED_AT + 20, CREATED_AT + 40, CREATED_AT + 60]


def test_every_poll_has_a_limit_and_a_since_with_a_margin() -> None:
    driver = make_driver(RUNNING, DONE)

    wait_until_done(driver)

    since = str(int(CREATED_AT - 300) * 1000)
    assert [(call.query["limit"], call.query["since"]) for call in driver.calls] == [("20", since)] * 2


def test_a_new_execution_is_not_polled_at_once() -> None:
    driver = make_driver(DONE)

    wait_until_done(driver, not_before=CREATED_AT + 20)

    assert driver.request_times == [CREATED_AT + 20]


def test_each_phase_is_logged_once_with_its_durations() -> None:
    gathered = [
        execution("inProgress", runStartedAt=iso(CREATED_AT + 2), inputsCompletedAt=iso(CREATED_AT + 7))
    ]
    driver = make_driver(
        [execution("queued")], [execution("queued")], RUNNING, RUNNING, gathered, gathered, DONE
    )

    wait_until_done(driver)

    assert [line.text.split(": ", 1)[1].split(" (")[0] for line in driver.log_lines] == [
        "queued",
        "inProgress: reading inputs",
        "inProgress: running the notebook",
        "completed",
    ]
    assert "(queue 2 s, inputs 5 s)" in driver.log
    assert all(EXECUTION_ID in line.text for line in driver.log_lines)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"maxAllowedRunMinutes": 5},
            "(queue 4 s, inputs 2 s, notebook 90 s, outputs 1 s; 1.5 of 5 run minutes)",
        ),
        ({}, "(queue 4 s, inputs 2 s, notebook 90 s, outputs 1 s; 1.5 run minutes)"),
    ],
)
def test_run_minutes_are_logged_separately_from_the_time_in_the_queue(
    more: dict[str, Any], expected: str
) -> None:
    ended = {
        "runStartedAt": iso(CREATED_AT + 4),
        "inputsCompletedAt": iso(CREATED_AT + 6),
        "notebookCompletedAt": iso(CREATED_AT + 96),
        "outputsCompletedAt": iso(CREATED_AT + 97),
    }
    driver = make_driver([execution("completed", **ended, **more)])

    wait_until_done(driver)

    assert driver.log.endswith(expected)


def test_waits_that_began_together_spread_out() -> None:
    early, late = make_driver(RUNNING, DONE), make_driver(RUNNING, DONE)

    wait_until_done(early, jitter=lambda low, _: low)
    wait_until_done(late, jitter=maximum)

    assert [driver.request_times[1] - CREATED_AT for driver in (early, late)] == pytest.approx([20, 21])


@pytest.mark.parametrize(
    "error",
    [
        CONNECTION_LOST,
        TransportError("refused", was_sent=False),
        ProtocolError("cut short"),
        NotLosantApi("a maintenance page"),
        ServerError(503, "", "no message"),
        RateLimited(429, "", "slow down"),
        Unauthorized(401, "", "rotated"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:3],
)
def test_a_lost_poll_does_not_fail_the_execution(error: LosantError) -> None:
    outcome = wait_until_done(make_driver(error, RUNNING, error, error, DONE))

    assert outcome.is_success


def test_consecutive_lost_polls_are_logged_once() -> None:
    driver = make_driver(
        CONNECTION_LOST, CONNECTION_LOST, CONNECTION_LOST, RUNNING, CONNECTION_LOST, CONNECTION_LOST, DONE
    )

    wait_until_done(driver)

    lost = [line for line in driver.log_lines if "connection lost" in line.text]
    assert [line.level for line in lost] == [logging.WARNING] * 2


def test_an_outage_is_tolerated_up_to_max_poll_outage() -> None:
    driver = make_driver(RUNNING, CONNECTION_LOST)

    outcome = wait_until_done(driver)

    assert (outcome.ending, outcome.problem) == ("outage", "connection lost")
    assert outcome.result["status"] == "inProgress"
    assert 600 < driver.now - CREATED_AT < 600 + 2 * 20 + 1
    assert "notebook.cancelExecution" not in driver.operations()


def test_max_poll_outage_restarts_with_each_response() -> None:
    def flaky(call: Any) -> Any:
        del call
        return RUNNING if len(driver.calls) % 20 == 0 else CONNECTION_LOST

    driver = make_driver(flaky)

    assert wait_until_done(driver, jitter=maximum).ending == "deadline"


def test_a_single_lost_poll_is_tolerated_however_long_the_interval() -> None:
    seldom = WaitConfig(poll_interval=900.0, deadline=CREATED_AT + 7_200, max_poll_outage=600.0)

    assert wait_until_done(
        make_driver(CONNECTION_LOST, DONE), config=seldom, not_before=CREATED_AT + 900
    ).is_success


@few_examples
@given(st.lists(st.booleans(), min_size=1, max_size=25))
def test_no_pattern_of_short_outages_fails_a_healthy_execution(lost: list[bool]) -> None:
    responses = [CONNECTION_LOST if it else RUNNING for it in lost]

    assert wait_until_done(make_driver(*responses, DONE)).is_success


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(400, "Validation", "no"),
        Forbidden(403, "Forbidden", "no"),
        NotFound(404, "NotFound", "no"),
        TlsError("self-signed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_permanent_error_ends_the_wait_at_once(error: LosantError) -> None:
    driver = make_driver(RUNNING, error)

    outcome = wait_until_done(driver, cancel_on_timeout=True)

    assert (outcome.ending, outcome.problem) == ("refused", str(error))
    assert outcome.result["execution_id"] == EXECUTION_ID
    assert driver.operations() == ["notebook.logs"] * 2


def test_no_poll_comes_before_retry_after() -> None:
    driver = make_driver(RateLimited(429, "", "slow down", retry_after=120.0), DONE)

    wait_until_done(driver)

    assert driver.request_times[1] - driver.request_times[0] >= 120


def test_a_long_retry_after_does_not_extend_the_deadline() -> None:
    driver = make_driver(RateLimited(429, "", "slow down", retry_after=86_400.0), RUNNING)

    outcome = wait_until_done(
        driver, config=WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 300, max_poll_outage=6_000.0)
    )

    assert outcome.ending == "deadline"
    assert driver.now == CREATED_AT + 300


def test_an_undocumented_status_is_polled_further() -> None:
    driver = make_driver([execution("hibernating")], [execution("hibernating")], DONE)

    assert wait_until_done(driver).is_success
    assert "hibernating" in driver.log


def test_an_undocumented_status_is_warned_about_once() -> None:
    driver = make_driver([execution("hibernating")], [execution("hibernating")], DONE)

    wait_until_done(driver)

    warnings = [line.text for line in driver.log_lines if line.level == logging.WARNING]
    assert len(warnings) == 1
    assert "hibernating" in warnings[0]


@pytest.mark.parametrize("status", ["errored", "timeout", "canceled"])
def test_an_unsuccessful_execution_is_reported_with_losants_errors(status: str) -> None:
    errors = [{"name": "ValueError", "message": "boom"}]

    outcome = wait_until_done(make_driver(RUNNING, [execution(status, executionErrors=errors)]))

    assert (outcome.ending, outcome.is_success, outcome.result["status"]) == ("ended", False, status)
    assert list(outcome.errors) == errors


def test_an_execution_in_canceling_is_polled_until_it_is_canceled() -> None:
    assert (
        wait_until_done(make_driver([execution("canceling")], [execution("canceled")])).result["status"]
        == "canceled"
    )


def test_the_end_of_the_error_log_is_fetched_for_a_failed_execution() -> None:
    failed = execution("errored", outputInfo={"result.error.log": {"size": 9, "url": SIGNED}})
    driver = make_driver([failed], tail="Traceback\nValueError: boom")

    assert wait_until_done(driver).error_log == "Traceback\nValueError: boom"
    assert [tail.url for tail in driver.tails] == [SIGNED]
    assert "deadbeef" not in repr(driver.tails)


def test_an_unreadable_error_log_does_not_change_the_outcome() -> None:
    failed = execution("errored", outputInfo={"result.error.log": {"url": SIGNED}})
    driver = make_driver([failed], tail=TransportError("the file host returned 403"))

    outcome = wait_until_done(driver)

    assert (outcome.ending, outcome.error_log) == ("ended", None)
    assert "result.error.log could not be read" in driver.log


@pytest.mark.parametrize(
    "ended",
    [
        execution("completed", outputInfo={"result.error.log": {"url": SIGNED}}),
        execution("errored", outputInfo={"result.log": {"url": SIGNED}}),
        execution("errored", outputInfo={"result.error.log": {"size": 1}}),
    ],
    ids=["a completed execution", "no error log", "an error log without a URL"],
)
def test_no_error_log_is_fetched_without_need(ended: Execution) -> None:
    driver = make_driver([ended])

    wait_until_done(driver)

    assert driver.tails == []


def test_the_deadline_ends_the_wait_after_one_last_poll() -> None:
    driver = make_driver(RUNNING)
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 50, max_poll_outage=600.0)

    outcome = wait_until_done(driver, config=config)

    assert (outcome.ending, outcome.is_success, outcome.is_cancelled) == ("deadline", False, False)
    assert driver.request_times == [CREATED_AT, CREATED_AT + 20, CREATED_AT + 40, CREATED_AT + 50]
    assert set(driver.operations()) == {"notebook.logs"}


def test_an_execution_that_ends_just_before_the_deadline_has_ended() -> None:
    config = WaitConfig(poll_interval=40.0, deadline=CREATED_AT + 50, max_poll_outage=600.0)

    assert wait_until_done(make_driver(RUNNING, RUNNING, DONE), config=config).is_success


def test_a_deadline_that_has_passed_still_allows_one_poll() -> None:
    config = WaitConfig(poll_interval=20.0, deadline=0.0, max_poll_outage=600.0)
    driver = make_driver(RUNNING)

    assert wait_until_done(driver, config=config).ending == "deadline"
    assert driver.request_times == [CREATED_AT]
    assert wait_until_done(make_driver(DONE), config=config).is_success


def test_the_execution_is_cancelled_at_the_deadline_with_cancel_on_timeout() -> None:
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 30, max_poll_outage=600.0)
    driver = make_driver(RUNNING, RUNNING, RUNNING, None)

    outcome = wait_until_done(driver, config=config, cancel_on_timeout=True)

    assert (outcome.ending, outcome.is_cancelled) == ("deadline", True)
    assert driver.operations() == ["notebook.logs"] * 3 + ["notebook.cancelExecution"]
    assert driver.calls[-1].query == {"executionId": EXECUTION_ID}


def test_a_failed_cancel_at_the_deadline_is_logged_and_not_raised() -> None:
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT, max_poll_outage=600.0)
    driver = make_driver(RUNNING, ServerError(503, "", "no message"))

    outcome = wait_until_done(driver, config=config, cancel_on_timeout=True)

    assert (outcome.ending, outcome.is_cancelled) == ("deadline", False)
    assert driver.operations().count("notebook.cancelExecution") == 3
    assert "could not be cancelled and may still use run minutes" in driver.log


@pytest.mark.parametrize("error", [NotFound(404, "", "no"), BadRequest(400, "", "has ended")], ids=str)
def test_an_execution_that_ends_while_being_cancelled_has_ended(error: LosantError) -> None:
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 10, max_poll_outage=600.0)

    outcome = wait_until_done(
        make_driver(RUNNING, RUNNING, error, DONE), config=config, cancel_on_timeout=True
    )

    assert (outcome.ending, outcome.is_success) == ("ended", True)


def test_a_wait_without_an_id_cancels_no_execution() -> None:
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 30, max_poll_outage=600.0)
    driver = make_driver([])

    outcome = wait_until_done(driver, any_execution(), config, cancel_on_timeout=True)

    assert outcome.ending == "deadline"
    assert set(driver.operations()) == {"notebook.logs"}


# -- selection of the execution ---------------------------------------------------------------------------


def newer_executions(count: int, status: str = "completed") -> list[Execution]:
    """Return newer executions of the same notebook, newest first."""
    return [execution(status, execution_id_at(number)) for number in range(count, 0, -1)]


def any_execution(since: float = CREATED_AT) -> Target:
    return Target(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, since=since)


def paged(executions: list[Execution]) -> Any:
    return lambda call: executions[: int(call.query["limit"])]


@pytest.mark.parametrize(
    ("newer", "limits"), [(19, ["20"]), (20, ["20", "160"]), (500, ["20", "160", "1280"])]
)
def test_an_execution_beyond_the_page_is_searched_further_at_once(newer: int, limits: list[str]) -> None:
    driver = make_driver(paged([*newer_executions(newer), *DONE]))

    assert wait_until_done(driver).is_success
    assert [call.query["limit"] for call in driver.calls] == limits
    assert driver.now == CREATED_AT


def test_a_wait_continues_while_its_execution_is_not_listed_yet() -> None:
    driver = make_driver([], [], RUNNING, DONE)

    assert wait_until_done(driver).is_success
    assert "does not list" in driver.log


def test_an_execution_not_listed_for_long_is_searched_without_since() -> None:
    driver = make_driver(lambda call: [] if "since" in call.query else DONE)

    assert wait_until_done(driver).is_success
    assert len(driver.calls) == 3


def test_an_execution_that_is_never_listed_ends_the_wait_with_a_reason() -> None:
    outcome = wait_until_done(make_driver([]))

    assert (outcome.ending, outcome.problem) == ("outage", "the execution log does not list the execution")
    assert outcome.result == {
        "execution_id": EXECUTION_ID,
        "notebook_id": NOTEBOOK_ID,
        "application_id": APPLICATION_ID,
    }


def test_another_execution_is_never_mistaken_for_the_target() -> None:
    driver = make_driver(newer_executions(3), [*newer_executions(3), *DONE])

    assert wait_until_done(driver).result["execution_id"] == EXECUTION_ID


def test_without_an_id_the_earliest_queued_that_ended_is_selected() -> None:
    recent = [
        execution("completed", execution_id_at(5)),
        execution("inProgress", execution_id_at(4)),
        execution("errored", execution_id_at(3)),
        execution("completed", execution_id_at(2)),
        execution("inProgress", execution_id_at(1)),
        execution("completed", execution_id_at(-9)),
    ]

    outcome = wait_until_done(make_driver(recent), any_execution())

    assert outcome.result["execution_id"] == execution_id_at(2)


def test_without_an_id_the_first_to_end_is_selected_however_late_the_poll() -> None:
    long = execution("completed", execution_id_at(1), outputsCompletedAt=iso(CREATED_AT + 50))
    short = execution("errored", execution_id_at(2), notebookCompletedAt=iso(CREATED_AT + 30))
    still = execution("inProgress", execution_id_at(1))

    outcomes = [wait_until_done(make_driver([short, earlier]), any_execution()) for earlier in (still, long)]

    assert [it.result["execution_id"] for it in outcomes] == [execution_id_at(2)] * 2


def test_without_an_id_an_execution_queued_exactly_at_since_counts() -> None:
    assert (
        wait_until_done(make_driver(DONE), any_execution(CREATED_AT)).result["execution_id"] == EXECUTION_ID
    )


def test_without_an_id_the_wait_continues_while_an_execution_is_active() -> None:
    driver = make_driver(
        [], [execution("queued", execution_id_at(1))], [execution("completed", execution_id_at(1))]
    )

    assert wait_until_done(driver, any_execution()).is_success


def test_without_an_id_an_empty_log_is_not_an_outage() -> None:
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 7_200, max_poll_outage=600.0)

    assert wait_until_done(make_driver([]), any_execution(), config).ending == "deadline"


def test_without_an_id_the_earliest_is_found_beyond_the_page_too() -> None:
    driver = make_driver(paged([*newer_executions(100), execution("completed")]))

    assert wait_until_done(driver, any_execution()).result["execution_id"] == EXECUTION_ID


@pytest.mark.parametrize("newer", [20, 500])
def test_a_single_poll_raises_its_limit_as_required(newer: int) -> None:
    single_poll = WaitConfig(poll_interval=20.0, deadline=0.0, max_poll_outage=600.0)

    assert wait_until_done(
        make_driver(paged([*newer_executions(newer), *DONE])), config=single_poll
    ).is_success


# -- from the triggerer to the worker ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(ending="ended", result={"status": "completed"}, is_success=True),
        Outcome(ending="ended", result={}, errors=[{"name": "E", "message": "m"}], error_log="Traceback"),
        Outcome(ending="deadline", result={"execution_id": EXECUTION_ID}, is_cancelled=True),
        Outcome(ending="outage", result={}, problem="connection lost"),
    ],
    ids=["success", "failure", "deadline", "outage"],
)
def test_an_outcome_survives_the_round_trip_through_airflows_database(outcome: Outcome) -> None:
    event = json.loads(json.dumps(outcome.to_event()))

    assert Outcome.from_event(event).to_event() == outcome.to_event() == event


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"ending": "ended"}, "text"], ids=repr)
def test_a_foreign_event_is_refused(event: Any) -> None:
    with pytest.raises(ValueError, match="not the event of a notebook wait"):
        Outcome.from_event(event)


FILES = st.dictionaries(
    st.sampled_from(["result.error.log", "result.html", "out.csv"]),
    st.fixed_dictionaries(
        {"url": st.just(SIGNED)}, optional={"size": st.integers(0), "contentType": st.text()}
    ),
)


@few_examples
@given(
    files=FILES,
    inputs=FILES,
    status=st.sampled_from(["completed", "errored", "timeout", "canceled", "inProgress", "hibernating"]),
    tail=st.sampled_from(["Traceback", TransportError("the file host returned 403")]),
)
def test_no_signed_url_is_in_any_outcome_event_or_log_line(
    files: dict[str, Any], inputs: dict[str, Any], status: str, tail: str | LosantError
) -> None:
    driver = make_driver([Execution.from_api(entry(status, outputInfo=files, inputInfo=inputs))], tail=tail)
    config = WaitConfig(poll_interval=20.0, deadline=CREATED_AT + 50, max_poll_outage=600.0)

    outcome = wait_until_done(driver, config=config)

    expected = (
        json.dumps(outcome.to_event(), allow_nan=False) + repr(outcome) + driver.log + repr(driver.calls)
    )
    assert "storage.example" not in expected


def test_a_target_describes_what_is_waited_for() -> None:
    assert str(Target.of(REF)) == f"execution {EXECUTION_ID} of notebook {NOTEBOOK_ID}"
    assert str(any_execution(CREATED_AT + timedelta(minutes=1).total_seconds())) == (
        f"first execution of notebook {NOTEBOOK_ID} since {iso(CREATED_AT + 60)}"
    )
