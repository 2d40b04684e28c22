# SPDX-License-Identifier: Apache-2.0
"""Whatever a host answers, reading it and going by it raises nothing but our own errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError, OutputError
from airflow_provider_losant.api.flows.completions import CompletionFeed
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.outputs import OutputSelection
from airflow_provider_losant.api.flows.ownership import Owner, read_marker
from airflow_provider_losant.api.flows.retry import MAX_RETRY_AFTER
from airflow_provider_losant.api.flows.submission import Submission
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.http.response import parse_response
from airflow_provider_losant.api.model import Execution, ExecutionLog, Notebook
from airflow_provider_losant.exceptions import NotebookExecutionError
from airflow_provider_losant.execution.result import result_or_raise
from airflow_provider_losant.openlineage.datasets import input_datasets, output_datasets
from tests.contract.request_generator import valid
from tests.properties.responses import ANSWERS, ANYTHING, spoilt
from tests.support.factories import APPLICATION, NOTEBOOK, REF, RUN, published
from tests.support.hypothesis_settings import often

CALLS = {
    call.operation: call
    for call in (
        endpoints.list_notebooks(APPLICATION),
        endpoints.get_notebook(APPLICATION, NOTEBOOK),
        endpoints.execution_logs(APPLICATION, NOTEBOOK, limit=9, since=0),
        endpoints.execute(APPLICATION, NOTEBOOK, {}),
        endpoints.cancel_execution(REF),
        endpoints.minute_counts(APPLICATION, NOTEBOOK),
        endpoints.request_export(APPLICATION, NOTEBOOK, {}),
    )
}
OWNER = Owner(
    dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1, max_tries=3, deployment="here"
)


def read(operation: str, answer: Any) -> Any:
    return parse_response(
        CALLS[operation], 200, {"content-type": "application/json"}, json.dumps(answer).encode()
    )


@contextmanager
def our_errors_only() -> Iterator[None]:
    """Forgive what the provider may raise: fit for one line of a log, and with no pause without end."""
    try:
        yield
    except LosantError as error:
        text = str(error)
        if (
            len(text) > 2_000
            or not text.isprintable()
            or not 0 <= (error.retry_after or 0) <= MAX_RETRY_AFTER
        ):
            raise AssertionError(text[:2_000]) from error


def go_by(read: Any) -> None:
    """Do with an answer what the provider does with it; only our own errors may come of it."""
    repr(read)
    if isinstance(read, endpoints.Page):
        for notebook in read.notebooks:
            go_by(notebook)
        assert isinstance(read.total, int)
    elif isinstance(read, Notebook):
        assert {field.name: getattr(read, field.name) for field in fields(read)}
    elif isinstance(read, Execution):
        go_by_execution(read)
    elif isinstance(read, ExecutionLog):
        for execution in read:
            go_by_execution(execution)
        look_at(read)


def go_by_execution(execution: Execution) -> None:
    result = execution.to_result()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert isinstance(execution.queued_time, float)
    assert isinstance(execution.last_event_time, float)
    assert execution.phase or not execution.status.name
    read_marker(execution)
    submission = Submission(
        application_id=APPLICATION, notebook_id=NOTEBOOK, options={}, owner=OWNER, known_id=RUN
    )
    assert isinstance(submission.owns(execution), bool)
    assert isinstance(submission.supersedes(execution), bool)
    input_datasets(result, None, "losant")
    output_datasets(result, None, "losant", is_success=True)
    with suppress(OutputError):
        OutputSelection().select(execution)


def look_at(log: Any) -> None:
    config = WaitConfig(poll_interval=20.0, deadline=4e9, max_poll_outage=600.0)
    for execution_id in (RUN, None):
        target = Target(
            application_id=APPLICATION, notebook_id=NOTEBOOK, execution_id=execution_id, since=0.0
        )
        watch = Wait(target, config)
        watch.on_response(log, 2e9)
        watch.drain_logs()
        target.is_satisfied_by(log)
    harvest = CompletionFeed(APPLICATION, NOTEBOOK, statuses=("completed",), poll_interval=60.0, now=2e9)
    for _ in range(2):
        harvest.on_response(log, 2e9)
        for news in harvest.drain_completions():
            json.dumps(news.checkpoint.to_json(), allow_nan=False)


@pytest.mark.parametrize("operation", ANSWERS)
def test_every_answer_that_the_reference_allows_is_read(operation: str) -> None:
    @often
    @given(ANSWERS[operation])
    def check(answer: Any) -> None:
        go_by(read(operation, answer))

    check()


@pytest.mark.parametrize("operation", ANSWERS)
def test_an_answer_with_one_thing_wrong_is_read_or_an_error_of_ours(operation: str) -> None:
    @often
    @given(spoilt(ANSWERS[operation]) | ANYTHING)
    def check(answer: Any) -> None:
        with our_errors_only():
            go_by(read(operation, answer))

    check()


PUBLISHED = {
    "notebooks.get": "notebooks",
    "notebook.get": "notebook",
    "notebook.logs": "notebookExecutionLogs",
    "notebook.execute": "successWithExecutionId",
    "notebook.cancelExecution": "success",
    "notebook.notebookMinuteCounts": "notebookMinuteCounts",
    "notebook.requestInputDataExport": "jobEnqueuedResult",
}


@pytest.mark.parametrize("operation", PUBLISHED)
def test_an_answer_that_the_published_schema_allows_is_read_or_an_error_of_ours(operation: str) -> None:
    schemas = published("schemas.json")
    allowed = valid(schemas[PUBLISHED[operation]], schemas)

    @often
    @given(allowed | spoilt(allowed))
    def check(answer: Any) -> None:
        with our_errors_only():
            go_by(read(operation, answer))

    check()


@often
@given(
    st.integers(100, 999),
    st.dictionaries(
        st.sampled_from(("content-type", "retry-after", "date", "location")), st.text(max_size=40)
    ),
    st.binary(max_size=200) | ANYTHING.map(lambda it: json.dumps(it).encode()),
)
@example(200, {}, b"[" * 100_000)
@example(500, {}, b'{"a":' * 100_000)
@example(429, {"retry-after": "9" * 5_000}, b"{}")
@example(200, {"content-type": "application/json"}, b'{"jobId": ' + b"9" * 5_000 + b"}")
def test_whatever_comes_back_is_an_answer_or_an_error_of_ours(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    for call in CALLS.values():
        with our_errors_only():
            go_by(parse_response(call, status, headers, body))


@often
@given(spoilt(ANSWERS["notebook.logs"]))
def test_an_ending_is_told_in_our_words_whatever_the_run_looks_like(answer: Any) -> None:
    try:
        runs = list(read("notebook.logs", answer))
    except LosantError:
        return
    for run in runs:
        outcome = Outcome(
            ending="ended",
            result=run.to_result(),
            is_success=run.status.is_success,
            errors=run.errors,
        )
        again = Outcome.from_event(json.loads(json.dumps(outcome.to_event())))
        with suppress(NotebookExecutionError):
            result_or_raise(
                again, url="https://losant", limit="timeout=1", log=logging.getLogger("quiet").log
            )
