# SPDX-License-Identifier: Apache-2.0
"""The orphan sweep: invalid arguments, and which executions it cancels; see also the journeys."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_losant.emulator import Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookExecutionError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from tests.provider.airflow_stub import supervise
from tests.provider.conftest import statuses
from tests.provider.tasks import Ti, context_of
from tests.support.factories import owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

pytestmark = [
    pytest.mark.usefixtures("losant_connection"),
    # a warning of Airflow 3.0 and 3.1 about their own way to load a connection
    pytest.mark.filterwarnings(r"ignore:Using Connection\.\w+ from .airflow:DeprecationWarning:airflow\."),
]

ON_3 = pytest.mark.airflow(since="3.0")
BASE_URL = "https://airflow.example"
OURS = asdict(
    owner(dag_id="energy", task_id="report", run_id="manual__2026-01-01", max_tries=0, deployment=BASE_URL)
)


@pytest.mark.parametrize("age", ["min_age", "max_age"])
def test_an_invalid_age_is_refused_before_any_request(losant: Emulator, age: str) -> None:
    wrong: dict[str, Any] = {age: -1}
    with pytest.raises(LosantConfigError, match=f"^{age}: "):
        LosantNotebookOrphanSweepOperator(task_id="sweep", **wrong).execute({})

    assert losant.requests == []


@pytest.mark.parametrize("empty", [[], (), None], ids=str)
def test_an_empty_list_of_notebooks_sweeps_none_of_them(
    losant: Emulator, notebook: str, task_log: TaskLog, empty: Any
) -> None:
    losant.script(notebook, Script(ending="hang"))
    LosantHook().execute_notebook(notebook)
    losant.clear_requests()
    with DAG("energy", schedule=None):
        listing = LosantNotebookExecuteOperator(task_id="list", notebook_id=notebook)
        ids: Any = listing.output
        one = LosantNotebookOrphanSweepOperator(task_id="sweep", notebook_ids=ids, min_age=1e-6)
    one.notebook_ids = empty  # as Airflow resolves it

    assert one.execute({}) == {"checked": 0, "cancelled": [], "left": {}, "incomplete": []}
    assert losant.requests == []
    assert "notebook_ids is empty: no notebook is checked" in task_log()


def by_argument(operator: Any, listing: Any) -> Any:
    return operator.expand(notebook_ids=listing.output)


def by_dictionaries(operator: Any, listing: Any) -> Any:
    return operator.expand_kwargs([{"notebook_ids": None}, {"notebook_ids": [], "min_age": 1}])


def by_output(operator: Any, listing: Any) -> Any:
    return operator.expand_kwargs(listing.output)


@pytest.mark.parametrize("expand", [by_argument, by_dictionaries, by_output])
def test_a_mapped_list_of_notebooks_that_is_none_sweeps_none_of_them(
    losant: Emulator, notebook: str, expand: Any
) -> None:
    with DAG("energy", schedule=None):
        listing = LosantNotebookExecuteOperator(task_id="list", notebook_id=notebook)
        mapped = expand(LosantNotebookOrphanSweepOperator.partial(task_id="sweep"), listing)

    assert mapped.unmap({"notebook_ids": None}).execute({})["checked"] == 0
    assert losant.requests == []


@pytest.mark.parametrize("given", [{}, {"notebook_ids": None}], ids=["default", "None"])
def test_a_sweep_that_is_mapped_over_something_else_sweeps_the_whole_application(
    losant: Emulator, notebook: str, given: dict[str, Any]
) -> None:
    losant.script(notebook, Script(ending="hang"))
    LosantHook().execute_notebook(notebook)
    with DAG("energy", schedule=None):
        mapped: Any = LosantNotebookOrphanSweepOperator.partial(task_id="sweep", **given).expand(
            application_id=[losant.application_id]
        )

    assert mapped.unmap({"application_id": losant.application_id}).execute({})["checked"] == 1


def test_an_empty_list_in_the_dag_sweeps_no_notebook(losant: Emulator, notebook: str) -> None:
    report = LosantNotebookOrphanSweepOperator(task_id="sweep", notebook_ids=[]).execute({})

    assert report["checked"] == 0
    assert losant.requests == []


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the address of this Airflow."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE_URL)


@pytest.fixture
def submit(losant: Emulator, notebook: str) -> Callable[..., str]:
    """Return a function that defers a task for an execution without an end, and returns its id."""
    losant.script(notebook, Script(ending="hang"))

    def submit(ti: Ti, **options: Any) -> str:
        given = {"task_id": "report", "notebook_id": notebook, "deferrable": True, **options}
        with pytest.raises(TaskDeferred):
            LosantNotebookExecuteOperator(**given).execute(context_of(ti))
        return str(ti.pushed["execution_id"])

    return submit


def sweep() -> dict[str, Any]:
    return LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})


# -- whose execution it is --------------------------------------------------------------------------------


@pytest.mark.airflow(since="3.2")
def test_without_a_base_url_an_orphan_is_recognised_by_its_dag_runs_start_date(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = submit(ti := Ti())
    supervise(monkeypatch, ti)

    assert sweep()["cancelled"] == [orphan]


@pytest.mark.airflow(since="3.0", before="3.2")
def test_without_dag_run_start_dates_the_sweep_reports_which_setting_is_required(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ti := Ti())
    supervise(monkeypatch, ti)

    assert sweep() == {
        "checked": 1,
        "cancelled": [],
        "left": {"its Airflow is unknown; set [api] base_url": 1},
        "incomplete": [],
    }


@ON_3
@pytest.mark.usefixtures("base_url")
def test_an_orphan_is_recognised_by_the_base_url(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = submit(ti := Ti())
    supervise(monkeypatch, ti)

    assert sweep()["cancelled"] == [orphan]


@ON_3
@pytest.mark.usefixtures("base_url")
def test_the_execution_of_a_deleted_dag_run_is_cancelled_by_the_base_url(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = submit(ti := Ti())
    supervise(monkeypatch, ti, state=None, has_dag_run=False)

    assert sweep()["cancelled"] == [orphan]


@ON_3
def test_without_a_base_url_the_execution_of_an_unknown_dag_run_is_left_to_its_own_airflow(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ti := Ti())
    supervise(monkeypatch, ti, state=None, has_dag_run=False)

    assert sweep()["left"] == {"submitted by another Airflow": 1}


@ON_3
def test_the_execution_of_an_airflow_with_another_base_url_is_left_alone(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://another.example")
    submit(ti := Ti())
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE_URL)
    supervise(monkeypatch, ti, has_dag_run=False)

    assert sweep()["left"] == {"submitted by another Airflow": 1}


@pytest.mark.airflow(since="3.2")
def test_without_a_base_url_the_execution_of_a_dag_run_that_was_created_again_names_the_required_setting(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ti := Ti())
    supervise(monkeypatch, Ti(dag_run_start=ti.dag_run_start + timedelta(hours=1)))

    assert sweep()["left"] == {"its Airflow is unknown; set [api] base_url": 1}


@ON_3
@pytest.mark.usefixtures("base_url")
def test_an_execution_that_may_outlive_its_task_or_is_too_young_is_left_alone(
    submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ti := Ti())
    submit(Ti(run_id="manual__2026-01-02"), cancel_on_kill=False)
    supervise(monkeypatch, ti)

    report = LosantNotebookOrphanSweepOperator(task_id="sweep").execute({})

    assert report["cancelled"] == []
    assert report["left"] == {"may outlive its task": 1, "younger than min_age": 1}


@ON_3
@pytest.mark.usefixtures("base_url")
def test_a_notebook_whose_log_cannot_be_read_is_reported_and_the_others_are_swept(
    losant: Emulator, notebook: str, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = submit(ti := Ti())
    unreadable = losant.add_notebook("Unreadable")
    supervise(monkeypatch, ti)
    losant.inject("notebook.logs", Fault("server_error"), times=2)
    sweep = LosantNotebookOrphanSweepOperator(
        task_id="sweep", notebook_ids=[unreadable, notebook], min_age=1e-6
    )

    with pytest.raises(NotebookExecutionError, match=f"^notebook {unreadable}: .*503"):
        sweep.execute({})

    assert statuses(losant, notebook) == {orphan: "canceled"}


# -- two executions of one task ---------------------------------------------------------------------------


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize("state", ["running", "deferred"])
def test_of_two_executions_the_one_that_the_task_does_not_wait_for_is_cancelled(
    losant: Emulator,
    notebook: str,
    submit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    twin, awaited = submit(ti := Ti()), submit(ti)
    supervise(monkeypatch, ti, state=state, awaited_id=awaited)

    report = sweep()

    assert report == {
        "checked": 2,
        "cancelled": [twin],
        "left": {f"its task is {state}": 1},
        "incomplete": [],
    }
    assert statuses(losant, notebook) == {twin: "canceled", awaited: "inProgress"}


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    ("state", "has_xcom"),
    [
        ("running", False),
        ("deferred", False),
        ("queued", True),
        ("scheduled", True),
        ("up_for_retry", True),
        ("up_for_reschedule", True),
        ("restarting", True),
    ],
)
def test_of_two_executions_none_is_cancelled_while_it_is_unknown_which_one_the_task_waits_for(
    losant: Emulator,
    notebook: str,
    submit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: str,
    has_xcom: bool,
) -> None:
    one, other = submit(ti := Ti()), submit(ti)
    supervise(monkeypatch, ti, state=state, awaited_id=other if has_xcom else None)

    report = sweep()

    assert report == {"checked": 2, "cancelled": [], "left": {f"its task is {state}": 2}, "incomplete": []}
    assert statuses(losant, notebook) == dict.fromkeys([one, other], "inProgress")


# -- iterations of a loop ---------------------------------------------------------------------------------

REGION = "01a222ef-95d2-7255-9cd4-3ae312a41445"
LOOPED = {**OURS, "region": f"{REGION}/1", "loop_index": 1}


@pytest.mark.airflow(since="3.4")
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    ("airflow", "outcome"),
    [
        ({"ended": [("report", REGION, 1, "failed")]}, "its task is failed"),
        ({"ended": [("report", REGION, 1, "success")]}, "its task is success"),
        ({"ended": [("report", REGION, 0, "success"), ("other", REGION, 1, "failed")]}, None),
        ({"ended": [("report", "01a222ef-9ad1-73ae-adc4-03ae0eba3ca6", 1, "success")]}, None),
        ({"state": "success"}, None),  # of the latest pass, which is all that Airflow reports
        ({"is_active": False}, "its task is cleared or deleted"),
        ({"has_dag_run": False}, "its task is cleared or deleted"),
    ],
    ids=str,
)
def test_an_execution_of_a_looped_task_is_cancelled_only_if_its_own_iteration_has_ended(
    losant: Emulator,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
    *,
    airflow: dict[str, Any],
    outcome: str | None,
) -> None:
    losant.script(notebook, Script(ending="hang"))
    looped = LosantHook().execute_notebook(notebook, template_context={"airflow": LOOPED})
    supervise(monkeypatch, Ti(), **airflow)

    report = sweep()

    assert report["cancelled"] == ([looped] if outcome else [])
    assert report["left"] == ({} if outcome else {"its task is unfinished": 1})
    assert (outcome or "is no orphan: its task is unfinished") in task_log()


# -- a log that may go on ----------------------------------------------------------------------------------


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    ("older", "max_limit", "may_go_on"),
    [(49, None, True), (50, None, False), (60, 50, True), (48, None, False)],
    ids=["50 entries", "51 entries", "61 entries of which Losant returns 50", "49 entries"],
)
def test_a_log_that_may_go_on_is_a_warning_and_what_was_seen_is_swept(
    losant: Emulator,
    notebook: str,
    submit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
    *,
    older: int,
    max_limit: int | None,
    may_go_on: bool,
) -> None:
    hook = LosantHook()
    for _ in range(older):
        hook.execute_notebook(notebook)
    orphan = submit(ti := Ti())
    losant.switches.max_limit = max_limit
    supervise(monkeypatch, ti)

    report = sweep()

    assert report["cancelled"] == [orphan]
    assert report["incomplete"] == ([notebook] if may_go_on else [])
    assert ("could not be read back to" in task_log()) == may_go_on


# -- markers that are not ours ----------------------------------------------------------------------------


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    "odd",
    [
        {**OURS, "dag_id": 5},
        {**OURS, "dag_id": None},
        {**OURS, "run_id": ["manual"]},
        {**OURS, "map_index": "0"},
        {**OURS, "map_index": True},
        {**OURS, "region": None},
        {**OURS, "loop_index": "1"},
        {**OURS, "may_sweep": "yes"},
        {**OURS, "dag_run_start": 1.5},
        {name: value for name, value in OURS.items() if name != "deployment"},
        {"dag_id": "energy"},
        {},
        [],
        "mine",
        None,
    ],
    ids=str,
)
def test_an_execution_with_an_odd_marker_is_left_alone_and_the_rest_is_swept(
    losant: Emulator,
    notebook: str,
    submit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    odd: object,
) -> None:
    orphan = submit(ti := Ti())
    foreign = LosantHook().execute_notebook(notebook, template_context={"airflow": odd})
    supervise(monkeypatch, ti)

    report = sweep()

    assert report["cancelled"] == [orphan]
    assert report["left"] == {"not submitted by Airflow": 1}
    assert statuses(losant, notebook) == {orphan: "canceled", foreign: "inProgress"}


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize(
    "text", ["", "no JSON", "[" * 30_000, "5", '{"airflow": NaN}', '{"airflow": {"dag_id": "\\ud800"}}']
)
def test_an_execution_with_an_unreadable_context_is_left_alone_and_the_rest_is_swept(
    losant: Emulator, notebook: str, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    orphan = submit(ti := Ti())
    submit_raw(losant, notebook, {"templateContext": text})
    supervise(monkeypatch, ti)

    assert sweep()["cancelled"] == [orphan]


def submit_raw(losant: Emulator, notebook: str, body: Mapping[str, object]) -> None:
    """Submit an execution as another program does."""
    import requests

    response = requests.post(
        f"{losant.url}/applications/{losant.application_id}/notebooks/{notebook}/execute",
        json=body,
        headers={"Authorization": f"Bearer {losant.token}"},
        timeout=10,
    )
    assert response.ok, response.text


@ON_3
@pytest.mark.usefixtures("base_url")
@pytest.mark.parametrize("order", ["before", "after"])
def test_an_execution_that_airflow_cannot_look_up_is_reported_and_the_rest_is_swept(
    losant: Emulator, notebook: str, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    def submit_foreign() -> str:
        return LosantHook().execute_notebook(
            notebook, template_context={"airflow": {**OURS, "dag_id": "../x y"}}
        )

    foreign = submit_foreign() if order == "before" else ""
    orphan = submit(ti := Ti())
    foreign = foreign or submit_foreign()
    supervise(monkeypatch, ti, refused={"../x y"})

    with pytest.raises(NotebookExecutionError, match=f"execution {foreign} could not be checked: .*../x y"):
        sweep()

    assert statuses(losant, notebook) == {orphan: "canceled", foreign: "inProgress"}
