# SPDX-License-Identifier: Apache-2.0
"""Finding the notebook of a retry by its name: where an execution of an earlier try is searched for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.endpoints import Page
from airflow_provider_losant.api.errors import (
    Forbidden,
    InvalidArgument,
    LosantError,
    NotFound,
    ServerError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.locate import MAX_NOTEBOOKS, MAX_SEARCH, Located, locate_notebook
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.model import Execution, Notebook
from tests.support.factories import APPLICATION_ID, CREATED_AT, execution, iso, owner
from tests.unit.api.flow_driver import FlowDriver, maximum

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C = ("a" * 24, "b" * 24, "c" * 24)
LAG = 30.0
DOWN = ServerError(503, "ServiceUnavailable", "down")


class Losant:
    """
    Answers with the notebooks and logs of an application.

    :param logs: Executions, newest first, or an error, by notebook.
    :param names: The name of each notebook that is listed, those with the latest execution first.
    :param updated: When each was updated, in epoch seconds.
    """

    def __init__(self, names: dict[str, str], logs: dict[str, Any], updated: float = CREATED_AT) -> None:
        self.names, self.logs, self.updated = names, logs, updated
        self.asked: list[str] = []
        self.before_call: Callable[[], None] = lambda: None
        self.failures: list[LosantError] = []

    def __call__(self, call: Any) -> Any:
        self.before_call()
        if call.operation == "notebooks.get":
            self.asked.append("list")
            if self.failures:
                return self.failures.pop(0)
            body = {"applicationId": APPLICATION_ID, "lastUpdated": iso(self.updated)}
            listed = [Notebook.from_api({**body, "id": it, "name": name}) for it, name in self.names.items()]
            return Page(notebooks=listed, total=len(listed))
        notebook_id = call.path.split("/")[-2]
        self.asked.append(notebook_id[0])
        return self.logs.get(notebook_id, [])


def own(status: str = "inProgress", notebook_id: str = A) -> Execution:
    """Return the execution of the first try."""
    context = json.dumps(owner().add_marker({}))
    return execution(status, templateContext=context, notebookId=notebook_id)


def locate(
    losant: Losant,
    *,
    former_id: str | None = None,
    is_retry: bool = True,
    has_owner: bool = True,
    driver: FlowDriver | None = None,
) -> tuple[FlowDriver, Located]:
    driver = driver or FlowDriver([losant], now=CREATED_AT + 60)
    finder = ExecutionFinder(
        submission=Submission(
            application_id=APPLICATION_ID,
            notebook_id="",
            notebook_name="Report",
            options={},
            owner=owner(try_number=2) if has_owner else None,
        ),
        policy=SubmitPolicy(
            retries=0,
            max_log_lag=LAG,
            max_poll_outage=10.0,
            back_to=CREATED_AT - 86_400,
            first_try_after=CREATED_AT - 3_600,
        ),
        clock=driver.clock,
        jitter=maximum,
    )
    flow = locate_notebook(finder, former_id=former_id, is_retry=is_retry)
    return driver, driver.drive(flow)


def test_a_first_try_only_looks_up_the_name() -> None:
    losant = Losant({A: "Report"}, {A: [own()]})

    assert locate(losant, is_retry=False)[1] == Located(notebook_id=A)
    assert losant.asked == ["list"]


def test_a_retry_whose_notebook_is_known_needs_no_name_to_reconnect() -> None:
    running = own()
    losant = Losant({}, {A: [running]})

    located = locate(losant, former_id=A)[1]

    assert (located.notebook_id, located.earlier) == (A, running)
    assert losant.asked == ["a"]


def test_a_retry_whose_known_notebook_has_nothing_to_reconnect_to_looks_up_the_name() -> None:
    logs = {A: [own("errored")]}

    assert locate(Losant({A: "Report"}, logs), former_id=A)[1] == Located(notebook_id=A, is_searched=True)
    assert locate(Losant({B: "Report"}, logs), former_id=A)[1] == Located(notebook_id=B)
    with pytest.raises(InvalidArgument, match="no notebook named"):
        locate(Losant({A: "Renamed"}, logs), former_id=A)


def test_a_known_notebook_that_was_deleted_has_no_executions() -> None:
    gone = NotFound(404, "NotFound", "Notebook was not found")

    assert locate(Losant({B: "Report"}, {A: gone}), former_id=A)[1] == Located(notebook_id=B)
    with pytest.raises(SubmissionUnknown):
        locate(Losant({B: "Report"}, {A: Forbidden(403, "Forbidden", "no")}), former_id=A)


def test_a_notebook_that_had_its_name_before_the_dag_run_is_the_only_one() -> None:
    losant = Losant({A: "Report", B: "Weather"}, {}, updated=CREATED_AT - 7_200)

    assert locate(losant)[1] == Located(notebook_id=A)
    assert losant.asked == ["list"]


@pytest.mark.parametrize("names", [{A: "Report", B: "Weather"}, {A: "Report (new)", B: "Weather"}])
def test_after_a_rename_the_execution_is_found_in_another_notebook(names: dict[str, str]) -> None:
    running = own(notebook_id=B)
    losant = Losant(names, {B: [running]})

    located = locate(losant)[1]

    assert (located.notebook_id, located.earlier) == (B, running)


def test_of_twins_too() -> None:
    located = locate(Losant({A: "Report", B: "Report"}, {B: [own(notebook_id=B)]}))[1]

    assert located.notebook_id == B


def test_a_log_that_shows_the_last_try_ends_the_search() -> None:
    losant = Losant({A: "Report", B: "Weather"}, {A: [own("errored")], B: [own()]})
    assert locate(losant)[1] == Located(notebook_id=A, is_searched=True)
    assert losant.asked == ["list", "a"]

    losant = Losant({A: "Report", B: "Weather", C: "Other"}, {B: [own("errored")]})
    driver, located = locate(losant)
    assert (located, driver.sleeps) == (Located(notebook_id=A, is_searched=True), [])


def test_no_trace_means_none_only_after_the_logs_had_time_to_lag() -> None:
    driver, located = locate(Losant({A: "Report", B: "Weather"}, {}))

    assert located == Located(notebook_id=A, is_searched=True)
    assert sum(driver.sleeps) >= LAG
    with pytest.raises(InvalidArgument, match="no notebook named 'Report'; its notebooks: 'Weather'"):
        locate(Losant({B: "Weather"}, {}))


def test_a_lagging_log_of_another_notebook_is_read_again() -> None:
    losant = Losant({A: "Report", B: "Weather"}, {})
    shown = own()

    def appear() -> None:
        if losant.asked.count("b") == 1:
            losant.logs[B] = [shown]

    losant.before_call = appear

    assert locate(losant)[1].earlier == shown


def test_notebooks_after_one_that_was_not_executed_since_are_not_read() -> None:
    names = {A: "Never", B: "Old", C: "Older"}
    losant = Losant(names, {B: [execution("completed", runQueuedAt=iso(CREATED_AT - 86_000))]})

    with pytest.raises(InvalidArgument):
        locate(losant)

    assert set(losant.asked) == {"list", "a", "b"}


def test_more_notebooks_than_are_searched_leave_it_unknown() -> None:
    names = {f"{number:024x}": f"Notebook {number}" for number in range(MAX_NOTEBOOKS + 1)}

    with pytest.raises(SubmissionUnknown, match=f"More than {MAX_NOTEBOOKS} notebooks"):
        locate(Losant(names, {}))
    del names["0" * 24]
    with pytest.raises(InvalidArgument):
        locate(Losant(names, {}))


def test_what_cannot_be_read_leaves_it_unknown_but_a_deleted_notebook_does_not() -> None:
    names = {A: "Report", B: "Weather"}

    for problem in (DOWN, Forbidden(403, "Forbidden", "no")):
        with pytest.raises(SubmissionUnknown, match="is unknown, a retry searches again"):
            locate(Losant(names, {B: problem}))
    assert locate(Losant(names, {B: NotFound(404, "NotFound", "gone")}))[1].notebook_id == A


@pytest.mark.parametrize("failures", [[DOWN] * 20, [Forbidden(403, "Forbidden", "no")]])
def test_a_retry_that_cannot_look_up_the_name_does_not_know_either(failures: list[LosantError]) -> None:
    losant = Losant({A: "Report"}, {})
    losant.failures = failures

    with pytest.raises(SubmissionUnknown, match="whether Losant runs notebook 'Report' of application"):
        locate(losant)


def test_a_retry_waits_for_a_token_that_is_rotated() -> None:
    losant = Losant({A: "Report"}, {}, updated=CREATED_AT - 7_200)
    losant.failures = [Unauthorized(401, "Unauthorized", "no")]

    assert locate(losant)[1].notebook_id == A


def test_a_search_that_takes_too_long_is_given_up() -> None:
    losant = Losant({A: "Weather", B: "Weather", C: "Weather"}, {})
    driver = FlowDriver([losant], now=CREATED_AT + 60)

    def pass_time() -> None:
        driver.now += MAX_SEARCH / 3

    losant.before_call = pass_time

    with pytest.raises(SubmissionUnknown, match="could not be read in time"):
        locate(losant, driver=driver)


def test_a_listing_that_fails_during_the_search_leaves_it_unknown() -> None:
    losant = Losant({A: "Report"}, {})

    def fail() -> None:
        if "list" in losant.asked:
            losant.failures = [DOWN]

    losant.before_call = fail

    with pytest.raises(SubmissionUnknown):
        locate(losant)


def test_without_a_marker_nothing_is_searched_and_a_missing_notebook_is_not_final() -> None:
    losant = Losant({A: "Report"}, {A: [own()]})
    assert locate(losant, has_owner=False)[1] == Located(notebook_id=A)
    assert losant.asked == ["list"]

    with pytest.raises(SubmissionUnknown):
        locate(Losant({}, {}), has_owner=False)
