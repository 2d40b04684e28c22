# SPDX-License-Identifier: Apache-2.0
"""Every way through a flow sleeps, returns or raises: it asks neither without a pause nor for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    BadRequest,
    FileAccessDenied,
    Forbidden,
    LosantError,
    NotFound,
    NotLosantApi,
    OutputError,
    ProtocolError,
    RateLimited,
    ResponseTooLarge,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows import connection_test, deploy, outputs, polling
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.notebooks import list_notebooks
from airflow_provider_losant.api.flows.ownership import Owner
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.start_policy import StartPolicy
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, Sleep, Tail
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.model import ExecutionLog, Notebook
from airflow_provider_losant.api.usage import MinuteCounts
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    entry,
    execution_id_at,
)
from tests.support.hypothesis_settings import often

AT_ONCE = 12
"""Requests that may follow each other without a pause: longer logs, one after the other."""
ERRORS: list[LosantError] = [
    TransportError("lost"),
    TransportError("refused", was_sent=False),
    TlsError("self-signed"),
    ProtocolError("cut short"),
    ResponseTooLarge("endless"),
    NotLosantApi("a page"),
    NotLosantApi("a page, afterwards", may_have_taken_effect=True),
    BadRequest(400, "Validation", "no"),
    Unauthorized(401, "", "no"),
    Forbidden(403, "", "no"),
    NotFound(404, "", "no"),
    RateLimited(429, "", "slow down"),
    RateLimited(429, "", "slow down for nothing", retry_after=0.0),
    RateLimited(429, "", "slow down for long", retry_after=900.0),
    ServerError(503, "", "no"),
]
OWNER = Owner(
    dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=2, max_tries=3, deployment="here"
)
NOTHING_USED = MinuteCounts.from_api(
    {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "counts": []}
)
STATUSES = ("queued", "inProgress", "completed", "errored", "canceling", "a later word")


class Chance:
    """Carries out flows: time passes by sleeping, and a little with each request; chance answers."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.now = CREATED_AT + 100.0
        self._draw = draw

    def clock(self) -> float:
        return self.now

    def drive(self, flow: Any, most: int) -> float:
        """Carry a flow out; returns how long it took."""
        began, in_a_row, advance = self.now, 0, partial(next, flow)
        for _ in range(most):
            try:
                step = advance()
            except (StopIteration, LosantError):
                return self.now - began
            match step:
                case Sleep():
                    assert 0 <= step.seconds < 10_000
                    self.now += step.seconds
                    in_a_row = in_a_row if step.seconds == 0 else 0
                    advance = partial(flow.send, None)
                    continue
                case LogLine():
                    advance = partial(flow.send, None)
                    continue
            in_a_row += 1
            assert in_a_row <= AT_ONCE, "it asks over and over without a pause"
            self.now += 0.01
            answer = self._answer(step)
            advance = partial(flow.throw if isinstance(answer, LosantError) else flow.send, answer)
        pytest.fail(f"it goes on after {most} steps")

    def _answer(self, step: Any) -> Any:
        if self._draw(st.integers(0, 2)) == 0:
            return self._draw(
                st.sampled_from([*ERRORS, FileAccessDenied("expired"), OutputError("too large")])
            )
        if isinstance(step, Tail):
            return "the end"
        if isinstance(step, Fetch):
            return 3
        answers: dict[str, Callable[[], Any]] = {
            "notebook.execute": lambda: REF,
            "application.get": lambda: "Plant",
            "notebook.cancelExecution": lambda: None,
            "notebook.notebookMinuteCounts": lambda: NOTHING_USED,
            "notebook.logs": lambda: self._log(int(step.query["limit"])),
            "notebooks.get": self._page,
        }
        return answers.get(step.operation, self._notebook)()

    def _page(self) -> endpoints.Page:
        total = self._draw(st.sampled_from((0, 1, 5, 10**9)))
        return endpoints.Page(notebooks=[self._notebook()] * self._draw(st.integers(0, 2)), total=total)

    def _log(self, limit: int) -> ExecutionLog:
        entries = []
        for number in range(min(limit, self._draw(st.sampled_from((0, 1, 3, 100, 1_000))))):
            status = self._draw(st.sampled_from(STATUSES)) if number < 3 else "completed"
            marked = json.dumps(OWNER.add_marker({})) if number == 1 and self._draw(st.booleans()) else None
            files = {"result.error.log": {"url": "https://x", "size": 3}}
            run = EXECUTION_ID if number == 2 else execution_id_at(number)
            entries.append(entry(status, run, templateContext=marked, outputInfo=files))
        return ExecutionLog(entries)

    def _notebook(self) -> Notebook:
        name = self._draw(st.sampled_from(("Report", "Another")))
        url = self._draw(st.sampled_from(("https://x", None)))
        return Notebook.from_api(
            {"id": NOTEBOOK_ID, "applicationId": APPLICATION_ID, "name": name, "jupyterFileUrl": url}
        )


def submission(known_id: str | None = None, *, is_marked: bool = True) -> Submission:
    return Submission(
        application_id=APPLICATION_ID,
        notebook_id=NOTEBOOK_ID,
        options={"templateContext": "{}"},
        owner=OWNER if is_marked else None,
        known_id=known_id,
    )


def policy(chance: Chance) -> SubmitPolicy:
    del chance
    return SubmitPolicy(retries=3, max_log_lag=30.0, max_poll_outage=120.0, lookback=86_400.0)


def start_policy(chance: Chance, if_running: Any, **more: Any) -> StartPolicy:
    return StartPolicy(
        if_running=if_running,
        waiting_since=chance.now,
        give_up_at=chance.now + 600,
        poll_interval=20.0,
        **more,
    )


def starting(chance: Chance, **more: Any) -> Any:
    known = more.pop("submission", submission())
    return submit_once(known, policy(chance), clock=chance.clock, **{"is_retry": True, **more})


def watching(chance: Chance, interval: float, **more: Any) -> Any:
    config = WaitConfig(poll_interval=interval, deadline=chance.now + 600, max_poll_outage=120.0)
    return polling.wait_for_execution(Target.of(REF), config, clock=chance.clock, **more)


def plan(**more: Any) -> deploy.Plan:
    content = deploy.NotebookFile(name="report.ipynb", raw=b"{}")
    return deploy.Plan(application_id=APPLICATION_ID, content=content, **more)


def saving(chance: Chance) -> Any:
    del chance
    return outputs.download(REF, outputs.OutputSelection(), lambda _: open, 3)  # type: ignore[arg-type, return-value]


def searching(chance: Chance) -> ExecutionFinder:
    return ExecutionFinder(submission=submission(), policy=policy(chance), clock=chance.clock)


HOUR = 3_600.0
FLOWS: dict[str, tuple[Callable[[Chance], Any], float]] = {
    "repeat": (
        lambda _: call_with_retry(endpoints.get_notebook(APPLICATION_ID, NOTEBOOK_ID), 4),
        HOUR + 100,
    ),
    "list": (lambda _: list_notebooks(APPLICATION_ID, {}, 2), 3 * HOUR),
    "cancel": (lambda _: cancel(REF, "a test", retries=4), HOUR + 100),
    "start": (lambda it: starting(it, is_retry=False), 3 * HOUR),
    "start again": (starting, 4 * HOUR),
    "start again, known": (lambda it: starting(it, submission=submission(EXECUTION_ID)), 4 * HOUR),
    "start unmarked": (lambda it: starting(it, submission=submission(is_marked=False)), 2 * HOUR),
    **{
        f"start, {if_running}": (
            lambda it, if_running=if_running: starting(it, start_policy=start_policy(it, if_running)),
            8 * HOUR,
        )
        for if_running in ("wait", "adopt", "skip", "fail", "cancel_previous")
    },
    "start, minutes": (
        lambda it: starting(it, start_policy=start_policy(it, "start", max_minutes=5)),
        6 * HOUR,
    ),
    "landed": (lambda it: searching(it).find_lost(), HOUR),
    "withdraw": (lambda it: searching(it).cancel_lost(), HOUR),
    "watch": (lambda it: watching(it, 20.0), 600.0 + 2),
    "watch closely": (lambda it: watching(it, 1.0), 600.0 + 2),
    "watch, then cancel": (lambda it: watching(it, 20.0, cancel_on_timeout=True), 600.0 + HOUR),
    "find": (lambda _: outputs.find_execution(REF, 3), 2 * HOUR),
    "save": (saving, 8 * HOUR),
    "deploy": (lambda _: deploy.deploy(plan(name="Report", may_create=True), 3), 8 * HOUR),
    "deploy by id": (lambda _: deploy.deploy(plan(notebook_id=NOTEBOOK_ID), 3), 4 * HOUR),
    "check up": (lambda it: connection_test.check_connection(APPLICATION_ID, "token", it.clock), 10.0),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_always_ends_and_sleeps_between_requests(name: str) -> None:
    make, longest = FLOWS[name]

    @often
    @given(st.data())
    def check(data: st.DataObject) -> None:
        chance = Chance(data.draw)
        assert chance.drive(make(chance), 2_000) <= longest

    check()


@pytest.mark.parametrize("error", ERRORS, ids=[str(it) for it in ERRORS])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_ends_when_every_response_is_the_same_error(name: str, error: LosantError) -> None:
    make, longest = FLOWS[name]
    chance = Chance(lambda _: 0)
    chance._answer = lambda _: error  # type: ignore[method-assign]

    assert chance.drive(make(chance), 2_000) <= longest
