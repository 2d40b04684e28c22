# SPDX-License-Identifier: Apache-2.0
"""
A model of Airflow with one task: its tries, its clears, and what the task's process does in a try.

The process runs the real flows against a model of Losant, and decides by the real rules, as the execution
session does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import LosantError, NotFound
from airflow_provider_losant.api.flows.abandoned import (
    WAITING_STATES,
    Standstill,
    is_last_try,
    why_abandoned,
)
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import Owner, format_start
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.payloads import compact_json, execution_options
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID, owner

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.submission import Started
    from tests.support.losant_model import LosantModel, Run

Draw = Callable[[Any, str], Any]
"""Draws a value from a strategy, with a label."""

MAX_LOG_LAG = 60.0
HEARTBEAT_TIMEOUT = 300.0
KILL_BUDGET = 3.5
FAILURE_BUDGET = 30.0
FAULTS = ("ok", "ok", "ok", "refused", "limited", "lost_there", "lost_back", "failed_there", "failed_back")
URLS = ("https://airflow.example", "https://renamed.example")


class AirflowModel:
    """One task of one DAG run in Airflow, and the process that runs it."""

    def __init__(self, losant: LosantModel, *, has_state_store: bool = False) -> None:
        self.losant = losant
        self.has_state_store = has_state_store
        self.saved_ids: dict[tuple[Any, ...], str] = {}
        self.deployment = URLS[0]
        self.reconnect_after_clear = False
        self.state: str | None = None
        """The state of the task instance; None before its first try, and after a clear."""
        self.awaited_id: str | None = None
        """The execution for which a try waits, in the states of a running task."""
        self.dag_runs: list[set[str]] = []
        """The starts of each DAG run that was created under the run id, one more by each clear."""
        self.try_began_at = 0.0
        self.lost_a_cancel = False
        """Whether a fault hit a cancellation of the current try."""
        self.given_up: tuple[Any, ...] | None = None
        """The owner whose last try has failed while Losant could be reached."""
        self.all_max_tries: set[int] = set()
        self.create_dag_run(retries=3)

    # -- what users and Airflow do ------------------------------------------------------------------------

    def create_dag_run(self, retries: int) -> None:
        """Create the DAG run, after deleting the one of the same run id."""
        self.dag_runs.append(set())
        self.start_dag_run()
        self.try_number, self.max_tries = 0, retries
        self.all_max_tries.add(self.max_tries)
        self.enter(None)

    def start_dag_run(self) -> None:
        self.losant.now += 0.1
        self.dag_run_start = format_start(datetime.fromtimestamp(self.losant.now, UTC))
        self.dag_runs[-1].add(self.dag_run_start)

    def clear(self, retries: int, *, dag_run_had_ended: bool) -> None:
        """
        Clear the task; a running one has been killed before.

        :param retries: In a DAG run that goes on, too few to leave ``max_tries`` as it is count as one more.
        """
        if dag_run_had_ended:
            self.start_dag_run()
        least = 0 if dag_run_had_ended else self.max_tries + 1
        self.max_tries = max(self.try_number + retries, least)
        self.all_max_tries.add(self.max_tries)
        self.enter(None)

    def fail_try(self) -> None:
        """End the current try as failed; the task is retried as long as tries are left."""
        self.enter("up_for_retry" if self.try_number <= self.max_tries else "failed")

    def enter(self, state: str | None) -> None:
        self.state, self.awaited_id, self.given_up = state, None, None

    @property
    def is_waiting(self) -> bool:
        return self.awaited_id is not None

    @property
    def identity(self) -> tuple[Any, ...]:
        """The same for all executions of the current owner, and for no others."""
        it = self.owner()
        return it.dag_id, it.task_id, it.run_id, it.map_index, it.dag_run_start, it.max_tries

    def is_of_this_dag_run(self, run: Run) -> bool:
        """Tell whether an execution is not of a DAG run that was deleted since."""
        return run.marker.dag_run_start in self.dag_runs[-1]

    def sweep(self) -> None:
        """Cancel what the orphan sweep cancels; it reads the task's state and its XCom."""
        awaited_id = self.awaited_id if self.state in WAITING_STATES else None
        for run in self.losant.listed():
            if run.is_active and why_abandoned(self.state, run.id, awaited_id) is not None:
                self.losant.cancel(run.id)

    # -- what the process of a try does -------------------------------------------------------------------

    def run_try(self, draw: Draw | None = None, *, worker: str = "lives", end: int | None = None) -> None:
        """
        Run the submission of the next try.

        :param draw: Draws the fault of each request; without it there are none.
        :param worker: What happens to it after the step ``end``: it ``dies``, or ``is marked`` by a user.
        """
        self.try_number += 1
        self.try_began_at, self.lost_a_cancel = self.losant.now, False
        flow, response = self.submission_flow(), None
        for number in count():
            assert number < 500, "a try must end"
            try:
                step = flow.throw(response) if isinstance(response, LosantError) else flow.send(response)
            except StopIteration as stop:
                self.wait_for(stop.value)
                return
            except LosantError as error:
                self.fail_try()
                self.give_up_after(error, draw)
                return
            response = self.perform(step, draw)
            if number == end and worker == "dies":
                self.fail_try()
                return
            if number == end and worker == "is marked":
                self.kill_during_submission(draw)
                return

    def submission_flow(self) -> Flow[Any]:
        return submit_once(
            self.submission(),
            self.policy(),
            is_retry=self.try_number > 1,
            clock=self.losant.clock,
            jitter=max,
        )

    def wait_for(self, started: Started) -> None:
        execution_id = started.ref.execution_id
        self.enter("running")
        self.awaited_id = self.saved_ids[self.identity] = execution_id
        self.standstill = Standstill(HEARTBEAT_TIMEOUT / 2, self.losant.clock)
        run = self.losant.find(execution_id)
        # Only this try's own execution may have failed meanwhile.
        is_own = run.identity == self.identity and run.marker.try_number == self.try_number
        assert is_own or run.status in {"queued", "inProgress", "completed"}

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in which a waiting process polls."""
        for _ in range(20):
            self.losant.now += seconds / 20
            if self.is_waiting:
                self.standstill.note_progress()

    def kill(self) -> None:
        """Kill the waiting process, which then cancels its execution."""
        if not self.standstill.is_recent:
            self.ask_to_cancel(self.awaited_id)

    def give_up_after(self, error: LosantError, draw: Draw | None) -> None:
        """After the last try has failed to submit, cancel what it may have submitted all the same."""
        if not is_last_try(self.try_number, self.max_tries):
            return
        is_reachable = draw is None or draw(st.booleans(), "Losant can be reached")
        # Of two, the search ends with the first one that is listed; the other is left to the sweep.
        is_single = len(self.losant.active(self.identity)) <= 1
        is_shown = is_single and all(it.listed_at <= self.losant.now + 20 for it in self.losant.runs)
        if isinstance(error, SubmissionUnknown):
            self.run(self.find_and_cancel(FAILURE_BUDGET), None if is_reachable else draw)
        if is_reachable and is_shown and self.losant.shows_all:
            self.given_up = self.identity

    def give_up_wait(self, *, is_reachable: bool) -> None:
        """Fail a try that waits; after the last one, the execution is cancelled."""
        awaited_id = self.awaited_id
        self.fail_try()
        if is_last_try(self.try_number, self.max_tries) and is_reachable:
            identity = self.losant.find(awaited_id).identity
            is_single = len(self.losant.active(identity)) <= 1
            self.ask_to_cancel(awaited_id)
            self.given_up = identity if is_single else None

    def kill_during_submission(self, draw: Draw | None) -> None:
        """Kill the process before it has the id of its execution; only the first search may fail."""
        searches = 0

        def draw_for_first(strategy: Any, label: str) -> Any:
            nonlocal searches
            searches += 1
            return draw(strategy, label) if draw and searches == 1 else "ok"

        self.run(self.find_and_cancel(KILL_BUDGET), draw_for_first)
        self.enter("failed")
        if self.losant.shows_all and all(it.listed_at <= self.losant.now for it in self.losant.runs):
            self.given_up = self.identity

    def find_and_cancel(self, budget: float) -> Flow[None]:
        finder = ExecutionFinder(
            submission=self.submission(), policy=self.policy(), clock=self.losant.clock, jitter=max
        )
        for ref in (yield from finder.find_active(budget)):
            yield from cancel(
                ref, "a test", max_log_lag=MAX_LOG_LAG, retries=3, clock=finder.clock, jitter=max
            )

    def ask_to_cancel(self, execution_id: str | None) -> None:
        assert execution_id is not None
        with suppress(NotFound):
            self.losant.cancel(execution_id)

    def run(self, flow: Flow[Any], draw: Draw | None = None) -> Any:
        """Run a flow to its end; returns its result."""
        response: Any = None
        for _ in range(500):
            try:
                step = flow.throw(response) if isinstance(response, LosantError) else flow.send(response)
            except StopIteration as end:
                return end.value
            response = self.perform(step, draw)
        raise AssertionError("a flow must end")

    def perform(self, step: Any, draw: Draw | None) -> Any:
        fault = "ok"
        if isinstance(step, Call) and draw is not None:
            fault = draw(st.sampled_from(FAULTS), step.operation)
            if step.operation == "notebook.cancelExecution" and fault != "ok":
                self.lost_a_cancel = True
        return self.losant.perform(step, fault)

    # -- what it submits ----------------------------------------------------------------------------------

    def owner(self) -> Owner:
        return owner(
            try_number=self.try_number,
            max_tries=self.max_tries,
            dag_run_start=self.dag_run_start,
            deployment=self.deployment,
        )

    def submission(self) -> Submission:
        # Airflow 3.3 stores the id of the last execution that a try of this owner submitted or found.
        known_id = self.saved_ids.get(self.identity) if self.has_state_store else None
        return Submission(
            application_id=APPLICATION_ID,
            notebook_id=NOTEBOOK_ID,
            options=execution_options(template_context=compact_json(self.owner().add_marker({}))),
            owner=self.owner(),
            known_id=known_id,
        )

    def submit_call(self) -> Call[Any]:
        return endpoints.execute(APPLICATION_ID, NOTEBOOK_ID, self.submission().options)

    def policy(self) -> SubmitPolicy:
        return SubmitPolicy(
            retries=4,
            max_log_lag=MAX_LOG_LAG,
            max_poll_outage=600.0,
            back_to=1_700_000_000.0 - 48 * 3_600.0,
            reconnect_after_clear=self.reconnect_after_clear,
        )
