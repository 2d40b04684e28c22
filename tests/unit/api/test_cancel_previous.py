# SPDX-License-Identifier: Apache-2.0
"""Tasks that cancel the executions of others, and how a displaced one learns of it and does not do so."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import BadRequest, LosantError
from airflow_provider_losant.api.flows.ownership import MARKER_KEY, Owner, read_marker
from airflow_provider_losant.api.flows.start_policy import Blocked, Replaced, StartPolicy
from airflow_provider_losant.api.flows.steps import Sleep
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.model import Execution, ExecutionRef
from airflow_provider_losant.api.payloads import MAX_CONTEXT, compact_json
from tests.support.factories import (
    APPLICATION_ID,
    NOTEBOOK_ID,
    execution,
    execution_id_at,
    owner,
)
from tests.support.losant_model import LosantModel
from tests.unit.api.flow_driver import FlowDriver, maximum

if TYPE_CHECKING:
    from airflow_provider_losant.api.defaults import IfRunning

NOW = 1_800_000_000.0
OWNER = owner()
SUBMITTED = ExecutionRef(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id="6" * 24)
POLICY = SubmitPolicy(retries=1, max_log_lag=60.0, max_poll_outage=600.0, back_to=NOW - 90_000.0)
FIRST, SECOND = execution_id_at(1), execution_id_at(2)


def submission_of(whose: Owner, **context: Any) -> Submission:
    options = {"templateContext": compact_json(whose.add_marker(context))}
    return Submission(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options=options, owner=whose)


def execution_of(
    whose: Owner, status: str = "inProgress", execution_id: str = FIRST, **more: Any
) -> Execution:
    marker = {**whose.add_marker({})[MARKER_KEY], **more}
    return execution(status, execution_id, templateContext=json.dumps({MARKER_KEY: marker}))


def submit(
    driver: FlowDriver, submission: Submission, *, if_running: IfRunning = "cancel_previous", **more: Any
) -> Started | Blocked:
    conditions = StartPolicy(if_running=if_running, give_up_at=NOW + 600, poll_interval=20.0, **more)
    is_retry = submission.owner is not None and submission.owner.try_number > 1
    flow = submit_once(
        submission, POLICY, start_policy=conditions, is_retry=is_retry, clock=driver.clock, jitter=maximum
    )
    return driver.drive(flow)


def submitted_marker(driver: FlowDriver) -> dict[str, Any]:
    body = driver.calls[-1].json or {}
    return json.loads(body["templateContext"])[MARKER_KEY]  # type: ignore[no-any-return]  # JSON


def marker_of(whose: Owner) -> dict[str, Any]:
    return whose.add_marker({})[MARKER_KEY]  # type: ignore[no-any-return]  # a context has any values


OTHER = owner(task_id="other")
RETRY = submission_of(replace(OWNER, try_number=2))


# -- the marker names what was cancelled ----------------------------------------------------------------


def test_the_marker_of_a_new_execution_names_those_that_were_cancelled_for_it() -> None:
    driver = FlowDriver([[execution_of(OTHER)], None, [execution_of(OTHER, "canceled")], SUBMITTED])

    submit(driver, submission_of(OWNER, site="north"))

    assert submitted_marker(driver) == {**marker_of(OWNER), "replaces": [FIRST]}
    assert json.loads((driver.calls[-1].json or {})["templateContext"])["site"] == "north"


def test_the_marker_names_nothing_if_nothing_was_cancelled() -> None:
    driver = FlowDriver([[execution_of(OTHER, "canceling")], [], SUBMITTED])

    submit(driver, submission_of(OWNER))

    assert submitted_marker(driver) == marker_of(OWNER)


def test_an_execution_that_ended_before_it_could_be_cancelled_is_not_named() -> None:
    """Its task may run it again, as it has not been displaced."""
    refusal = BadRequest(400, "Validation", "the execution has ended")
    driver = FlowDriver([[execution_of(OTHER)], refusal, [execution_of(OTHER, "errored")], SUBMITTED])

    submit(driver, submission_of(OWNER))

    assert submitted_marker(driver) == marker_of(OWNER)


def test_what_was_cancelled_before_a_deferral_is_named_too_and_not_cancelled_again() -> None:
    active = [execution_of(OTHER)]
    blocked = submit(FlowDriver([active, None]), submission_of(OWNER), may_wait_here=False)
    assert isinstance(blocked, Blocked)
    assert blocked.replaces == [FIRST]

    resumed = FlowDriver([active, [execution_of(OTHER, "canceled")], SUBMITTED])
    submit(resumed, submission_of(OWNER), replaces=blocked.replaces)

    assert resumed.operations() == ["notebook.logs", "notebook.logs", "notebook.execute"]
    assert submitted_marker(resumed)["replaces"] == [FIRST]


def test_a_marker_that_has_no_room_for_the_ids_is_sent_without_them() -> None:
    room = MAX_CONTEXT - len(compact_json(OWNER.add_marker({"x": ""})))
    driver = FlowDriver([[execution_of(OTHER)], None, [], SUBMITTED])

    submit(driver, submission_of(OWNER, x="x" * room))

    assert len((driver.calls[-1].json or {})["templateContext"]) == MAX_CONTEXT
    assert submitted_marker(driver) == marker_of(OWNER)


def test_a_marker_has_room_for_the_ids_up_to_the_last_character() -> None:
    more = len(',"replaces":["' + FIRST + '"]')
    room = MAX_CONTEXT - len(compact_json(OWNER.add_marker({"x": ""}))) - more
    driver = FlowDriver([[execution_of(OTHER)], None, [], SUBMITTED])

    submit(driver, submission_of(OWNER, x="x" * room))

    assert submitted_marker(driver)["replaces"] == [FIRST]


# -- a displaced task -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "inProgress", "completed", "errored"])
def test_a_displaced_task_does_not_displace_in_turn(status: str) -> None:
    listed = [execution_of(OTHER, status, SECOND, replaces=[FIRST]), execution_of(OWNER, "canceled")]
    driver = FlowDriver([listed])

    with pytest.raises(Replaced, match=rf"runs {SECOND} instead \({status}\)"):
        submit(driver, RETRY)
    assert set(driver.operations()) == {"notebook.logs"}


@pytest.mark.parametrize("replaces", [[], [SECOND], "x", None, [5], {FIRST: 1}], ids=str)
def test_a_task_that_was_not_displaced_runs_again(replaces: Any) -> None:
    other = execution_of(OTHER, "completed", SECOND, replaces=replaces)
    driver = FlowDriver([[other, execution_of(OWNER, "errored")], *[[other]] * 2, SUBMITTED])

    assert isinstance(submit(driver, RETRY), Started)


def test_a_cleared_task_runs_again_although_it_was_displaced_before() -> None:
    listed = [execution_of(OTHER, "completed", SECOND, replaces=[FIRST]), execution_of(OWNER, "canceled")]
    driver = FlowDriver([listed, listed, listed, SUBMITTED])

    assert isinstance(submit(driver, submission_of(replace(OWNER, try_number=2, max_tries=4))), Started)


def test_an_execution_that_replaces_itself_by_name_displaces_nothing() -> None:
    listed = [execution_of(OWNER, "errored", FIRST, replaces=[FIRST])]
    driver = FlowDriver([listed, listed, listed, SUBMITTED])

    assert isinstance(submit(driver, RETRY), Started)


@pytest.mark.parametrize("if_running", ["start", "wait", "adopt", "skip", "fail"])
def test_a_task_that_displaces_nothing_runs_again_after_it_was_displaced(if_running: IfRunning) -> None:
    listed = [execution_of(OTHER, "completed", SECOND, replaces=[FIRST]), execution_of(OWNER, "canceled")]
    searches = 1 if if_running == "start" else 2
    driver = FlowDriver([*[listed] * searches, SUBMITTED])

    assert isinstance(submit(driver, RETRY, if_running=if_running), Started)


# -- several tasks against a model of Losant --------------------------------------------------------------


@dataclass
class Task:
    """A task of one DAG run with ``if_running="cancel_previous"``, which Airflow starts and retries."""

    name: str
    losant: LosantModel
    starts_at: float
    tries: int = 4
    retry_delay: float = 300.0
    outcomes: list[str] = field(default_factory=list)

    def run(self) -> Generator[float, None, None]:
        """Yield the seconds to wait before each next step."""
        yield self.starts_at
        for number in range(1, self.tries + 1):
            submission = submission_of(owner(task_id=self.name, try_number=number))
            try:
                started = yield from self.submit(submission)
            except LosantError as error:
                self.outcomes.append(type(error).__name__)
                return
            run = self.losant.find(started.ref.execution_id)
            while run.status in {"queued", "inProgress", "canceling"}:
                yield 20.0
            self.outcomes.append(run.status)
            if run.status == "completed":
                return
            yield self.retry_delay

    def submit(self, submission: Submission) -> Generator[float, None, Started]:
        clock = self.losant.clock
        conditions = StartPolicy(
            if_running="cancel_previous", give_up_at=clock() + 6 * 3_600, poll_interval=20.0
        )
        policy = replace(POLICY, back_to=clock() - 90_000.0)
        is_retry = submission.owner is not None and submission.owner.try_number > 1
        flow = submit_once(
            submission, policy, start_policy=conditions, is_retry=is_retry, clock=clock, jitter=maximum
        )
        response: Any = None
        while True:
            try:
                step = flow.throw(response) if isinstance(response, LosantError) else flow.send(response)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped
            if isinstance(step, Sleep):
                yield step.seconds
                response = None
            else:
                response = self.losant.perform(step)


def run_together(losant: LosantModel, *tasks: Task) -> None:
    """Run tasks until they have ended; executions run for an hour, and take 15 s to cancel."""
    number = count()
    waiting: list[tuple[float, int, Generator[float, None, None]]] = []
    for task in tasks:
        heappush(waiting, (losant.now, next(number), task.run()))
    while waiting:
        at, _, steps = heappop(waiting)
        losant.now = max(losant.now, at)
        losant.end_by_time(canceling=15.0, running=3_600.0)
        if (pause := next(steps, None)) is not None:
            heappush(waiting, (losant.now + pause, next(number), steps))


@pytest.mark.parametrize("skew", [-10.0, 0.0, 10.0], ids=["clock behind", "same clock", "clock ahead"])
def test_of_two_tasks_with_retries_the_later_one_displaces_the_first_once(skew: float) -> None:
    losant = LosantModel(skew=skew)
    first, second = Task("first", losant, 0.0), Task("second", losant, 100.0)

    run_together(losant, first, second)

    assert first.outcomes == ["canceled", "Replaced"]
    assert second.outcomes == ["completed"]
    assert [it.status for it in losant.runs] == ["canceled", "completed"]
    assert losant.cancel_requests == [losant.runs[0].id]


@pytest.mark.parametrize("skew", [-10.0, 10.0], ids=["clock behind", "clock ahead"])
@pytest.mark.parametrize("apart", [0.0, 1.0, 10.0, 50.0])
@pytest.mark.parametrize("retry_delay", [0.0, 30.0, 300.0])
def test_tasks_that_displace_each_other_come_to_an_end_with_one_result(
    apart: float, skew: float, retry_delay: float
) -> None:
    losant = LosantModel(skew=skew)
    tasks = [Task(str(number), losant, number * apart, retry_delay=retry_delay) for number in range(3)]

    run_together(losant, *tasks)

    assert [it.outcomes[-1] for it in tasks].count("completed") == 1
    assert len(losant.runs) <= 12
    assert not losant.active()


def test_a_displaced_task_that_is_cleared_displaces_the_other_one() -> None:
    losant = LosantModel()
    first, second = Task("first", losant, 0.0), Task("second", losant, 100.0)
    run_together(losant, first, second)
    cleared = submission_of(owner(task_id="first", try_number=3, max_tries=5))

    for pause in first.submit(cleared):
        losant.now += pause

    marker = read_marker(execution(templateContext=losant.runs[-1].context))
    assert marker == cleared.owner
