# SPDX-License-Identifier: Apache-2.0
"""
All interleavings of responses, losses, crashes, kills, clears and retries of one task.

The real flows run against a model of Losant and a model of Airflow.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_losant.api.flows.abandoned import Standstill, why_abandoned
from airflow_provider_losant.api.flows.reconnect import SubmissionUnknown
from tests.properties.airflow_model import HEARTBEAT_TIMEOUT, MAX_LOG_LAG, URLS, AirflowModel
from tests.support.losant_model import LosantModel

MAX_LOG = 110
"""Entries of a log from which on no more of other clients are added."""
LONG_LAG = 400.0
"""Seconds: more than ``max_log_lag``, so that a task may submit a second execution."""

PLACES = ("worker", "triggerer", "neither")
"""Where a kill arrives."""


class OneTask(RuleBasedStateMachine):
    """One task, its tries and its clears."""

    @initialize(
        lag=st.sampled_from((0.0, 0.5, 5.0, 50.0)),
        has_state_store=st.booleans(),
        cap=st.sampled_from((None, None, 50)),
        refuses_above=st.sampled_from((None, None, None, 60)),
        since_field=st.sampled_from(("queued", "started")),
        skew=st.sampled_from((0.0, -10.0, 10.0)),
    )
    def deploy(self, has_state_store: bool, **losant: Any) -> None:
        self.losant = LosantModel(**losant)
        self.usual_lag = self.losant.lag
        self.airflow = AirflowModel(self.losant, has_state_store=has_state_store)
        self.frozen: list[tuple[Standstill, str]] = []
        """Processes that stand still, of tries that Airflow has given up, and what they wait for."""
        self.may_have_twins = False
        """Whether an owner may have two active executions, because the log lagged for too long."""
        self.had_twins: set[tuple[Any, ...]] = set()
        self.is_recreated = False

    # -- a try ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.airflow.state in {None, "up_for_retry"})
    @rule(data=st.data(), url=st.sampled_from((URLS[0], *URLS)))
    def a_try_runs(self, data: st.DataObject, url: str) -> None:
        self.airflow.deployment = url
        worker = data.draw(st.sampled_from(("lives", "dies", "dies", "is marked")), "the worker")
        end = None if worker == "lives" else data.draw(st.integers(0, 4), "at step")
        self.airflow.run_try(data.draw, worker=worker, end=end)

    @precondition(lambda self: self.airflow.is_waiting)
    @rule(newer=st.sampled_from((0, 60)))
    def the_worker_dies_while_it_waits(self, newer: int) -> None:
        self.losant.add_foreign(newer if len(self.losant.log) < MAX_LOG else 0, self.airflow.owner())
        self.airflow.fail_try()

    @precondition(lambda self: self.airflow.is_waiting)
    @rule()
    def the_worker_is_shut_down_while_it_waits(self) -> None:
        self.airflow.kill()
        self.airflow.fail_try()

    @precondition(lambda self: self.airflow.is_waiting)
    @rule(is_reachable=st.booleans())
    def the_wait_is_given_up(self, is_reachable: bool) -> None:
        self.airflow.give_up_wait(is_reachable=is_reachable)

    @precondition(lambda self: self.airflow.is_waiting)
    @rule(ending=st.sampled_from(("completed", "errored", "timeout", "canceled")))
    def the_execution_ends_and_the_task_gets_the_result(self, ending: str) -> None:
        run = self.losant.find(self.airflow.awaited_id)
        if run.is_active:
            run.status = ending
        if run.status == "completed":
            self.airflow.enter("success")
        else:
            self.airflow.fail_try()

    # -- a process that stands still ------------------------------------------------------------------------

    @precondition(lambda self: self.airflow.is_waiting)
    @rule(seconds=st.sampled_from((100.0, 400.0)))
    def the_worker_stands_still(self, seconds: float) -> None:
        self.losant.now += seconds
        if seconds > HEARTBEAT_TIMEOUT:
            self.frozen.append((self.airflow.standstill, self.airflow.awaited_id or ""))
            self.airflow.fail_try()
        else:
            self.airflow.standstill.note_progress()

    @precondition(lambda self: self.frozen)
    @rule(seconds=st.sampled_from((0.0, 1.0, 60.0)))
    def a_process_that_stood_still_wakes_up_and_is_killed(self, seconds: float) -> None:
        standstill, awaited_id = self.frozen.pop(0)
        standstill.note_progress()
        self.airflow.pass_time(seconds)
        before = self.losant.find(awaited_id).status
        if not standstill.is_recent:
            self.airflow.ask_to_cancel(awaited_id)

        assert self.losant.find(awaited_id).status == before

    # -- users ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.airflow.is_waiting)
    @rule(
        state=st.sampled_from(("success", "failed")),
        where=st.sampled_from(PLACES),
    )
    def a_user_marks_the_waiting_task(self, state: str, where: str) -> None:
        self.kill_where(where, state)
        self.airflow.enter(state)

    @precondition(lambda self: self.airflow.state is not None)
    @rule(
        retries=st.sampled_from((0, 1, 3)),
        has_ended=st.booleans(),
        reconnects=st.booleans(),
        where=st.sampled_from(PLACES),
    )
    def a_user_clears_the_task(self, retries: int, has_ended: bool, reconnects: bool, where: str) -> None:
        if self.airflow.is_waiting:
            self.kill_where(where, None)
        # In a DAG run that was created again, it may look like a clear in the deleted one.
        self.airflow.reconnect_after_clear = reconnects and not self.is_recreated
        is_over = has_ended and self.airflow.state in {"success", "failed"}
        self.airflow.clear(retries, dag_run_had_ended=is_over)

    @precondition(lambda self: self.airflow.try_number > 0)
    @rule(retries=st.sampled_from((1, 3)), reconnects=st.booleans())
    def the_dag_run_is_deleted_and_created_again(self, retries: int, reconnects: bool) -> None:
        self.airflow.reconnect_after_clear, self.is_recreated = reconnects, True
        # With more retries than before it would look like one that was cleared.
        self.airflow.create_dag_run(min(retries, *self.airflow.all_max_tries))

    def kill_where(self, where: str, state: str | None) -> None:
        """Kill the waiting process, or its trigger; or the kill does not arrive."""
        awaited_id = self.airflow.awaited_id or ""
        if where == "worker":
            self.airflow.kill()
        if where == "triggerer" and why_abandoned(state, awaited_id) is not None:
            self.airflow.ask_to_cancel(awaited_id)
        assert where == "neither" or not self.losant.find(awaited_id).is_active

    # -- the sweep ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.losant.shows_all)
    @rule()
    def the_sweep_runs(self) -> None:
        self.airflow.sweep()
        if self.airflow.state == "up_for_retry":
            return
        left = [it for it in self.losant.listed() if it.is_active]
        assert [it.id for it in left] in ([], [self.airflow.awaited_id])
        is_all_listed = len(self.losant.listed()) == len(self.losant.runs)
        if is_all_listed and self.losant.lag <= MAX_LOG_LAG:
            self.may_have_twins = False

    # -- Losant -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, 30.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.airflow.pass_time(seconds)

    @precondition(lambda self: len(self.losant.log) < MAX_LOG)
    @rule(count=st.sampled_from((6, 60)))
    def other_clients_execute_the_notebook(self, count: int) -> None:
        self.losant.add_foreign(count, self.airflow.owner())

    @rule(data=st.data(), ending=st.sampled_from(("inProgress", "completed", "errored")))
    def an_execution_changes_its_status(self, data: st.DataObject, ending: str) -> None:
        if active := self.losant.active():
            data.draw(st.sampled_from(active)).status = ending

    @precondition(lambda self: self.losant.lag <= MAX_LOG_LAG)
    @rule()
    def the_log_lags_for_longer_than_max_log_lag(self) -> None:
        self.losant.lag, self.may_have_twins = LONG_LAG, True

    @precondition(lambda self: self.losant.lag > MAX_LOG_LAG)
    @rule()
    def the_log_lags_as_usual_again(self) -> None:
        self.losant.lag = self.usual_lag

    # -- invariants -------------------------------------------------------------------------------------

    @invariant()
    def an_owner_never_has_two_active_executions(self) -> None:
        active = [it.identity for it in self.losant.active()]
        if self.may_have_twins:
            self.had_twins.update(it.identity for it in self.losant.runs)
        else:
            assert len(active) == len(set(active))

    @invariant()
    def an_owner_never_has_two_completed_executions(self) -> None:
        completed = [it.identity for it in self.losant.runs if it.status == "completed"]
        single = [it for it in completed if it not in self.had_twins]
        assert len(single) == len(set(single))

    @invariant()
    def after_the_last_try_no_execution_is_active(self) -> None:
        if self.airflow.given_up is not None:
            assert not self.losant.active(self.airflow.given_up)

    @invariant()
    def no_execution_of_another_owner_is_cancelled(self) -> None:
        assert set(self.losant.cancel_requests) <= {it.id for it in self.losant.runs}

    @invariant()
    def a_task_waits_only_for_an_execution_of_its_own(self) -> None:
        if self.airflow.is_waiting:
            run = self.losant.find(self.airflow.awaited_id)
            is_earlier = self.airflow.reconnect_after_clear and self.airflow.is_of_this_dag_run(run)
            assert run.identity == self.airflow.identity or is_earlier

    @invariant()
    def while_a_task_waits_no_other_execution_of_it_is_active(self) -> None:
        """As far as the log showed them when the try began, and the deployment is known to be the same."""
        airflow, losant = self.airflow, self.losant
        is_shown = losant.shows_all and losant.since_field == "queued"
        if airflow.is_waiting and airflow.try_number > 1 and is_shown and not airflow.lost_a_cancel:
            known = [it for it in losant.active() if it.listed_at <= airflow.try_began_at]
            same = [it.id for it in known if it.marker.deployment == airflow.deployment]
            assert same in ([], [airflow.awaited_id])


TestOneTask = OneTask.TestCase
TestOneTask.settings = settings(max_examples=200, stateful_step_count=30, deadline=None, database=None)


def test_an_execution_of_an_older_try_does_not_stand_for_the_previous_try() -> None:
    """Found by the chaos run: the previous try had died during its submission, and the log lagged."""
    losant = LosantModel(lag=5.0)
    airflow = AirflowModel(losant, has_state_store=True)
    airflow.run_try()
    losant.cancel(airflow.awaited_id or "")
    airflow.fail_try()
    losant.now += 30
    airflow.try_number = 2
    unlisted = losant.perform(airflow.submit_call()).execution_id

    airflow.run_try()

    assert airflow.awaited_id == unlisted
    assert len(losant.runs) == 2


@pytest.mark.parametrize(
    ("log", "is_found"),
    [({}, True), ({"cap": 50}, False), ({"refuses_above": 70}, False), ({"since_field": "started"}, True)],
    ids=["long", "cut off", "refused", "since refers to the start"],
)
def test_a_retry_never_submits_a_second_execution_however_the_log_is(
    log: dict[str, Any], *, is_found: bool
) -> None:
    losant = LosantModel(**log)
    airflow = AirflowModel(losant)
    airflow.run_try()
    submitted = airflow.awaited_id
    airflow.fail_try()
    losant.add_foreign(120)
    airflow.try_number += 1

    if is_found:
        assert airflow.run(airflow.submission_flow()).ref.execution_id == submitted
    else:
        with pytest.raises(SubmissionUnknown):
            airflow.run(airflow.submission_flow())
    assert len(losant.runs) == 1
