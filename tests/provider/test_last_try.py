# SPDX-License-Identifier: Apache-2.0
"""A failure while an execution is active: a retry reconnects to it; after the last try it is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.emulator.faults import FILES
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookOutputError,
)
from airflow_provider_losant.execution import canceller
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import TaskLog, cancels, operations, set_connection
from tests.provider.tasks import BOTH_MODES, Task, Ti
from tests.support.factories import BRIEF
from tests.support.http_stub import HttpStub, http

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("losant_connection")

OUTAGE = r"Lost contact with Losant: .*503"
DENIED = r"denied access to the notebook.s execution log: .*needs the scope notebook\.logs"


def task(notebook: str, ti: Ti, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given), ti)


def states(losant: Emulator, notebook: str) -> list[str]:
    return [it["status"] for it in losant.executions(notebook)]


def notes(failure: BaseException) -> str:
    return "".join(getattr(failure, "__notes__", ()))


@pytest.fixture
def hanging(losant: Emulator, notebook: str) -> str:
    """Return a notebook whose executions do not end by themselves."""
    losant.script(notebook, Script(ending="hang"))
    return notebook


@pytest.fixture(params=["outage", "denied"])
def unreadable(request: pytest.FixtureRequest, losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the execution log unreadable, for a while or for this token; returns what the message says."""
    if request.param == "outage":
        losant.inject("notebook.logs", Fault("server_error"), times=1000)
        return OUTAGE
    set_connection(
        monkeypatch, losant, password=losant.add_token(["notebook.execute", "notebook.cancelExecution"])
    )
    return DENIED


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for a lost execution for one second only after the last try."""
    monkeypatch.setattr(canceller, "FAILURE_BUDGET", 1.0)


# -- the log cannot be read during the wait ---------------------------------------------------------------


@BOTH_MODES
def test_with_a_retry_left_a_wait_that_is_given_up_cancels_nothing(
    losant: Emulator, hanging: str, unreadable: str, deferrable: bool
) -> None:
    with pytest.raises(
        NotebookExecutionError, match=rf"{unreadable}.*; the execution was not cancelled, and a retry"
    ):
        task(hanging, Ti(max_tries=1), deferrable=deferrable, max_poll_outage=0.1).run()

    assert states(losant, hanging) == ["inProgress"]


@BOTH_MODES
def test_on_the_last_try_a_wait_that_is_given_up_cancels_the_execution_and_names_it(
    losant: Emulator, hanging: str, unreadable: str, deferrable: bool
) -> None:
    with pytest.raises(NotebookExecutionError, match=unreadable) as caught:
        task(hanging, Ti(), deferrable=deferrable, max_poll_outage=0.1).run()

    (execution,) = losant.executions(hanging)
    assert execution["status"] == "canceled"
    assert f"execution {execution['id']} was cancelled, because no retry is left" in str(caught.value)
    assert "a retry will" not in str(caught.value)


@BOTH_MODES
def test_on_the_last_try_an_execution_that_may_outlive_its_task_is_named_but_not_cancelled(
    losant: Emulator, hanging: str, unreadable: str, deferrable: bool
) -> None:
    options = {"deferrable": deferrable, "max_poll_outage": 0.1, "cancel_on_kill": False}
    with pytest.raises(NotebookExecutionError, match=unreadable) as caught:
        task(hanging, Ti(), **options).run()

    (execution,) = losant.executions(hanging)
    assert execution["status"] == "inProgress"
    assert f"execution {execution['id']} was not cancelled (cancel_on_kill=False)" in str(caught.value)


@BOTH_MODES
def test_on_the_last_try_an_execution_that_cannot_be_cancelled_is_named(
    losant: Emulator, hanging: str, deferrable: bool
) -> None:
    losant.inject("notebook.logs", Fault("server_error"), times=1000)
    losant.inject("notebook.cancelExecution", Fault("server_error"), times=1000)

    with pytest.raises(NotebookExecutionError, match=OUTAGE) as caught:
        task(hanging, Ti(), deferrable=deferrable, max_poll_outage=0.1).run()

    (execution,) = losant.executions(hanging)
    assert f"execution {execution['id']} could not be cancelled" in str(caught.value)
    assert "may still use run minutes" in str(caught.value)


@BOTH_MODES
def test_an_adopted_execution_is_not_cancelled_after_the_last_try(
    losant: Emulator, hanging: str, deferrable: bool
) -> None:
    other = task(hanging, Ti(task_id="other"), wait_for_completion=False).run()["execution_id"]
    one = task(hanging, Ti(), deferrable=deferrable, if_running="adopt", max_poll_outage=0.1)
    push = one.ti.xcom_push

    def lose_contact(key: str, value: Any) -> None:
        push(key, value)
        if key == "execution_id":
            losant.inject("notebook.logs", Fault("server_error"), times=1000)

    one.ti.xcom_push = lose_contact  # type: ignore[method-assign]  # of this task instance only

    with pytest.raises(NotebookExecutionError, match=OUTAGE) as caught:
        one.run()

    assert one.ti.pushed["execution_id"] == other
    assert states(losant, hanging) == ["inProgress"]
    assert "a retry will" not in str(caught.value)


# -- Airflow fails right after the submission -------------------------------------------------------------


class TiWithoutXComs(Ti):
    """A task instance whose XCom backend fails."""

    def xcom_push(self, key: str, value: Any) -> None:
        raise ConnectionError(f"no backend for {key}")


@BOTH_MODES
def test_with_a_retry_left_a_failing_xcom_backend_leads_to_a_reconnection(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.3))
    with pytest.raises(ConnectionError):
        task(notebook, TiWithoutXComs(max_tries=1), deferrable=deferrable).run()
    assert cancels(losant) == 0

    result = task(notebook, Ti(try_number=2, max_tries=1), deferrable=deferrable).run()

    assert [it["id"] for it in losant.executions(notebook)] == [result["execution_id"]]
    assert result["status"] == "completed"


@BOTH_MODES
def test_on_the_last_try_a_failing_xcom_backend_cancels_the_execution_and_names_it(
    losant: Emulator, hanging: str, deferrable: bool, task_log: TaskLog
) -> None:
    with pytest.raises(ConnectionError) as caught:
        task(hanging, TiWithoutXComs(), deferrable=deferrable).run()

    (execution,) = losant.executions(hanging)
    fate = f"After the last try, execution {execution['id']} was cancelled, because no retry is left"
    assert execution["status"] == "canceled"
    assert notes(caught.value) == fate
    assert fate in task_log()


# -- whether there is an execution is unknown -------------------------------------------------------------


def lose_submission(losant: Emulator, *, unreadable: int) -> None:
    """Lose the response to the submission, and let so many reads of the log fail afterwards."""
    losant.inject("notebook.execute", Fault("reset_after"))
    losant.inject("notebook.logs", Fault("server_error"), times=unreadable)


def test_with_a_retry_left_a_lost_submission_is_reconnected_to(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(notebook=0.3))
    lose_submission(losant, unreadable=1)
    lost = {"max_poll_outage": 0.001, "max_log_lag": 0.1}
    with pytest.raises(NotebookExecutionError, match="is unknown, a retry searches again"):
        task(notebook, Ti(max_tries=1), **lost).run()
    assert cancels(losant) == 0

    result = task(notebook, Ti(try_number=2, max_tries=1)).run()

    assert [it["id"] for it in losant.executions(notebook)] == [result["execution_id"]]


@BOTH_MODES
def test_on_the_last_try_a_lost_submission_is_searched_for_and_cancelled(
    losant: Emulator, hanging: str, deferrable: bool
) -> None:
    lose_submission(losant, unreadable=2)

    with pytest.raises(NotebookExecutionError) as caught:
        task(hanging, Ti(), deferrable=deferrable, max_poll_outage=0.001, max_log_lag=0.1).run()

    (execution,) = losant.executions(hanging)
    assert execution["status"] == "canceled"
    assert f"execution {execution['id']} was cancelled, because no retry is left" in notes(caught.value)


@pytest.mark.usefixtures("short_search")
def test_on_the_last_try_a_lost_submission_that_cannot_be_found_is_reported(
    losant: Emulator, hanging: str, task_log: TaskLog
) -> None:
    lose_submission(losant, unreadable=1000)

    with pytest.raises(NotebookExecutionError) as caught:
        task(hanging, Ti(), max_poll_outage=0.001, max_log_lag=0.1).run()

    assert f"whether an execution of notebook {hanging}" in notes(caught.value)
    assert notes(caught.value) in task_log()


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("max_tries", [0, 1], ids=["last try", "retry left"])
def test_after_a_page_that_a_gateway_may_have_sent_the_log_is_searched_before_the_host_is_given_up(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, max_tries: int
) -> None:
    with HttpStub(http(b"<html>Welcome</html>", kind="text/html")) as server:
        set_connection(monkeypatch, losant, host=server.url, extra={"max_retries": 0})
        with pytest.raises(NotebookExecutionError, match="got text/html instead of JSON") as caught:
            task(notebook, Ti(max_tries=max_tries), max_log_lag=1.5).run()

    assert "is unknown, a retry searches again" in str(caught.value)
    assert len([it for it in server.requests if it.startswith(b"POST")]) == 1
    assert 1 < len([it for it in server.requests if it.startswith(b"GET")]) < 9


# -- nothing was submitted, or it has completed -----------------------------------------------------------


def test_a_refused_submission_on_the_last_try_is_not_searched_for(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password=losant.add_token(["notebook.logs"]))

    with pytest.raises(LosantConfigError, match=r"needs the scope notebook\.execute") as caught:
        task(notebook, Ti()).run()

    assert operations(losant) == ["notebook.execute"]
    assert notes(caught.value) == ""


@BOTH_MODES
@pytest.mark.parametrize("max_tries", [0, 1], ids=["last try", "retry left"])
def test_a_permanent_error_while_outputs_are_saved_is_retried_by_airflow(
    losant: Emulator, notebook: str, tmp_path: Path, *, deferrable: bool, max_tries: int
) -> None:
    losant.script(notebook, BRIEF)
    losant.inject(FILES, Fault("html", status=403), times=100)
    options = {"deferrable": deferrable, "save_outputs_to": str(tmp_path)}

    with pytest.raises(NotebookOutputError, match="The outputs could not be saved: ") as caught:
        task(notebook, Ti(max_tries=max_tries), **options).run()

    assert not isinstance(caught.value, AirflowFailException)
    assert states(losant, notebook) == ["completed"]
    assert cancels(losant) == 0
