# SPDX-License-Identifier: Apache-2.0
"""
All interleavings of responses, losses, crashes, kills, clears and retries of one task instance.

The model is Losant: a list of executions, a log that may lag, may be long, and may have entries of other
clients in any shape, and requests that may be lost before or after they take effect. Losant may return fewer
entries than requested, refuse a high ``limit``, and compare ``since`` with the start of executions. The real
flows run against it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import (
    BadRequest,
    LosantError,
    NotFound,
    RateLimited,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import Owner
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.model import ExecutionRef, Status
from airflow_provider_losant.api.payloads import compact_json, execution_options
from airflow_provider_losant.api.timestamps import format_timestamp
from tests.support.factories import owner

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow

APP, NOTEBOOK_ID = "a" * 24, "b" * 24
MAX_LOG_LAG = 60.0
KILL_BUDGET = 3.5
FAULTS = ("ok", "ok", "ok", "refused", "limited", "lost_there", "lost_back", "failed_there", "failed_back")
END = object()
MAX_LOG = 110
"""Entries of a log from which on no more of other clients are added."""
OTHER = owner(task_id="other")
ODD: tuple[Any, ...] = (
    {"status": "completed"},
    "not an object",
    None,
    {"id": 7},
    {"id": "f" * 24, "status": "errored", "executionErrors": ["boom"], "runQueuedAt": "yesterday"},
    {"id": "0" * 24, "status": ["queued"], "templateContext": 5},
    {"id": "e" * 24, "status": "queued", "runQueuedAt": "9999-12-31T23:59:59-14:00"},
)


class FakeLosant:
    """Stores executions and responds as Losant; the clock advances only when a flow sleeps."""

    def __init__(
        self,
        lag: float,
        *,
        cap: int | None = None,
        refuses_above: int | None = None,
        since_field: str = "queued",
    ) -> None:
        self.now = 1_700_000_000.0
        self.lag = lag
        self.cap = cap
        self.refuses_above = refuses_above
        self.since_field = since_field
        self.executions: list[dict[str, Any]] = []
        self.log: list[tuple[dict[str, Any] | None, Any]] = []
        """Executions of the task, oldest first, or None and an entry of another client."""
        self.cancelled: set[str] = set()

    @property
    def shows_all(self) -> bool:
        """Whether no execution can be missing in the log."""
        return self.cap is None and self.refuses_above is None

    def add_foreign(self, count: int) -> None:
        """Add entries of other clients, among them some of an odd shape, and one of another task."""
        for number in range(count):
            execution_id = f"{int(self.now):08x}{number:012x}ffff"
            context = json.dumps(OTHER.add_marker({})) if number == 0 else "{}"
            execution = {"id": execution_id, "status": "inProgress", "at": self.now, "context": context}
            odd = ODD[number % len(ODD)] if number % 7 == 1 else None
            self.log.append((None, odd if number % 7 == 1 else entry(execution)))

    def perform(self, call: Call[Any], fault: str) -> Any:
        if fault == "refused":
            raise TransportError("refused", was_sent=False)
        if fault == "limited":
            raise RateLimited(429, "", "slow down", retry_after=2.0)
        if fault == "lost_there":
            raise TransportError("lost")
        if fault == "failed_there":
            raise ServerError(502, "", "bad gateway")
        response = self._respond(call)
        if fault == "lost_back":
            raise TransportError("lost")
        if fault == "failed_back":
            raise ServerError(503, "", "unavailable")
        return response

    def active(self, owner: Owner | None = None) -> list[dict[str, Any]]:
        return [
            it
            for it in self.executions
            if Status.of(it["status"]).is_active and owner in {None, owner_of(it)}
        ]

    def _respond(self, call: Call[Any]) -> Any:
        match call.operation:
            case "notebook.execute":
                return self._execute(call.json or {})
            case "notebook.logs":
                return self._logs(call.query)
            case _:
                return self._cancel(call.query["executionId"])

    def _execute(self, options: Mapping[str, Any]) -> ExecutionRef:
        execution_id = f"{int(self.now):08x}{len(self.executions):016x}"
        execution = {
            "id": execution_id,
            "status": "queued",
            "at": self.now,
            "context": options["templateContext"],
        }
        self.executions.append(execution)
        self.log.append((execution, None))
        return ExecutionRef(application_id=APP, notebook_id=NOTEBOOK_ID, execution_id=execution_id)

    def _logs(self, query: Mapping[str, str]) -> ExecutionLog:
        limit = int(query["limit"])
        if self.refuses_above is not None and limit > self.refuses_above:
            raise BadRequest(400, "Validation", "limit is too large")
        since = int(query["since"]) / 1000 if "since" in query else None
        listed: list[Any] = []
        for execution, foreign in reversed(self.log):
            if execution is None:
                listed.append(foreign)
            elif self._is_listed(execution, since):
                listed.append(entry(execution))
        return ExecutionLog(listed[: limit if self.cap is None else min(limit, self.cap)])

    def _is_listed(self, execution: Mapping[str, Any], since: float | None) -> bool:
        if execution["at"] + self.lag > self.now:
            return False
        has_time = self.since_field == "queued" or execution["status"] != "queued"
        return since is None or (has_time and execution["at"] >= since)

    def _cancel(self, execution_id: str) -> None:
        self.cancelled.add(execution_id)
        for it in self.executions:
            if it["id"] == execution_id and Status.of(it["status"]).is_active:
                it["status"] = "canceling"
                return
        raise NotFound(404, "NotFound", "Execution was not found")


def entry(it: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": it["id"],
        "applicationId": APP,
        "notebookId": NOTEBOOK_ID,
        "status": it["status"],
        "runQueuedAt": format_timestamp(datetime.fromtimestamp(it["at"], UTC)),
        "templateContext": it["context"],
    }


def marker_of(it: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(it["context"])["airflow"]  # type: ignore[no-any-return]


def owner_of(it: Mapping[str, Any]) -> Owner:
    """Return the owner of an execution, the same for each of its tries."""
    return replace(Owner(**marker_of(it)), try_number=0)


class OneTask(RuleBasedStateMachine):
    """One task instance, its tries and its clears; Losant is the model."""

    @initialize(
        lag=st.sampled_from((0.0, 0.5, 5.0, 50.0)),
        has_state_store=st.booleans(),
        cap=st.sampled_from((None, 50)),
        refuses_above=st.sampled_from((None, None, 60)),
        since_field=st.sampled_from(("queued", "started")),
    )
    def deploy(self, lag: float, has_state_store: bool, **log: Any) -> None:
        self.losant = FakeLosant(lag, **log)
        self.try_number = 0
        self.max_tries = 3
        self.state = "none"  # none | waiting | dead | done | killed
        self.awaited_id: str | None = None
        self.has_state_store = has_state_store
        self.saved_ids: dict[int, str] = {}

    # -- actions of Airflow -----------------------------------------------------------------------------

    @precondition(lambda self: self.state in {"none", "dead"})
    @rule(data=st.data())
    def a_try_runs(self, data: st.DataObject) -> None:
        self.try_number += 1
        flow = submit_once(
            self.submission(),
            self.policy(),
            is_retry=self.try_number > 1,
            clock=lambda: self.losant.now,
            jitter=max,
        )
        self.drive(flow, data)

    @precondition(lambda self: self.state == "waiting")
    @rule(newer=st.sampled_from((0, 60)))
    def the_worker_dies_while_it_waits(self, newer: int) -> None:
        self.losant.add_foreign(newer if len(self.losant.log) < MAX_LOG else 0)
        self.state, self.awaited_id = "dead", None

    @precondition(lambda self: self.state == "waiting")
    @rule()
    def the_worker_is_shut_down_while_it_waits(self) -> None:
        self.ignore_not_found(self.losant._cancel, self.awaited_id)
        self.state, self.awaited_id = "dead", None

    @precondition(lambda self: self.state == "waiting")
    @rule(data=st.data())
    def a_user_marks_the_waiting_task(self, data: st.DataObject) -> None:
        assert self.awaited_id is not None
        self.was_cancelled = data.draw(st.booleans(), "the cancel arrives")
        if self.was_cancelled:
            self.ignore_not_found(self.losant._cancel, self.awaited_id)
        self.state, self.awaited_id = "killed", None

    @precondition(lambda self: self.state in {"killed", "done", "dead"})
    @rule()
    def a_user_clears_the_task(self) -> None:
        self.max_tries = self.try_number + 3
        self.state = "none"

    @precondition(lambda self: self.state == "waiting")
    @rule(ending=st.sampled_from(("completed", "errored", "timeout", "canceled")))
    def the_execution_ends_and_the_task_gets_the_result(self, ending: str) -> None:
        execution = next(it for it in self.losant.executions if it["id"] == self.awaited_id)
        if Status.of(execution["status"]).is_active:
            execution["status"] = ending
        self.state = "done" if execution["status"] == "completed" else "dead"
        self.awaited_id = None

    # -- actions of Losant ------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, 30.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.losant.now += seconds

    @precondition(lambda self: len(self.losant.log) < MAX_LOG)
    @rule(count=st.sampled_from((1, 60)))
    def other_clients_execute_the_notebook(self, count: int) -> None:
        self.losant.add_foreign(count)

    @rule(data=st.data(), ending=st.sampled_from(("inProgress", "completed", "errored")))
    def an_execution_changes_its_status(self, data: st.DataObject, ending: str) -> None:
        if active := self.losant.active():
            data.draw(st.sampled_from(active))["status"] = ending

    # -- invariants --------------------------------------------------------------------------------

    @invariant()
    def an_owner_never_has_two_active_executions(self) -> None:
        for each in {owner_of(it) for it in self.losant.executions}:
            assert len(self.losant.active(each)) <= 1

    @invariant()
    def an_owner_never_has_two_completed_executions(self) -> None:
        completed = [owner_of(it) for it in self.losant.executions if it["status"] == "completed"]
        assert len(completed) == len(set(completed))

    @invariant()
    def no_execution_of_another_client_is_cancelled(self) -> None:
        assert self.losant.cancelled <= {it["id"] for it in self.losant.executions}

    @invariant()
    def a_waiting_task_waits_for_an_execution_of_its_own_owner(self) -> None:
        if self.state == "waiting":
            execution = next(it for it in self.losant.executions if it["id"] == self.awaited_id)
            assert owner_of(execution) == self.owner(0)

    @invariant()
    def while_a_task_waits_no_older_execution_of_it_is_active(self) -> None:
        is_visible = self.losant.lag <= 1 and self.losant.shows_all
        if self.state == "waiting" and is_visible and not self.has_lost_a_cancel:
            assert all(owner_of(it) == self.owner(0) for it in self.losant.active())

    # -- helpers -------------------------------------------------------------------------------------

    has_lost_a_cancel = False

    def owner(self, try_number: int | None = None) -> Owner:
        number = self.try_number if try_number is None else try_number
        return owner(try_number=number, max_tries=self.max_tries)

    def submission(self) -> Submission:
        context = compact_json(self.owner().add_marker({}))
        options = execution_options(template_context=context)
        # Airflow 3.3 stores the id of the last execution that a try of this owner submitted or found.
        known_id = self.saved_ids.get(self.max_tries) if self.has_state_store else None
        return Submission(
            application_id=APP,
            notebook_id=NOTEBOOK_ID,
            options=options,
            owner=self.owner(),
            known_id=known_id,
        )

    @staticmethod
    def policy() -> SubmitPolicy:
        return SubmitPolicy(
            retries=4, max_log_lag=MAX_LOG_LAG, max_poll_outage=600.0, back_to=1_700_000_000.0 - 48 * 3600.0
        )

    def drive(self, flow: Flow[Started], data: st.DataObject) -> None:
        """Run a try; at any step the worker may die, or be killed by a user."""
        fate = data.draw(st.sampled_from(("lives", "dies", "dies", "is marked")), "the worker")
        end = None if fate == "lives" else data.draw(st.integers(0, 4), "at step")
        result: Any = None
        for number in range(500):
            try:
                step = flow.throw(result) if isinstance(result, LosantError) else flow.send(result)
            except StopIteration as end:
                self.state, self.awaited_id = "waiting", end.value.ref.execution_id
                self.check_reconnected(self.awaited_id)
                self.saved_ids[self.max_tries] = self.awaited_id
                return
            except LosantError:
                self.state = "dead"
                return
            result = self.perform_step(step, data)
            if number == end and fate == "dies":
                self.state = "dead"
                return
            if number == end and fate == "is marked":
                self.kill(data)
                return
            assert number < 499, "a try must end"

    def check_reconnected(self, execution_id: str) -> None:
        """Only this try's own execution may have failed; an earlier one must be active or completed."""
        execution = next(it for it in self.losant.executions if it["id"] == execution_id)
        if marker_of(execution)["try_number"] != self.try_number:
            assert execution["status"] in {"queued", "inProgress", "completed"}

    def kill(self, data: st.DataObject) -> None:
        """Kill the task during its submission: no execution of the owner stays active."""
        flow, result, has_read = self.find_and_cancel(), None, False
        for _ in range(50):
            try:
                step = flow.throw(result) if isinstance(result, LosantError) else flow.send(result)
            except StopIteration:
                break
            # The first search may fail in any way.
            is_first = isinstance(step, Call) and step.operation == "notebook.logs" and not has_read
            has_read = has_read or is_first
            result = self.perform_step(step, data if is_first else None)
        else:
            raise AssertionError("a kill must end")
        self.state = "killed"
        if self.losant.lag <= 1 and self.losant.shows_all:
            assert not self.losant.active(self.owner(0))

    def find_and_cancel(self) -> Flow[None]:
        finder = ExecutionFinder(
            submission=self.submission(), policy=self.policy(), clock=lambda: self.losant.now
        )
        for ref in (yield from finder.find_active(KILL_BUDGET)):
            yield from cancel(ref, "a test", max_log_lag=MAX_LOG_LAG, clock=finder.clock)

    def perform_step(self, step: Any, data: st.DataObject | None) -> Any:
        if isinstance(step, Sleep):
            self.losant.now += step.seconds
        if not isinstance(step, Call):
            assert isinstance(step, Sleep | LogLine)
            return None
        self.losant.now += 0.01
        fault = data.draw(st.sampled_from(FAULTS), step.operation) if data else "ok"
        if step.operation == "notebook.cancelExecution" and fault != "ok":
            self.has_lost_a_cancel = True
        try:
            return self.losant.perform(step, fault)
        except LosantError as error:
            return error

    @staticmethod
    def ignore_not_found(action: Any, *args: Any) -> None:
        with suppress(NotFound):
            action(*args)


TestOneTask = OneTask.TestCase
TestOneTask.settings = settings(max_examples=200, stateful_step_count=30, deadline=None, database=None)


def test_an_execution_of_an_older_try_does_not_stand_for_the_previous_try() -> None:
    """Found by the chaos run: the previous try had died during its submission, and the log lagged."""
    task = OneTask()
    task.deploy(lag=5.0, has_state_store=True)
    task.try_number = 1
    first = task.losant.perform(submit_call(task), "ok").execution_id
    task.saved_ids[task.max_tries] = first
    task.losant._cancel(first)
    task.losant.now += 30
    task.try_number = 2
    unlisted = task.losant.perform(submit_call(task), "ok").execution_id
    task.try_number = 3

    clock = task.losant
    flow = submit_once(task.submission(), task.policy(), is_retry=True, clock=lambda: clock.now, jitter=max)

    assert result_of(flow, task).ref.execution_id == unlisted
    assert len(task.losant.executions) == 2


@pytest.mark.parametrize(
    ("log", "is_found"),
    [({}, True), ({"cap": 50}, False), ({"refuses_above": 70}, False), ({"since_field": "started"}, True)],
    ids=["long", "cut off", "refused", "since refers to the start"],
)
def test_a_retry_never_submits_a_second_execution_however_the_log_is(
    log: dict[str, Any], *, is_found: bool
) -> None:
    task = OneTask()
    task.deploy(lag=0.0, has_state_store=False, **log)
    task.try_number = 1
    submitted = task.losant.perform(submit_call(task), "ok").execution_id
    task.losant.add_foreign(120)
    task.try_number = 2
    clock = task.losant

    flow = submit_once(task.submission(), task.policy(), is_retry=True, clock=lambda: clock.now, jitter=max)

    if is_found:
        assert result_of(flow, task).ref.execution_id == submitted
    else:
        with pytest.raises(SubmissionUnknown):
            result_of(flow, task)
    assert len(task.losant.executions) == 1


def result_of(flow: Flow[Started], task: OneTask) -> Started:
    """Run a flow without faults; returns its result."""
    response: Any = None
    while True:
        try:
            step = flow.throw(response) if isinstance(response, LosantError) else flow.send(response)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        response = task.perform_step(step, None)


def submit_call(task: OneTask) -> Call[Any]:
    return endpoints.execute(APP, NOTEBOOK_ID, task.submission().options)
