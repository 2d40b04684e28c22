# SPDX-License-Identifier: Apache-2.0
"""Conditions that are checked before a submission: other executions and run minutes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_losant.api.errors import Forbidden, ProtocolError, ServerError
from airflow_provider_losant.api.flows.start_policy import Blocked, StartDenied, StartPolicy, StartSkipped
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.model import Execution, ExecutionRef, MinuteCounts, Notebook
from tests.support.factories import (
    APPLICATION_ID,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    execution,
    execution_id_at,
    iso,
    owner,
)
from tests.unit.api.flow_driver import FlowDriver, mean

NOW = 1_800_000_000.0
SUBMITTED = ExecutionRef(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id="6" * 24)
OWNER = owner()
SUBMISSION = Submission(
    application_id=APPLICATION_ID,
    notebook_id=NOTEBOOK_ID,
    options={"templateContext": json.dumps(OWNER.add_marker({"site": "north"}))},
    owner=OWNER,
)
POLICY = SubmitPolicy(retries=1, max_log_lag=60.0, max_poll_outage=600.0, back_to=NOW - 90_000.0)


def other_execution(
    status: str = "inProgress", execution_id: str = EXECUTION_ID, context: Any = None, **more: Any
) -> Execution:
    template_context = {"site": "north"} if context is None else context
    return execution(status, execution_id, templateContext=json.dumps(template_context), **more)


def counts(minutes: int) -> MinuteCounts:
    days = [{"date": iso(NOW), "minutes": minutes, "completed": 1}]
    return MinuteCounts.from_api({"start": iso(NOW), "end": iso(NOW), "counts": days})


def submit(
    driver: FlowDriver,
    *,
    submission: Submission = SUBMISSION,
    is_retry: bool = False,
    may_wait_here: bool = True,
    **start_policy: Any,
) -> Started | Blocked:
    given = {
        "give_up_at": NOW + 600,
        "poll_interval": 20.0,
        "may_wait_here": may_wait_here,
    }
    conditions = StartPolicy(**{**given, **start_policy})
    return driver.drive(
        submit_once(
            submission, POLICY, start_policy=conditions, is_retry=is_retry, clock=driver.clock, jitter=mean
        )
    )


def test_without_conditions_no_request_is_sent() -> None:
    driver = FlowDriver([SUBMITTED])
    started = submit(driver)

    assert isinstance(started, Started)
    assert driver.operations() == ["notebook.execute"]
    assert StartPolicy(give_up_at=0, poll_interval=1).is_unconditional


@pytest.mark.parametrize("choice", ["wait", "adopt", "skip", "fail", "cancel_previous"])
@pytest.mark.parametrize("before", [[], [execution("completed")], [execution("canceled")]])
def test_without_another_active_execution_one_is_submitted(choice: str, before: list[Execution]) -> None:
    driver = FlowDriver([before, SUBMITTED])

    started = submit(driver, if_running=choice)

    assert driver.operations() == ["notebook.logs", "notebook.execute"]
    assert isinstance(started, Started)
    assert started.is_owned


@pytest.mark.parametrize("status", ["queued", "inProgress", "canceling", "pondering"])
def test_another_execution_makes_the_task_skip_or_fail_without_submitting(status: str) -> None:
    for choice, error in (("skip", StartSkipped), ("fail", StartDenied)):
        driver = FlowDriver([[other_execution(status)]])
        with pytest.raises(error, match=rf"{EXECUTION_ID} \({status}\)"):
            submit(driver, if_running=choice)
        assert driver.operations() == ["notebook.logs"]


def test_waiting_polls_every_interval_until_no_other_execution_is_active() -> None:
    driver = FlowDriver(
        [[other_execution()], [other_execution("canceling")], [other_execution("completed")], SUBMITTED]
    )

    submit(driver, if_running="wait")

    assert driver.sleeps == [20.0, 20.0]
    assert driver.operations() == [*["notebook.logs"] * 3, "notebook.execute"]
    assert "waiting for it to end" in driver.log


def test_waiting_for_another_execution_ends_at_the_deadline() -> None:
    driver = FlowDriver([[other_execution()]])

    with pytest.raises(StartDenied, match="the time to wait for it is over"):
        submit(driver, if_running="wait", give_up_at=NOW + 50)
    assert driver.sleeps == [20.0, 20.0, 10.0]


def test_a_deferrable_wait_gets_the_execution_that_blocks_it() -> None:
    driver = FlowDriver([[other_execution()]])

    waiting = submit(driver, if_running="wait", may_wait_here=False)

    assert isinstance(waiting, Blocked)
    assert waiting.by.ref == REF


def test_the_newest_execution_with_equal_context_and_query_time_is_adopted() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    submission = Submission(
        application_id=APPLICATION_ID,
        notebook_id=NOTEBOOK_ID,
        options={**SUBMISSION.options, "relativeTo": iso(moment.timestamp())},
        owner=OWNER,
    )
    matching = {"executionRelativeTo": iso(moment.timestamp())}
    listed = [
        other_execution(execution_id=execution_id_at(9), executionRelativeTo=iso(0)),
        other_execution(execution_id=execution_id_at(8), context={"site": "south"}, **matching),
        other_execution("canceling", execution_id=execution_id_at(7), **matching),
        other_execution(
            execution_id=execution_id_at(6),
            context={"site": "north", "airflow": {"dag_id": "another"}},
            **matching,
        ),
        other_execution(execution_id=execution_id_at(5), **matching),
    ]
    driver = FlowDriver([listed])

    adopted = submit(driver, submission=submission, if_running="adopt")

    assert isinstance(adopted, Started)
    assert (adopted.ref.execution_id, adopted.is_owned) == (execution_id_at(6), False)
    assert driver.operations() == ["notebook.logs"]


@pytest.mark.parametrize(
    "listed",
    [
        [other_execution(context={"site": "south"})],
        [other_execution("canceling")],
        [other_execution(context="not an object")],
        [execution("inProgress", templateContext="{not JSON")],
    ],
)
def test_an_execution_with_other_arguments_is_not_adopted_and_does_not_block(
    listed: list[Execution],
) -> None:
    driver = FlowDriver([listed, SUBMITTED])
    submit(driver, if_running="adopt")

    assert driver.operations() == ["notebook.logs", "notebook.execute"]


CLEARED = replace(SUBMISSION, owner=replace(OWNER, try_number=2, max_tries=4))


def execution_before_clear(status: str) -> Execution:
    return other_execution(status, context=OWNER.add_marker({"site": "north"}))


@pytest.mark.parametrize("status", ["queued", "inProgress", "canceling"])
@pytest.mark.parametrize("choice", ["wait", "skip", "fail"])
def test_a_task_waits_for_its_own_earlier_execution_instead_of_failing(choice: str, status: str) -> None:
    own = execution_before_clear(status)
    driver = FlowDriver([[own], [own], [execution_before_clear("canceled")], SUBMITTED])

    submit(driver, submission=CLEARED, if_running=choice)

    assert driver.operations() == [*["notebook.logs"] * 3, "notebook.execute"]
    assert driver.sleeps == [20.0, 20.0]


@pytest.mark.parametrize(("choice", "error"), [("skip", StartSkipped), ("fail", StartDenied)])
def test_another_execution_decides_also_while_an_own_one_is_active(
    choice: str, error: type[Exception]
) -> None:
    own, other = execution_before_clear("inProgress"), other_execution(execution_id=execution_id_at(1))

    for listed in ([own, other], [other, own]):
        with pytest.raises(error, match=execution_id_at(1)):
            submit(FlowDriver([listed]), submission=CLEARED, if_running=choice)


def test_the_wait_for_an_own_earlier_execution_ends_at_the_deadline() -> None:
    driver = FlowDriver([[execution_before_clear("inProgress")]])

    with pytest.raises(StartDenied, match="the time to wait for it is over"):
        submit(driver, submission=CLEARED, if_running="fail", give_up_at=NOW + 50)


def test_a_deferrable_task_gets_its_own_earlier_execution_to_wait_for() -> None:
    own = execution_before_clear("inProgress")

    waiting = submit(FlowDriver([[own]]), submission=CLEARED, if_running="fail", may_wait_here=False)

    assert isinstance(waiting, Blocked)
    assert waiting.by == own


def test_an_own_earlier_execution_is_adopted_as_its_own() -> None:
    own = execution_before_clear("inProgress")

    adopted = submit(FlowDriver([[own]]), submission=CLEARED, if_running="adopt")

    assert isinstance(adopted, Started)
    assert (adopted.ref, adopted.is_owned) == (own.ref, True)


def test_an_own_earlier_execution_that_cannot_be_adopted_is_waited_for() -> None:
    driver = FlowDriver([[execution_before_clear("canceling")], [], SUBMITTED])
    submit(driver, submission=CLEARED, if_running="adopt")

    assert driver.operations() == ["notebook.logs", "notebook.logs", "notebook.execute"]


def test_a_retry_waits_for_its_own_execution_that_a_kill_has_asked_to_cancel() -> None:
    own = other_execution("canceling", context=OWNER.add_marker({"site": "north"}))
    retry = replace(SUBMISSION, owner=replace(OWNER, try_number=OWNER.try_number + 1))
    driver = FlowDriver([[own], [own], [], SUBMITTED])

    submit(driver, submission=retry, is_retry=True, if_running="fail")

    assert driver.operations() == [*["notebook.logs"] * 3, "notebook.execute"]
    assert driver.sleeps == [20.0]


def test_previous_executions_are_cancelled_and_waited_for() -> None:
    running = [
        other_execution(execution_id=execution_id_at(1)),
        other_execution("canceling", execution_id=execution_id_at(2)),
        other_execution("completed", execution_id=execution_id_at(3)),
    ]
    ending = [
        other_execution("canceling", execution_id=execution_id_at(1)),
        other_execution("canceled", execution_id=execution_id_at(2)),
    ]
    driver = FlowDriver([running, None, ending, [], SUBMITTED])

    submit(driver, if_running="cancel_previous")

    assert driver.operations() == [
        "notebook.logs",
        "notebook.cancelExecution",
        "notebook.logs",
        "notebook.logs",
        "notebook.execute",
    ]
    assert driver.calls[1].query["executionId"] == execution_id_at(1)


@pytest.mark.parametrize("skew", [-10.0, 10.0], ids=["behind", "ahead"])
def test_a_previous_execution_is_cancelled_however_the_clock_of_losant_differs(skew: float) -> None:
    at = int(NOW + skew)
    execution_id = f"{at:08x}{7:016x}"
    driver = FlowDriver(
        [
            [other_execution(execution_id=execution_id, runQueuedAt=iso(at))],
            None,
            [other_execution("canceled", execution_id=execution_id, runQueuedAt=iso(at))],
            SUBMITTED,
        ]
    )
    submit(driver, if_running="cancel_previous")

    assert driver.operations() == [
        "notebook.logs", "notebook.cancelExecution", "notebook.logs", "notebook.execute"
    ]  # fmt: skip


def test_an_execution_that_is_submitted_during_the_wait_is_cancelled_too() -> None:
    late = other_execution(execution_id=execution_id_at(9))
    driver = FlowDriver(
        [[other_execution()], None, [late, other_execution("canceling")], None, [], SUBMITTED]
    )
    submit(driver, if_running="cancel_previous")

    cancelled = [
        call.query["executionId"] for call in driver.calls if call.operation == "notebook.cancelExecution"
    ]
    assert cancelled == [EXECUTION_ID, execution_id_at(9)]


def test_nothing_is_submitted_if_a_previous_execution_cannot_be_cancelled() -> None:
    driver = FlowDriver([[other_execution()], Forbidden(403, "Forbidden", "no")])

    with pytest.raises(StartDenied, match="could not be cancelled"):
        submit(driver, if_running="cancel_previous")
    assert "notebook.execute" not in driver.operations()


# -- minutes ----------------------------------------------------------------------------------------------


def test_the_minutes_of_the_day_are_counted_from_midnight_in_utc() -> None:
    driver = FlowDriver([counts(29), SUBMITTED])
    submit(driver, max_minutes=30)

    assert driver.operations() == ["notebook.notebookMinuteCounts", "notebook.execute"]
    midnight = datetime.fromtimestamp(NOW, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert driver.calls[0].query["start"] == f"{midnight.timestamp() * 1000:.0f}"


def test_the_minutes_of_the_billing_period_are_read_from_the_notebook() -> None:
    def notebook(**stats: Any) -> Notebook:
        return Notebook.from_api(
            {"id": NOTEBOOK_ID, "applicationId": APPLICATION_ID, "name": "N", "stats": stats}
        )

    driver = FlowDriver([notebook(minutesThisPeriod=29), SUBMITTED])
    submit(driver, max_minutes=30, minutes_window="billing_period")
    assert driver.operations() == ["notebook.get", "notebook.execute"]

    with pytest.raises(
        StartDenied, match="used 30 run minutes in this billing period, and max_minutes is 30"
    ):
        submit(FlowDriver([notebook(minutesThisPeriod=30)]), max_minutes=30, minutes_window="billing_period")
    with pytest.raises(ProtocolError, match="does not report"):
        submit(FlowDriver([notebook()]), max_minutes=30, minutes_window="billing_period")


@pytest.mark.parametrize(("on_exceeded", "error"), [("fail", StartDenied), ("skip", StartSkipped)])
def test_nothing_is_submitted_when_the_minutes_are_used_up(on_exceeded: str, error: type[Exception]) -> None:
    driver = FlowDriver([counts(31)])

    with pytest.raises(error, match=r"used 31 run minutes today \(UTC\), and max_minutes is 30"):
        submit(driver, max_minutes=30, on_exceeded=on_exceeded)
    assert driver.operations() == ["notebook.notebookMinuteCounts"]


def test_no_execution_is_cancelled_if_none_will_be_submitted() -> None:
    driver = FlowDriver([counts(31)])

    with pytest.raises(StartDenied):
        submit(driver, max_minutes=30, if_running="cancel_previous")
    assert driver.operations() == ["notebook.notebookMinuteCounts"]


def test_adopting_an_execution_needs_no_minutes() -> None:
    driver = FlowDriver([[other_execution()]])
    submit(driver, max_minutes=1, if_running="adopt")

    assert driver.operations() == ["notebook.logs"]


def test_a_check_is_retried_and_nothing_is_submitted_before_it_succeeds() -> None:
    driver = FlowDriver(
        [
            ServerError(503, "", "away"),
            [other_execution("completed")],
            ServerError(503, "", "away"),
            counts(0),
            SUBMITTED,
        ]
    )
    submit(driver, if_running="fail", max_minutes=30)

    assert driver.operations() == [
        "notebook.logs",
        "notebook.logs",
        "notebook.notebookMinuteCounts",
        "notebook.notebookMinuteCounts",
        "notebook.execute",
    ]


# -- retries ----------------------------------------------------------------------------------------------


def test_a_retry_reconnects_to_its_own_execution_before_any_check() -> None:
    own = other_execution(context=OWNER.add_marker({"site": "north"}))
    driver = FlowDriver([[other_execution(execution_id=execution_id_at(3)), own]])

    found = submit(driver, is_retry=True, if_running="fail", max_minutes=1)

    assert isinstance(found, Started)
    assert (found.ref, found.is_owned) == (REF, True)
    assert driver.operations() == ["notebook.logs"]
