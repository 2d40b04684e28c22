# SPDX-License-Identifier: Apache-2.0
"""
All interleavings of answers, losses, crashes, kills, clears and retries around one task instance.

The machine's model is Losant: a list of executions, a log that may lag, requests that may be lost on the
way there or back. Against it run the real flows, fed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import LosantError, NotFound, RateLimited, ServerError, TransportError
from airflow_provider_losant.api.flows.ownership import Owner
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.model import Execution, ExecutionRef, Status
from airflow_provider_losant.api.payloads import compact_json, execution_options
from airflow_provider_losant.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow

APP, NOTEBOOK_ID = "a" * 24, "b" * 24
PATIENCE = 60.0
FAULTS = ("ok", "ok", "ok", "refused", "limited", "lost_there", "lost_back", "failed_there", "failed_back")
END = object()


class FakeLosant:
    """What Losant would hold and answer; time passes only when a flow sleeps."""

    def __init__(self, lag: float) -> None:
        self.now = 1_700_000_000.0
        self.lag = lag
        self.executions: list[dict[str, Any]] = []

    def perform(self, call: Call[Any], fault: str) -> Any:
        if fault == "refused":
            raise TransportError("refused", was_sent=False)
        if fault == "limited":
            raise RateLimited(429, "", "slow down", retry_after=2.0)
        if fault == "lost_there":
            raise TransportError("lost")
        if fault == "failed_there":
            raise ServerError(502, "", "bad gateway")
        answer = self._answer(call)
        if fault == "lost_back":
            raise TransportError("lost")
        if fault == "failed_back":
            raise ServerError(503, "", "unavailable")
        return answer

    def active(self, chain_id: str | None = None) -> list[dict[str, Any]]:
        return [
            it
            for it in self.executions
            if Status.of(it["status"]).is_active and chain_id in {None, mark_of(it)["id"]}
        ]

    def _answer(self, call: Call[Any]) -> Any:
        match call.operation:
            case "notebook.execute":
                return self._execute(call.json or {})
            case "notebook.logs":
                return self._logs(call.query)
            case _:
                return self._cancel(call.query["executionId"])

    def _execute(self, options: Mapping[str, Any]) -> ExecutionRef:
        execution_id = f"{int(self.now):08x}{len(self.executions):016x}"
        self.executions.append(
            {"id": execution_id, "status": "queued", "at": self.now, "context": options["templateContext"]}
        )
        return ExecutionRef(application_id=APP, notebook_id=NOTEBOOK_ID, execution_id=execution_id)

    def _logs(self, query: Mapping[str, str]) -> list[Execution]:
        since = int(query["since"]) / 1000
        shown = [it for it in self.executions if it["at"] >= since and it["at"] + self.lag <= self.now]
        return [entry(it) for it in reversed(shown)][: int(query["limit"])]

    def _cancel(self, execution_id: str) -> None:
        for it in self.executions:
            if it["id"] == execution_id and Status.of(it["status"]).is_active:
                it["status"] = "canceling"
                return
        raise NotFound(404, "NotFound", "Execution was not found")


def entry(it: Mapping[str, Any]) -> Execution:
    return Execution(
        ref=ExecutionRef(application_id=APP, notebook_id=NOTEBOOK_ID, execution_id=it["id"]),
        status=Status.of(it["status"]),
        queued_at=datetime.fromisoformat(format_timestamp(datetime.fromtimestamp(it["at"], UTC))),
        template_context=it["context"],
    )


def mark_of(it: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(it["context"])["airflow"]  # type: ignore[no-any-return]


class OneTask(RuleBasedStateMachine):
    """One task instance, its tries and its clears; Losant is the model."""

    @initialize(lag=st.sampled_from((0.0, 0.5, 5.0, 50.0)), keeps_notes=st.booleans())
    def deploy(self, lag: float, keeps_notes: bool) -> None:
        self.losant = FakeLosant(lag)
        self.try_number = 0
        self.max_tries = 3
        self.state = "none"  # none | waiting | dead | done | killed
        self.held: str | None = None
        self.keeps_notes = keeps_notes
        self.noted: dict[int, str] = {}

    # -- what Airflow does ------------------------------------------------------------------------------

    @precondition(lambda self: self.state in {"none", "dead"})
    @rule(data=st.data())
    def run_a_try(self, data: st.DataObject) -> None:
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
    @rule()
    def the_worker_dies_while_it_waits(self) -> None:
        self.state, self.held = "dead", None

    @precondition(lambda self: self.state == "waiting")
    @rule()
    def the_worker_is_shut_down_while_it_waits(self) -> None:
        self.finish_quietly(self.losant._cancel, self.held)
        self.state, self.held = "dead", None

    @precondition(lambda self: self.state == "waiting")
    @rule(data=st.data())
    def a_user_marks_the_waiting_task(self, data: st.DataObject) -> None:
        assert self.held is not None
        self.killed_cleanly = data.draw(st.booleans(), "the cancel arrives")
        if self.killed_cleanly:
            self.finish_quietly(self.losant._cancel, self.held)
        self.state, self.held = "killed", None

    @precondition(lambda self: self.state in {"killed", "done", "dead"})
    @rule()
    def a_user_clears_the_task(self) -> None:
        self.max_tries = self.try_number + 3
        self.state = "none"

    @precondition(lambda self: self.state == "waiting")
    @rule(ending=st.sampled_from(("completed", "errored", "timeout", "canceled")))
    def the_run_ends_and_the_task_sees_it(self, ending: str) -> None:
        run = next(it for it in self.losant.executions if it["id"] == self.held)
        if Status.of(run["status"]).is_active:
            run["status"] = ending
        self.state = "done" if run["status"] == "completed" else "dead"
        self.held = None

    # -- what Losant does -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, 30.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.losant.now += seconds

    @rule(data=st.data(), ending=st.sampled_from(("inProgress", "completed", "errored")))
    def a_run_goes_on(self, data: st.DataObject, ending: str) -> None:
        if active := self.losant.active():
            data.draw(st.sampled_from(active))["status"] = ending

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def a_chain_never_has_two_active_runs(self) -> None:
        for owner in {mark_of(it)["id"] for it in self.losant.executions}:
            assert len(self.losant.active(owner)) <= 1

    @invariant()
    def a_chain_never_has_two_completed_runs(self) -> None:
        completed = [mark_of(it)["id"] for it in self.losant.executions if it["status"] == "completed"]
        assert len(completed) == len(set(completed))

    @invariant()
    def a_waiting_task_holds_a_run_of_its_own_chain(self) -> None:
        if self.state == "waiting":
            run = next(it for it in self.losant.executions if it["id"] == self.held)
            assert mark_of(run)["id"] == self.owner().id

    @invariant()
    def while_a_task_waits_no_older_run_of_it_is_active(self) -> None:
        if self.state == "waiting" and self.losant.lag <= 1 and not self.has_lost_a_cancel:
            assert all(mark_of(it)["id"] == self.owner().id for it in self.losant.active())

    # -- the hands --------------------------------------------------------------------------------------

    has_lost_a_cancel = False

    def owner(self) -> Owner:
        return Owner(
            dag_id="dag",
            task_id="task",
            run_id="run",
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            deployment="here",
        )

    def submission(self) -> Submission:
        context = compact_json(self.owner().add_marker({}))
        options = execution_options(template_context=context)
        # Airflow 3.3 keeps the id of the last run that a try of this chain came to know.
        known_id = self.noted.get(self.max_tries) if self.keeps_notes else None
        return Submission(
            application_id=APP,
            notebook_id=NOTEBOOK_ID,
            options=options,
            owner=self.owner(),
            known_id=known_id,
        )

    @staticmethod
    def policy() -> SubmitPolicy:
        return SubmitPolicy(retries=4, max_log_lag=PATIENCE, max_poll_outage=600.0, lookback=48 * 3600.0)

    def drive(self, flow: Flow[Started], data: st.DataObject) -> None:
        """Carry a try out; at any step the worker may be killed for good, or by a user."""
        fate = data.draw(st.sampled_from(("lives", "dies", "dies", "is marked")), "the worker")
        end = None if fate == "lives" else data.draw(st.integers(0, 4), "at step")
        result: Any = None
        for number in range(500):
            try:
                step = flow.throw(result) if isinstance(result, LosantError) else flow.send(result)
            except StopIteration as end:
                self.state, self.held = "waiting", end.value.ref.execution_id
                self.check_what_was_taken_over(self.held)
                self.noted[self.max_tries] = self.held
                return
            except LosantError:
                self.state = "dead"
                return
            result = self.carry_out(step, data)
            if number == end and fate == "dies":
                self.state = "dead"
                return
            if number == end and fate == "is marked":
                self.cancel_lost()
                return
            assert number < 499, "a try must come to an end"

    def check_what_was_taken_over(self, execution_id: str) -> None:
        """Only this try's own run may have ended badly; of earlier tries, only good ones are worth having."""
        run = next(it for it in self.losant.executions if it["id"] == execution_id)
        if mark_of(run)["try_number"] != self.try_number:
            assert run["status"] in {"queued", "inProgress", "completed"}

    def cancel_lost(self) -> None:
        """Be killed by a user while Losant answers: nothing of the chain stays active."""
        flow = ExecutionFinder(
            submission=self.submission(), policy=self.policy(), clock=lambda: self.losant.now
        ).cancel_lost()
        result: Any = None
        for _ in range(50):
            try:
                step = flow.throw(result) if isinstance(result, LosantError) else flow.send(result)
            except StopIteration:
                break
            result = self.carry_out(step, None)
        self.state = "killed"
        if self.losant.lag <= 1:
            assert not self.losant.active(self.owner().id)

    def carry_out(self, step: Any, data: st.DataObject | None) -> Any:
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
    def finish_quietly(action: Any, *args: Any) -> None:
        with suppress(NotFound):
            action(*args)


TestOneTask = OneTask.TestCase
TestOneTask.settings = settings(max_examples=400, stateful_step_count=30, deadline=None, database=None)


def test_an_execution_of_an_older_try_does_not_stand_for_the_previous_try() -> None:
    """Found by chaos: the try before had died with its order under way, in a log that lagged."""
    task = OneTask()
    task.deploy(lag=5.0, keeps_notes=True)
    task.try_number = 1
    first = task.losant.perform(order_call(task), "ok").execution_id
    task.noted[task.max_tries] = first
    task.losant._cancel(first)
    task.losant.now += 30
    task.try_number = 2
    hidden = task.losant.perform(order_call(task), "ok").execution_id
    task.try_number = 3

    clock = task.losant
    flow = submit_once(task.submission(), task.policy(), is_retry=True, clock=lambda: clock.now, jitter=max)

    assert result_of(flow, task).ref.execution_id == hidden
    assert len(task.losant.executions) == 2


def result_of(flow: Flow[Started], task: OneTask) -> Started:
    """Carry a flow out while nothing goes wrong."""
    answer = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer = task.carry_out(step, None)


def order_call(task: OneTask) -> Call[Any]:
    return endpoints.execute(APP, NOTEBOOK_ID, task.submission().options)
