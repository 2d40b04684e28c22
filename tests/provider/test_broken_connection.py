# SPDX-License-Identifier: Apache-2.0
"""A connection or an argument that becomes invalid while an execution may exist: Airflow retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookExecutionError
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import operations, set_connection
from tests.provider.tasks import BOTH_MODES, Task, TaskStateStore, Ti, context_of, fire

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("losant_connection")

NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"password": ""}, "password: is empty"),
    ({"host": "http://losant.example"}, "host: "),
    ({"extra": {"timeout": "long"}}, "timeout: 'long'"),
]
BREAKS = pytest.mark.parametrize(("fields", "says"), NONSENSE, ids=["password", "host", "extra"])


def operator(notebook: str, **options: Any) -> Any:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return LosantNotebookExecuteOperator(**given)


def defer(losant: Emulator, notebook: str, ti: Ti) -> TaskDeferred:
    """Defer the task for an execution that takes half a second."""
    losant.script(notebook, Script(notebook=0.5))
    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook, deferrable=True).execute(context_of(ti))
    return deferred.value


def assert_retryable(resume: Callable[[], object], says: str, execution_id: str) -> None:
    with pytest.raises(NotebookExecutionError) as caught:
        resume()
    assert not isinstance(caught.value, AirflowFailException)
    assert says in str(caught.value)
    assert execution_id in str(caught.value)
    assert "may still be active" in str(caught.value)


def assert_reconnects(losant: Emulator, notebook: str, ti: Ti, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the next try with the right connection, and check that it submits nothing."""
    set_connection(monkeypatch, losant)
    first = losant.executions(notebook)[0]["id"]
    again = Ti(try_number=ti.try_number + 1, max_tries=ti.max_tries)

    result = Task(lambda: operator(notebook), again).run()

    assert result["execution_id"] == first
    assert operations(losant).count("notebook.execute") == 1
    assert "notebook.cancelExecution" not in operations(losant)


@BREAKS
def test_before_a_retry_an_invalid_connection_names_the_execution_and_is_retried(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], says: str
) -> None:
    ti = Ti(max_tries=3)
    defer(losant, notebook, ti)
    set_connection(monkeypatch, losant, **fields)
    ti.try_number = 2  # the XComs of a real try are gone, so that its message names no id

    without_xcoms = Ti(try_number=2, max_tries=3)
    assert_retryable(lambda: operator(notebook).execute(context_of(ti)), says, ti.pushed["execution_id"])
    assert_retryable(
        lambda: operator(notebook).execute(context_of(without_xcoms)), says, "An execution of an earlier try"
    )

    assert_reconnects(losant, notebook, ti, monkeypatch)


@pytest.mark.airflow(since="3.3")
def test_before_a_retry_an_invalid_connection_names_the_execution_from_the_task_state_store(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = TaskStateStore()
    first = Ti(max_tries=1)
    losant.script(notebook, Script(notebook=0.5))
    with pytest.raises(TaskDeferred):
        operator(notebook, deferrable=True).execute({**context_of(first), "task_state_store": store})
    set_connection(monkeypatch, losant, password="")
    second = {**context_of(Ti(try_number=2, max_tries=1)), "task_state_store": store}

    assert_retryable(
        lambda: operator(notebook).execute(second), "password: is empty", first.pushed["execution_id"]
    )


@BREAKS
def test_before_a_deferred_task_completes_an_invalid_connection_names_the_execution_and_is_retried(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], says: str
) -> None:
    ti = Ti(max_tries=3)
    event = fire(defer(losant, notebook, ti).trigger)
    set_connection(monkeypatch, losant, **fields)

    assert_retryable(
        lambda: operator(notebook, deferrable=True).execute_complete(context_of(ti), event=event),
        says,
        ti.pushed["execution_id"],
    )

    assert_reconnects(losant, notebook, ti, monkeypatch)


@BREAKS
def test_after_a_failed_trigger_an_invalid_connection_names_the_execution_and_is_retried(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], says: str
) -> None:
    ti = Ti(max_tries=3)
    defer(losant, notebook, ti)
    set_connection(monkeypatch, losant, **fields)

    assert_retryable(
        lambda: operator(notebook, deferrable=True).resume_execution(
            "__fail__", {"error": "crashed"}, context_of(ti)
        ),
        says,
        ti.pushed["execution_id"],
    )

    assert_reconnects(losant, notebook, ti, monkeypatch)


def test_an_argument_that_becomes_invalid_before_a_retry_is_retried(losant: Emulator, notebook: str) -> None:
    ti = Ti(max_tries=3)
    defer(losant, notebook, ti)
    ti.try_number = 2

    assert_retryable(
        lambda: operator(notebook, relative_to="{{ ds }}").execute(context_of(ti)),
        "relative_to: '{{ ds }}'",
        ti.pushed["execution_id"],
    )


@BOTH_MODES
@BREAKS
def test_on_the_first_try_an_invalid_connection_is_final(
    losant: Emulator,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fields: dict[str, Any],
    says: str,
    deferrable: bool,
) -> None:
    set_connection(monkeypatch, losant, **fields)

    with pytest.raises(LosantConfigError, match=says) as caught:
        operator(notebook, deferrable=deferrable).execute(context_of(Ti(max_tries=3)))

    assert isinstance(caught.value, AirflowFailException)
    assert losant.requests == []


def test_a_token_that_was_revoked_for_a_retry_is_retried_and_submits_nothing(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = Ti(max_tries=3)
    defer(losant, notebook, ti)
    set_connection(monkeypatch, losant, password="eyJ.revoked.token")
    ti.try_number = 2

    with pytest.raises(NotebookExecutionError, match="is unknown, a retry searches again") as caught:
        operator(notebook, max_poll_outage=0.1).execute(context_of(ti))

    assert not isinstance(caught.value, AirflowFailException)
    assert_reconnects(losant, notebook, ti, monkeypatch)
