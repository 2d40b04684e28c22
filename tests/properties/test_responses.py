# SPDX-License-Identifier: Apache-2.0
"""Parsing and using any response of a host raises only errors of the provider."""

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
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.completions import Checkpoint, CompletionFeed
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.outputs import OutputSelection
from airflow_provider_losant.api.flows.ownership import read_marker, replaced_ids
from airflow_provider_losant.api.flows.retry import MAX_RETRY_AFTER
from airflow_provider_losant.api.flows.submission import Submission
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.http.response import parse_response
from airflow_provider_losant.api.model import Execution, Notebook
from airflow_provider_losant.exceptions import NotebookExecutionError
from airflow_provider_losant.execution.result import result_or_raise
from airflow_provider_losant.openlineage.datasets import input_datasets, output_datasets
from tests.contract.request_generator import valid
from tests.properties.responses import ANYTHING, RESPONSES, with_one_defect
from tests.support.factories import APPLICATION_ID, EXECUTION_ID, NOTEBOOK_ID, REF, owner, published
from tests.support.hypothesis_settings import often

CALLS: dict[str, endpoints.Call[Any]] = {
    call.operation: call
    for call in (
        endpoints.list_notebooks(APPLICATION_ID),
        endpoints.get_notebook(APPLICATION_ID, NOTEBOOK_ID),
        endpoints.execution_logs(APPLICATION_ID, NOTEBOOK_ID, limit=9, since=0),
        endpoints.execute(APPLICATION_ID, NOTEBOOK_ID, {}),
        endpoints.cancel_execution(REF),
        endpoints.minute_counts(APPLICATION_ID, NOTEBOOK_ID),
        endpoints.request_export(APPLICATION_ID, NOTEBOOK_ID, {}),
    )
}
OWNER = owner()


def parse(operation: str, response: Any) -> Any:
    return parse_response(
        CALLS[operation], 200, {"content-type": "application/json"}, json.dumps(response).encode()
    )


@contextmanager
def allow_losant_errors() -> Iterator[None]:
    """Allow a LosantError with a short printable message and a bounded pause."""
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


def use(parsed: Any) -> None:
    """Use a response as the provider does; only errors of the provider may be raised."""
    repr(parsed)
    if isinstance(parsed, endpoints.Page):
        for notebook in parsed.notebooks:
            use(notebook)
        assert isinstance(parsed.total, int)
    elif isinstance(parsed, Notebook):
        assert {field.name: getattr(parsed, field.name) for field in fields(parsed)}
    elif isinstance(parsed, Execution):
        use_execution(parsed)
    elif isinstance(parsed, ExecutionLog):
        for _, execution in parsed.parse():
            if isinstance(execution, Execution):
                use_execution(execution)
        for execution in parsed.summaries(APPLICATION_ID, NOTEBOOK_ID):
            use_execution(parsed.complete(execution))
        use_log(parsed)


def use_execution(execution: Execution) -> None:
    result = execution.to_result()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert isinstance(execution.queued_time, float)
    assert isinstance(execution.last_event_time, float)
    assert execution.phase or not execution.status.name
    read_marker(execution)
    assert all(isinstance(it, str) for it in replaced_ids(execution))
    submission = Submission(
        application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=OWNER, known_id=EXECUTION_ID
    )
    assert isinstance(submission.owns(execution), bool)
    assert isinstance(submission.owns_older(execution), bool)
    input_datasets(result, None, "losant")
    output_datasets(result, None, "losant", is_success=True)
    with suppress(OutputError):
        OutputSelection().select(execution)


def use_log(log: Any) -> None:
    config = WaitConfig(poll_interval=20.0, deadline=4e9, max_poll_outage=600.0)
    for execution_id in (EXECUTION_ID, None):
        target = Target(
            application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=execution_id, since=0.0
        )
        wait = Wait(target, config)
        while wait.on_response(log, 2e9) is None:
            pass
        wait.drain_logs()
        target.is_satisfied_by(log)
    feed = CompletionFeed(APPLICATION_ID, NOTEBOOK_ID, statuses=("completed",), poll_interval=60.0, now=2e9)
    checkpoint = Checkpoint()
    for _ in range(2):
        while feed.on_response(log, 2e9) is None:
            pass
        while (delivery := feed.next_delivery()) is not None:
            checkpoint.advance(delivery.progress)
            json.dumps([delivery.results, checkpoint.to_json()], allow_nan=False)


@pytest.mark.parametrize("operation", RESPONSES)
def test_every_response_that_the_reference_allows_is_parsed(operation: str) -> None:
    @often
    @given(RESPONSES[operation])
    def check(response: Any) -> None:
        use(parse(operation, response))

    check()


@pytest.mark.parametrize("operation", RESPONSES)
def test_a_response_with_one_defect_is_parsed_or_a_losant_error(operation: str) -> None:
    @often
    @given(with_one_defect(RESPONSES[operation]) | ANYTHING)
    def check(response: Any) -> None:
        with allow_losant_errors():
            use(parse(operation, response))

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
def test_a_response_of_the_published_schema_is_parsed_or_a_losant_error(operation: str) -> None:
    schemas = published("schemas.json")
    allowed = valid(schemas[PUBLISHED[operation]], schemas)

    @often
    @given(allowed | with_one_defect(allowed))
    def check(response: Any) -> None:
        with allow_losant_errors():
            use(parse(operation, response))

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
def test_arbitrary_bytes_are_parsed_or_a_losant_error(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    for call in CALLS.values():
        with allow_losant_errors():
            use(parse_response(call, status, headers, body))


@often
@given(with_one_defect(RESPONSES["notebook.logs"]))
def test_every_execution_gives_a_result_or_a_losant_error(response: Any) -> None:
    try:
        log = parse("notebook.logs", response)
    except LosantError:
        return
    for execution in (it for _, it in log.parse() if isinstance(it, Execution)):
        outcome = Outcome(
            ending="ended",
            result=execution.to_result(),
            is_success=execution.status.is_success,
            errors=execution.errors,
        )
        restored = Outcome.from_event(json.loads(json.dumps(outcome.to_event())))
        with suppress(NotebookExecutionError):
            result_or_raise(
                restored, url="https://losant", limit="timeout=1", log=logging.getLogger("quiet").log
            )
