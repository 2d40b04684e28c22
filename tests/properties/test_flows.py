# SPDX-License-Identifier: Apache-2.0
"""Every path through a flow sleeps, returns or raises: it neither polls without a pause nor forever."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
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
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows import connection_test, deploy, outputs, polling
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.locate import locate_notebook
from airflow_provider_losant.api.flows.notebooks import find_notebook, list_notebooks
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.start_policy import StartPolicy
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, Sleep, Tail
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.model import MinuteCounts, Notebook
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    entry,
    execution_id_at,
    owner,
)
from tests.support.hypothesis_settings import often

MAX_REQUESTS_IN_A_ROW = 12
"""Requests that may follow each other without a pause, as when a log is requested with higher limits."""
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
OWNER = owner(try_number=2)
NOTHING_USED = MinuteCounts.from_api(
    {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "counts": []}
)
STATUSES = ("queued", "inProgress", "completed", "errored", "canceling", "a later word")


class RandomLosant:
    """Runs flows with random responses; its clock advances by sleeping and a little with each request."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.now = CREATED_AT + 100.0
        self._draw = draw

    def clock(self) -> float:
        return self.now

    def drive(self, flow: Any, max_steps: int) -> float:
        """Run a flow; returns its duration in seconds."""
        started, in_a_row, advance = self.now, 0, partial(next, flow)
        for _ in range(max_steps):
            try:
                step = advance()
            except (StopIteration, LosantError):
                return self.now - started
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
            assert in_a_row <= MAX_REQUESTS_IN_A_ROW, "the flow sends requests without a pause"
            self.now += 0.01
            response = self._respond(step)
            advance = partial(flow.throw if isinstance(response, LosantError) else flow.send, response)
        pytest.fail(f"the flow has not ended after {max_steps} steps")

    def _respond(self, step: Any) -> Any:
        if self._draw(st.integers(0, 2)) == 0:
            return self._draw(
                st.sampled_from([*ERRORS, FileAccessDenied("expired"), OutputError("too large")])
            )
        if isinstance(step, Tail):
            return "the end"
        if isinstance(step, Fetch):
            return 3
        responses: dict[str, Callable[[], Any]] = {
            "notebook.execute": lambda: REF,
            "application.get": lambda: "Plant",
            "notebook.cancelExecution": lambda: None,
            "notebook.notebookMinuteCounts": lambda: NOTHING_USED,
            "notebook.logs": lambda: self._log(int(step.query["limit"])),
            "notebooks.get": self._page,
        }
        return responses.get(step.operation, self._notebook)()

    def _page(self) -> endpoints.Page:
        total = self._draw(st.sampled_from((0, 1, 5, 10**9)))
        return endpoints.Page(notebooks=[self._notebook()] * self._draw(st.integers(0, 2)), total=total)

    def _log(self, limit: int) -> ExecutionLog:
        entries = []
        for number in range(min(limit, self._draw(st.sampled_from((0, 1, 3, 100, 1_000))))):
            status = self._draw(st.sampled_from(STATUSES)) if number < 3 else "completed"
            marked = json.dumps(OWNER.add_marker({})) if number == 1 and self._draw(st.booleans()) else None
            files = {"result.error.log": {"url": "https://x", "size": 3}}
            execution_id = EXECUTION_ID if number == 2 else execution_id_at(number)
            entries.append(entry(status, execution_id, templateContext=marked, outputInfo=files))
        return ExecutionLog(entries)

    def _notebook(self) -> Notebook:
        name = self._draw(st.sampled_from(("Report", "Another")))
        url = self._draw(st.sampled_from(("https://x", None)))
        return Notebook.from_api(
            {"id": NOTEBOOK_ID, "applicationId": APPLICATION_ID, "name": name, "jupyterFileUrl": url}
        )


def submission(known_id: str | None = None, *, with_marker: bool = True) -> Submission:
    return Submission(
        application_id=APPLICATION_ID,
        notebook_id=NOTEBOOK_ID,
        options={"templateContext": json.dumps(OWNER.add_marker({}))},
        owner=OWNER if with_marker else None,
        known_id=known_id,
    )


def policy(random_losant: RandomLosant) -> SubmitPolicy:
    back_to = random_losant.now - 86_400.0
    return SubmitPolicy(retries=3, max_log_lag=30.0, max_poll_outage=120.0, back_to=back_to)


def start_policy(random_losant: RandomLosant, if_running: Any, **more: Any) -> StartPolicy:
    return StartPolicy(
        if_running=if_running,
        give_up_at=random_losant.now + 600,
        poll_interval=20.0,
        **more,
    )


def submitting(random_losant: RandomLosant, **more: Any) -> Any:
    known = more.pop("submission", submission())
    return submit_once(known, policy(random_losant), clock=random_losant.clock, **{"is_retry": True, **more})


def waiting(random_losant: RandomLosant, interval: float, **more: Any) -> Any:
    config = WaitConfig(poll_interval=interval, deadline=random_losant.now + 600, max_poll_outage=120.0)
    return polling.wait_for_execution(Target.of(REF), config, clock=random_losant.clock, **more)


def plan(**more: Any) -> deploy.Plan:
    content = deploy.NotebookFile(name="report.ipynb", raw=b"{}")
    return deploy.Plan(application_id=APPLICATION_ID, content=content, **more)


def downloading(random_losant: RandomLosant) -> Any:
    del random_losant
    return outputs.download(REF, outputs.OutputSelection(), lambda _: open, 3)  # type: ignore[arg-type, return-value]


def finder(random_losant: RandomLosant) -> ExecutionFinder:
    return ExecutionFinder(submission=submission(), policy=policy(random_losant), clock=random_losant.clock)


def locating(random_losant: RandomLosant, **more: Any) -> Any:
    unknown = replace(submission(), notebook_id="", notebook_name="Report")
    looking = replace(finder(random_losant), submission=unknown)
    return locate_notebook(looking, **{"former_id": None, "is_retry": True, **more})


HOUR = 3_600.0
FLOWS: dict[str, tuple[Callable[[RandomLosant], Any], float]] = {
    "retry": (
        lambda _: call_with_retry(endpoints.get_notebook(APPLICATION_ID, NOTEBOOK_ID), 4),
        HOUR + 100,
    ),
    "list": (lambda _: list_notebooks(APPLICATION_ID, {}, 2), 3 * HOUR),
    "find notebook": (lambda it: find_notebook(APPLICATION_ID, "Report", 2, clock=it.clock), 6 * HOUR),
    "find notebook, with patience": (
        lambda it: find_notebook(APPLICATION_ID, "Report", 2, max_outage=600.0, clock=it.clock),
        12 * HOUR,
    ),
    "locate notebook": (lambda it: locating(it, is_retry=False), 6 * HOUR),
    "locate notebook in a retry": (locating, 24 * HOUR),
    "locate a known notebook": (lambda it: locating(it, former_id=NOTEBOOK_ID), 24 * HOUR),
    "cancel": (lambda _: cancel(REF, "a test", retries=4), HOUR + 100),
    "cancel a new execution": (
        lambda it: cancel(REF, "a test", retries=4, max_log_lag=300.0, clock=it.clock),
        2 * HOUR,
    ),
    "submit": (lambda it: submitting(it, is_retry=False), 3 * HOUR),
    "retry of a submission": (submitting, 4 * HOUR),
    "retry of a submission with a saved id": (
        lambda it: submitting(it, submission=submission(EXECUTION_ID)),
        4 * HOUR,
    ),
    "submit without a marker": (
        lambda it: submitting(it, submission=submission(with_marker=False)),
        2 * HOUR,
    ),
    **{
        f"submit, {if_running}": (
            lambda it, if_running=if_running: submitting(  # type: ignore[misc]  # its type is above
                it, start_policy=start_policy(it, if_running)
            ),
            8 * HOUR,
        )
        for if_running in ("wait", "adopt", "skip", "fail", "cancel_previous")
    },
    "submit, minutes": (
        lambda it: submitting(it, start_policy=start_policy(it, "start", max_minutes=5)),
        6 * HOUR,
    ),
    "find lost": (lambda it: finder(it).find_lost(TransportError("lost")), HOUR),
    "find active": (lambda it: finder(it).find_active(3.5), 3.5 + 1),
    "wait": (lambda it: waiting(it, 20.0), 600.0 + 2),
    "wait, short interval": (lambda it: waiting(it, 1.0), 600.0 + 2),
    "wait, then cancel": (lambda it: waiting(it, 20.0, cancel_on_timeout=True), 600.0 + HOUR),
    "find execution": (lambda _: outputs.find_execution(REF, 3), 2 * HOUR),
    "download": (downloading, 8 * HOUR),
    "deploy": (lambda _: deploy.deploy(plan(name="Report", may_create=True), 3), 8 * HOUR),
    "deploy by id": (lambda _: deploy.deploy(plan(notebook_id=NOTEBOOK_ID), 3), 4 * HOUR),
    "connection test": (lambda it: connection_test.check_connection(APPLICATION_ID, "token", it.clock), 10.0),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_always_ends_and_sleeps_between_requests(name: str) -> None:
    make, max_duration = FLOWS[name]

    @often
    @given(st.data())
    def check(data: st.DataObject) -> None:
        random_losant = RandomLosant(data.draw)
        assert random_losant.drive(make(random_losant), 2_000) <= max_duration

    check()


@pytest.mark.parametrize("error", ERRORS, ids=[str(it) for it in ERRORS])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_ends_when_every_response_is_the_same_error(name: str, error: LosantError) -> None:
    make, max_duration = FLOWS[name]
    random_losant = RandomLosant(lambda _: 0)
    random_losant._respond = lambda _: error  # type: ignore[assignment]

    assert random_losant.drive(make(random_losant), 2_000) <= max_duration
