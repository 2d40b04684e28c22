# SPDX-License-Identifier: Apache-2.0
"""The execute operator, waiting and deferred: results, failures, and the errors of invalid arguments."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from requests.adapters import HTTPAdapter

from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionCanceled,
    NotebookExecutionError,
    NotebookExecutionFailed,
    NotebookExecutionTimedOut,
    NotebookWaitTimedOut,
)
from airflow_provider_losant.execution.try_state import STATE_KEY
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import TaskLog, operations, set_connection, statuses
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.support.factories import BRIEF
from tests.support.http_stub import HttpStub, closed_port, http, self_signed
from tests.support.processes import wait_for

pytestmark = pytest.mark.usefixtures("losant_connection")


def task(notebook: Any, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given))


def submissions(losant: Emulator) -> list[Any]:
    return [it.body for it in losant.requests if it.operation == "notebook.execute"]


# -- results ----------------------------------------------------------------------------------------------


def test_waiting_and_deferring_return_the_same_result_and_push_the_same_xcoms(
    losant: Emulator, notebook: str
) -> None:
    results, pushed = [], []
    for deferrable in (False, True):
        one = task(notebook, deferrable=deferrable, relative_to=datetime(2026, 1, 1, tzinfo=UTC))
        results.append(one.run())
        pushed.append(one.ti.pushed)
        assert len(one.deferrals) == deferrable

    for result, pushes in zip(results, pushed, strict=True):
        assert json.loads(json.dumps(result)) == result
        pushes.pop(STATE_KEY, None)  # on Airflow 3.0, which may resume a later try with it
        assert pushes == {"execution_id": result["execution_id"], "losant_notebook_link": result["url"]}
        for name in ("execution_id", "queued_at", "started_at", "finished_at", "durations"):
            assert result.pop(name)
    assert (
        results[0]
        == results[1]
        == {
            "notebook_id": notebook,
            "application_id": losant.application_id,
            "status": "completed",
            "relative_to": "2026-01-01T00:00:00.000Z",
            "max_run_minutes": 5,
            "inputs": {},
            "outputs": {
                name: {"size": len(content), "content_type": kind}
                for (name, content), kind in zip(BRIEF.files.items(), ("text/html", "text/csv"), strict=True)
            },
            "url": f"https://app.losant.com/applications/{losant.application_id}/notebooks/{notebook}",
        }
    )


@BOTH_MODES
@pytest.mark.parametrize("ending", ["completed", "errored"])
def test_the_last_log_line_has_queue_time_run_time_and_minutes_used(
    losant: Emulator, notebook: str, task_log: TaskLog, deferrable: bool, ending: str
) -> None:
    losant.script(notebook, Script(queue=0.02, notebook=0.05, ending=ending))
    raised = ""

    try:
        task(notebook, deferrable=deferrable).run()
    except NotebookExecutionFailed as error:
        raised = str(error)

    spans = r"\(queue 0\.\d+ s, inputs .+ s, notebook 0\.\d+ s.*; 0\.0 of 5 run minutes\)"
    closing = raised or task_log()
    assert re.search(rf" after 0\.\d+ s {spans}", closing)
    assert notebook in closing


@BOTH_MODES
def test_an_execution_is_submitted_once_and_polled_with_limit_and_since(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    task(notebook, deferrable=deferrable).run()

    assert operations(losant).count("notebook.execute") == 1
    assert operations(losant)[0] == "notebook.execute"
    looks = [it for it in losant.requests if it.operation == "notebook.logs"]
    assert looks
    assert all({"limit", "since"} <= set(it.query) for it in looks)
    assert all(it.headers["user-agent"].startswith("airflow-provider-losant/") for it in losant.requests)


@BOTH_MODES
def test_the_id_and_the_link_are_available_before_the_wait_begins(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    losant.inject("notebook.logs", Fault("unauthorized"), times=100)
    losant.script(notebook, Script(ending="hang"))
    one = task(notebook, deferrable=deferrable, timeout=0.1, cancel_on_timeout=False)

    with pytest.raises(NotebookWaitTimedOut):
        one.run()

    (run,) = losant.executions(notebook)
    assert one.ti.pushed["execution_id"] == run["id"]
    assert notebook in one.ti.pushed["losant_notebook_link"]


def test_a_task_that_does_not_wait_never_defers_and_never_polls(losant: Emulator, notebook: str) -> None:
    one = task(notebook, wait_for_completion=False, deferrable=True, relative_to="2026-01-01")

    result = one.run()

    assert one.deferrals == []
    assert operations(losant) == ["notebook.execute"]
    assert (result["status"], result["relative_to"]) == ("queued", "2026-01-01T00:00:00.000Z")
    assert result["execution_id"] == one.ti.pushed["execution_id"] == losant.executions(notebook)[0]["id"]
    assert result["url"] == one.ti.pushed["losant_notebook_link"]


def test_a_result_without_waiting_has_the_same_keys_as_any_other(notebook: str) -> None:
    assert task(notebook, wait_for_completion=False).run().keys() == task(notebook).run().keys()


def test_a_retry_that_does_not_wait_returns_what_losant_shows_of_the_execution_of_the_try_before(
    losant: Emulator, notebook: str
) -> None:
    first, again = (task(notebook, wait_for_completion=False) for _ in range(2))
    first.ti, again.ti = Ti(max_tries=1), Ti(try_number=2, max_tries=1)
    submitted = first.run()
    wait_for(
        lambda: set(statuses(losant, notebook).values()) == {"completed"},
        what="the end",
        timeout=10,
        every=0.02,
    )

    result = again.run()

    assert (result["execution_id"], result["status"]) == (submitted["execution_id"], "completed")
    assert set(result["outputs"]) == set(BRIEF.files)
    assert operations(losant).count("notebook.execute") == 1


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=UTC),
        "2026-01-01 00:00:00+00:00",
        "2026-01-01T01:00:00+01:00",
        1767225600000,
        "1767225600000",
    ],
    ids=repr,
)
def test_a_query_time_is_sent_in_the_format_that_losant_cannot_misread(
    losant: Emulator, notebook: str, value: Any
) -> None:
    task(notebook, relative_to=value).run()

    assert submissions(losant)[0]["relativeTo"] == "2026-01-01T00:00:00.000Z"


def test_a_warning_is_logged_if_losant_reads_a_query_time_differently(
    notebook: str, task_log: TaskLog
) -> None:
    operator = task(notebook, relative_to="2026-01-01").make()
    execution = LosantHook().execute_notebook(notebook, relative_to="2026-06-01")
    time.sleep(0.05)
    run = LosantHook().get_execution(notebook, execution)
    event = {"ending": "ended", "result": run.to_result(), "is_success": True}

    operator.execute_complete(context_of(Ti()), event)

    assert (
        "2026-01-01T00:00:00.000Z was requested, but the execution used 2026-06-01T00:00:00.000Z"
        in task_log()
    )


def test_a_context_has_the_marker_of_the_task_next_to_the_users_keys(losant: Emulator, notebook: str) -> None:
    task(notebook, template_context={"site": "north"}).run()

    context = json.loads(submissions(losant)[0]["templateContext"])
    assert context["site"] == "north"
    assert context["airflow"].items() >= {"dag_id": "energy", "task_id": "report", "try_number": 1}.items()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"durable": False, "template_context": {"site": "north"}}, "durable=False"),
        ({"template_context": {"airflow": "mine"}}, "has its own key 'airflow'"),
        ({"template_context": {"big": "x" * 32_700}}, "no room for the marker"),
    ],
    ids=["not durable", "own key", "no room"],
)
def test_a_context_without_room_for_the_marker_is_sent_unchanged_with_a_warning(
    losant: Emulator, notebook: str, options: dict[str, Any], reason: str, task_log: TaskLog
) -> None:
    task(notebook, **options).run()

    given = options["template_context"]
    assert json.loads(submissions(losant)[0]["templateContext"]) == given
    log = task_log()
    assert log.count("A retry cannot reconnect to this execution") == 1
    assert reason in log


def test_durations_may_be_timedeltas(notebook: str) -> None:
    spans = {
        "poll_interval": timedelta(milliseconds=20),
        "timeout": timedelta(seconds=20),
        "max_poll_outage": timedelta(minutes=1),
    }

    assert task(notebook, **spans).run()["status"] == "completed"


# -- endings ----------------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize(
    ("ending", "kind"),
    [("errored", NotebookExecutionFailed), ("timeout", NotebookExecutionTimedOut)],
)
def test_an_unsuccessful_execution_fails_the_task_with_ids_and_link(
    losant: Emulator, notebook: str, ending: str, kind: type[Exception], deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.02, ending=ending, errors=(("ValueError", "boom"),)))

    with pytest.raises(NotebookExecutionError) as caught:
        task(notebook, deferrable=deferrable).run()

    (run,) = losant.executions(notebook)
    assert type(caught.value) is kind
    for part in (
        run["id"],
        notebook,
        f"ended with status {ending}",
        "ValueError: boom",
        "https://app.losant.com/",
    ):
        assert part in str(caught.value)
    assert not isinstance(caught.value, AirflowFailException)


@BOTH_MODES
def test_an_execution_canceled_elsewhere_fails_the_task_as_canceled(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    losant.script(notebook, Script(ending="hang"))
    one = task(notebook, deferrable=deferrable)
    real_push = one.ti.xcom_push

    def cancel_behind_its_back(key: str, value: Any) -> None:
        real_push(key, value)
        if key == "execution_id":
            LosantHook().cancel_execution(notebook, value)

    one.ti.xcom_push = cancel_behind_its_back  # type: ignore[method-assign]

    with pytest.raises(NotebookExecutionCanceled, match="ended with status canceled"):
        one.run()


@BOTH_MODES
def test_the_notebooks_error_is_in_the_tasks_log(
    losant: Emulator, notebook: str, deferrable: bool, task_log: TaskLog
) -> None:
    script = Script(
        notebook=0.02,
        ending="errored",
        errors=(("ValueError", "boom"),),
        files={"result.error.log": b"Traceback (most recent call last)\nValueError: boom"},
    )
    losant.script(notebook, script)

    with pytest.raises(NotebookExecutionFailed):
        task(notebook, deferrable=deferrable).run()

    log = task_log()
    assert "ValueError: boom" in log
    assert "The end of the execution's error log:\nTraceback (most recent call last)" in log
    assert losant.token not in log
    assert losant.files_url not in log


@BOTH_MODES
@pytest.mark.parametrize("cancels", [True, False])
def test_the_timeout_argument_fails_the_task_and_reports_the_executions_fate(
    losant: Emulator, notebook: str, deferrable: bool, cancels: bool
) -> None:
    losant.script(notebook, Script(ending="hang"))

    with pytest.raises(NotebookWaitTimedOut) as caught:
        task(notebook, deferrable=deferrable, timeout=0.1, cancel_on_timeout=cancels).run()

    assert "within timeout (0.1 s)" in str(caught.value)
    assert ("and was cancelled" if cancels else "was not cancelled") in str(caught.value)
    assert losant.executions(notebook)[0]["status"] == ("canceled" if cancels else "inProgress")
    assert operations(losant).count("notebook.cancelExecution") == cancels


def test_an_execution_timeout_counts_while_deferred(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))

    with pytest.raises(NotebookWaitTimedOut, match=r"within execution_timeout \(0\.1 s\)"):
        task(notebook, deferrable=True, execution_timeout=timedelta(seconds=0.1)).run()

    assert losant.executions(notebook)[0]["status"] == "canceled"


@BOTH_MODES
@pytest.mark.parametrize(
    "fault", ["reset_before", "reset_after", "server_error", "truncated", "html", "rate_limited"]
)
def test_a_lost_poll_does_not_fail_the_task(
    losant: Emulator, notebook: str, deferrable: bool, fault: Any
) -> None:
    losant.inject("notebook.logs", Fault(fault), times=2)

    assert task(notebook, deferrable=deferrable).run()["status"] == "completed"


@BOTH_MODES
def test_an_undocumented_status_is_polled_further(losant: Emulator, notebook: str, deferrable: bool) -> None:
    losant.script(notebook, Script(notebook=0.01, ending="hibernating"))

    with pytest.raises(NotebookWaitTimedOut, match=r"did not end within .*: hibernating"):
        task(notebook, deferrable=deferrable, timeout=0.15).run()


# -- bad input --------------------------------------------------------------------------------------------


def refused(losant: Emulator, one: Task) -> str:
    """Return the error message of a task that has submitted nothing."""
    with pytest.raises(AirflowException) as caught:
        one.run()
    message = str(caught.value)
    assert isinstance(caught.value, LosantConfigError | NotebookExecutionError)
    assert losant.token not in message
    assert "\n" not in message
    assert submissions(losant) == []
    assert one.deferrals == []
    return message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"notebook_id": "my-notebook"}, "notebook_id: 'my-notebook' is not a Losant id"),
        ({"notebook_id": ""}, "notebook_id: is missing"),
        ({"application_id": "my-app"}, "application_id: 'my-app' is not a Losant id"),
        ({"relative_to": "yesterday"}, "relative_to: 'yesterday' is not a timestamp"),
        ({"relative_to": 1767225600}, "relative_to: 1767225600 is too small"),
        ({"template_context": "site=north"}, "template_context: is not JSON"),
        ({"template_context": {"at": [b"x"]}}, 'template_context["at"][0]: a bytes is not JSON'),
        ({"template_context": [1]}, "template_context: is a list; Losant needs a mapping"),
        ({"template_context": {"a": "x" * 33_000}}, "template_context: has 33,008 characters"),
        ({"template_context": '{"a": NaN}'}, 'template_context["a"]: nan is not a JSON number'),
        ({"poll_interval": 0}, "poll_interval: 0 is not a positive number of seconds"),
        ({"timeout": timedelta(0)}, "timeout: "),
        ({"max_poll_outage": "long"}, "max_poll_outage: 'long'"),
    ],
    ids=str,
)
@BOTH_MODES
def test_an_invalid_argument_is_named_before_any_request(
    losant: Emulator, notebook: str, options: dict[str, Any], says: str, deferrable: bool
) -> None:
    message = refused(losant, task(**{"notebook": notebook, "deferrable": deferrable, **with_id(options)}))

    assert message.startswith(says)
    assert losant.requests == []


def with_id(options: dict[str, Any]) -> dict[str, Any]:
    return {"notebook" if name == "notebook_id" else name: value for name, value in options.items()}


@pytest.mark.parametrize(
    ("fields", "extra", "says"),
    [
        ({"password": None}, {}, "Connection 'losant_default': password: is empty"),
        ({"password": "two words"}, {}, "Connection 'losant_default': password: contains a blank"),
        (
            {},
            {"application_id": ""},
            "application_id: is missing; pass it, or set application_id in the extra",
        ),
        ({}, {"application_id": "mine"}, "Connection 'losant_default': application_id: 'mine'"),
        ({"host": "http://losant.example"}, {}, "Connection 'losant_default': host: "),
        ({"host": "https://losant.example/v1"}, {}, "Connection 'losant_default': host: "),
        ({}, {"timeout": "long"}, "Connection 'losant_default': timeout: 'long'"),
        ({}, {"allow_http": "perhaps"}, "Connection 'losant_default': allow_http: "),
        ({}, {"verify": "/no/such.pem"}, "Connection 'losant_default': verify: "),
    ],
    ids=str,
)
def test_an_invalid_connection_is_named_before_any_request(
    losant: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    extra: dict[str, Any],
    says: str,
) -> None:
    set_connection(monkeypatch, losant, extra=extra, **fields)

    assert refused(losant, task("0" * 24)).startswith(says)
    assert losant.requests == []


def test_a_host_that_refuses_connections_is_named_with_its_connection(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    set_connection(monkeypatch, losant, host=url, extra={"max_retries": 0})

    message = refused(losant, task(notebook))

    assert f"notebook {notebook} of application" in message
    assert "connection 'losant_default'" in message
    assert f"{url}: no connection" in message


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (http(b"<html>Nothing here</html>", "404 Not Found", "text/html"), "got 404 with text/html"),
        (http(status="302 Found", Location="https://login.example/"), "was redirected (302)"),
        (
            http({"type": "MethodNotAllowed", "message": "No"}, "405 Method Not Allowed"),
            "405 MethodNotAllowed",
        ),
    ],
    ids=["a missing page", "a redirect", "another API"],
)
def test_a_host_that_is_not_losant_is_recognised(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, response: bytes, says: str
) -> None:
    with HttpStub(response) as server:
        set_connection(monkeypatch, losant, host=server.url, extra={"max_retries": 0})
        message = refused(losant, task(notebook))

    assert says in message
    assert "connection 'losant_default'" in message
    assert len([it for it in server.requests if it.startswith(b"POST")]) == 1


def test_an_untrusted_certificate_is_not_retried(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, _ = self_signed(tmp_path)
    with HttpStub(None, context) as server:
        set_connection(monkeypatch, losant, host=server.url)
        with pytest.raises(LosantConfigError, match="certificate was not accepted"):
            task(notebook).run()


def test_a_permanent_refusal_is_not_retried_by_airflow(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (losant.add_token(["notebook.logs"]), notebook, "needs the scope notebook.execute"),
        (losant.add_token(application_id=losant.add_application()), notebook, "Application was not found"),
        (losant.token, "0" * 24, "Notebook was not found"),
    ]
    for token, asked, says in cases:
        set_connection(monkeypatch, losant, password=token)

        with pytest.raises(LosantConfigError) as caught:
            task(asked).run()

        assert isinstance(caught.value, AirflowFailException)
        assert says in str(caught.value)
        assert token not in str(caught.value)
    assert losant.executions(notebook) == []


def test_a_page_in_place_of_the_response_to_a_submission_is_retried_by_airflow(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, extra={"max_retries": 0})
    losant.inject("notebook.execute", Fault("html", status=200))

    with pytest.raises(NotebookExecutionError, match=r"got text/html.* instead of JSON"):
        task(notebook, max_log_lag=0.01).run()


def test_a_retry_that_may_not_read_the_log_is_retried_by_airflow(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password=losant.add_token(["notebook.execute"]))

    retry = task(notebook)
    retry.ti.try_number = 2

    with pytest.raises(
        NotebookExecutionError, match=r"needs the scope notebook\.logs\); whether Losant runs"
    ):
        retry.run()


def test_a_wrong_token_is_not_retried(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password="eyJ.wrong.token")

    with pytest.raises(AirflowFailException):
        task(notebook).run()


def test_a_wrong_token_starts_nothing_and_is_not_shown(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password="eyJ.wrong.token")

    with pytest.raises(AirflowException, match="the API token is wrong, expired or revoked") as caught:
        task(notebook).run()

    assert "eyJ" not in str(caught.value)
    assert losant.executions(notebook) == []


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}], ids=repr)
def test_a_foreign_event_is_refused_and_never_read_as_success(notebook: str, event: Any) -> None:
    operator = task(notebook).make()

    with pytest.raises(ValueError, match="not the event of a notebook wait"):
        operator.execute_complete(context_of(Ti()), event)


# -- killing ----------------------------------------------------------------------------------------------


def kill_while_it_waits(operator: LosantNotebookExecuteOperator) -> None:
    """Run an operator that is killed after it has submitted, before its first poll."""
    ti = Ti()
    push = ti.xcom_push

    def killed_while_it_waits(key: str, value: Any) -> None:
        push(key, value)
        if key == "losant_notebook_link":
            operator.on_kill()

    ti.xcom_push = killed_while_it_waits  # type: ignore[method-assign]  # of this task instance only
    with pytest.raises(AirflowException, match="killed"):
        operator.execute(context_of(ti))


def test_a_killed_task_cancels_its_execution_once(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    operator = task(notebook).make()

    kill_while_it_waits(operator)
    operator.on_kill()

    assert operations(losant) == ["notebook.execute", "notebook.cancelExecution"]
    assert losant.executions(notebook)[0]["status"] == "canceled"


def test_a_kill_right_after_the_submission_cancels_as_soon_as_losant_knows_the_execution(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))
    losant.switches.cancel_lag = 1.5

    kill_while_it_waits(task(notebook).make())

    assert losant.executions(notebook)[0]["status"] == "canceled"


def test_a_kill_right_after_the_submission_is_over_at_once_if_the_execution_has_ended(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(notebook=0))

    kill_while_it_waits(task(notebook).make())

    assert operations(losant) == ["notebook.execute", "notebook.cancelExecution", "notebook.logs"]


@pytest.mark.parametrize(
    "fault", [Fault("html"), Fault("server_error", processed=True), Fault("reset_before")], ids=repr
)
def test_a_cancel_that_fails_once_is_repeated_within_the_kill(
    losant: Emulator, notebook: str, fault: Fault
) -> None:
    losant.script(notebook, Script(ending="hang"))
    losant.inject("notebook.cancelExecution", fault)

    kill_while_it_waits(task(notebook).make())

    assert losant.executions(notebook)[0]["status"] == "canceled"
    assert operations(losant).count("notebook.cancelExecution") == 2


def test_a_kill_does_not_cancel_an_ended_execution(losant: Emulator, notebook: str) -> None:
    one = task(notebook)
    operator = one.make()
    operator.execute(context_of(one.ti))

    operator.on_kill()

    assert "notebook.cancelExecution" not in operations(losant)


@pytest.mark.parametrize("options", [{"deferrable": True}, {"wait_for_completion": False}], ids=str)
def test_a_kill_does_not_cancel_an_execution_that_the_worker_has_released(
    losant: Emulator, notebook: str, options: dict[str, Any]
) -> None:
    operator = task(notebook, **options).make()
    with contextlib.suppress(TaskDeferred):
        operator.execute(context_of(Ti()))

    operator.on_kill()

    assert "notebook.cancelExecution" not in operations(losant)


def test_a_kill_during_the_submission_cancels_the_submitted_execution(
    losant: Emulator, notebook: str
) -> None:
    """Airflow 2 raises in its signal handler, at any point of the running code; Airflow 3 does not."""
    losant.script(notebook, Script(ending="hang"))
    losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))
    operator = task(notebook).make()

    class Terminated(BaseException):
        pass

    def on_signal(*_: object) -> None:
        operator.on_kill()
        raise Terminated

    def kill_when_begun() -> None:
        for _ in range(500):
            if losant.executions(notebook):
                os.kill(os.getpid(), signal.SIGUSR1)
                return
            time.sleep(0.02)

    before = signal.signal(signal.SIGUSR1, on_signal)
    threading.Thread(target=kill_when_begun).start()
    try:
        with pytest.raises(Terminated):
            operator.execute(context_of(Ti()))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert [it["status"] for it in losant.executions(notebook)] == ["canceled"]
    assert operations(losant).count("notebook.cancelExecution") == 1


def test_a_kill_before_the_submission_does_nothing(losant: Emulator, notebook: str) -> None:
    task(notebook).make().on_kill()

    assert losant.requests == []


# -- the constructor and the deferral ---------------------------------------------------------------------


def test_a_constructor_stores_what_it_is_given_and_sends_no_request(losant: Emulator) -> None:
    operator = task("{{ nothing }}", timeout=60, retry_on="errored").make()

    assert (operator.notebook_id, operator.timeout, operator.retry_on) == ("{{ nothing }}", 60, "errored")
    assert losant.requests == []


def test_every_templated_field_is_an_argument(notebook: str) -> None:
    operator = task(notebook).make()

    assert {"notebook_id", "application_id", "relative_to", "template_context"} <= set(
        operator.template_fields
    )
    assert all(hasattr(operator, name) for name in operator.template_fields)


def test_a_deferral_has_a_timeout_after_the_providers_own_deadline(notebook: str) -> None:
    one = task(notebook, deferrable=True, timeout=100)
    one.run()
    (deferral,) = one.deferrals

    assert deferral.timeout is not None
    assert timedelta(seconds=200) < deferral.timeout < timedelta(seconds=260)
    assert deferral.method_name == "execute_complete"


def test_between_execute_and_the_request_are_at_most_six_frames(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: dict[str, list[str]] = {}
    send = HTTPAdapter.send

    def record(adapter: HTTPAdapter, request: Any, **more: Any) -> Any:
        own = [it.name for it in traceback.extract_stack() if "/airflow_provider_losant/" in it.filename]
        frames[urlsplit(request.url or "").path.rpartition("/")[2]] = own
        return send(adapter, request, **more)

    monkeypatch.setattr(HTTPAdapter, "send", record)
    task(notebook).run()

    assert frames["execute"] == ["execute", "start_and_wait", "_submit", "run", "_call", "_send"]
    assert frames["logs"] == ["execute", "start_and_wait", "_wait", "run", "_call", "_send"]
