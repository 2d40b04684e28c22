# SPDX-License-Identifier: Apache-2.0
"""The link to the report, and what its route responds; the routes themselves are tested in tests/ui."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import NotebookExecutionFailed
from airflow_provider_losant.links import optional_links
from airflow_provider_losant.links.report import URL_PREFIX, LosantReportLink, report_links_enabled
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.plugins import report_page
from airflow_provider_losant.plugins.lookup_limit import LookupLimit
from airflow_provider_losant.plugins.report import LosantReportPlugin
from airflow_provider_losant.plugins.report_page import Place, open_report
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import TaskLog, set_connection
from tests.provider.tasks import BOTH_MODES, Task, Ti
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE

REFERENCE, LINK = "losant_report", "losant_report_link"
FAILED = Script(
    notebook=0.03,
    ending="errored",
    errors=(("ValueError", "no data"),),
    files={"result.error.log": b"Traceback", "result.ipynb": b"{}"},
)
PLACE = Place(dag_id="energy", run_id="manual__2026-01-01", task_id="report", map_index="-1", try_number="1")


@pytest.fixture
def turned_on(monkeypatch: pytest.MonkeyPatch, losant_connection: str) -> None:
    """Turn the links on."""
    monkeypatch.setenv("AIRFLOW__LOSANT__REPORT_LINKS", "True")
    monkeypatch.setattr(report_page, "limit", LookupLimit())


def run(notebook: str, ti: Ti | None = None, **more: Any) -> dict[str, Any]:
    """Run the notebook as a task, and return the XComs that it has pushed."""
    entries = more.pop("context", {})
    arguments = {"task_id": "report", "poll_interval": 0.02, "max_log_lag": 0.05, **more}
    task = Task(
        lambda: LosantNotebookExecuteOperator(notebook_id=notebook, **arguments), ti or Ti(), more=entries
    )
    task.run()
    return task.ti.pushed


def as_web_server(pushed: dict[str, Any], place: Place = PLACE) -> report_page.Response:
    """Open the report of the only task instance there is."""

    def read(asked: Place) -> Any:
        return pushed.get(REFERENCE) if replace(asked, try_number="1") == PLACE else None

    return open_report(place, "ada", read)


@pytest.fixture
def served(turned_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the links on, also on an Airflow that has no route for them."""
    monkeypatch.setattr("airflow_provider_losant.links.report._WITHOUT_SESSION", ())


# -- the link ---------------------------------------------------------------------------------------------


@pytest.mark.airflow(since="3.1")
@pytest.mark.usefixtures("turned_on")
@BOTH_MODES
def test_a_task_offers_its_report_by_a_path_below_the_root_of_airflow_3(
    notebook: str, losant: Emulator, deferrable: bool
) -> None:
    run_id = "scheduled__2026-01-01T00:00:00+00:00"
    ti = Ti(run_id=run_id, map_index=2, try_number=3, max_tries=3)

    pushed = run(notebook, ti, deferrable=deferrable)

    (execution,) = losant.executions(notebook)
    assert pushed[LINK] == "losant/report/energy/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00/report/2/3"
    assert pushed[REFERENCE] == {
        "application_id": losant.application_id,
        "notebook_id": notebook,
        "execution_id": execution["id"],
        "losant_conn_id": "losant_default",
        "try_number": "3",
    }
    assert "signature=" not in json.dumps(pushed)


@pytest.mark.airflow(before="3.0")
@pytest.mark.usefixtures("turned_on")
@BOTH_MODES
def test_a_task_offers_its_report_by_a_path_from_the_root_of_the_host_on_airflow_2(
    notebook: str, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    pushed = run(notebook, deferrable=deferrable)
    value = "airflow_provider_losant.links.notebook.XCom.get_value"
    monkeypatch.setattr(value, lambda key, **_: pushed.get(key))

    def link() -> str:
        return LosantReportLink().get_link(None, ti_key=None)  # type: ignore[arg-type]  # not used there

    assert link() == "/losant/report/energy/manual__2026-01-01/report/-1/1"
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://data.example/airflow/")
    assert link() == "/airflow/losant/report/energy/manual__2026-01-01/report/-1/1"
    del pushed[LINK]
    assert link() == ""


@pytest.mark.airflow(since="3.0", before="3.1")
@pytest.mark.usefixtures("turned_on")
def test_where_a_route_cannot_know_its_user_there_is_no_link(notebook: str) -> None:
    assert not {LINK, REFERENCE} & set(run(notebook))


@pytest.mark.parametrize(
    ("version", "is_enabled"),
    [
        ("2.11.2", True),
        ("3.0.6", False),
        ("3.1.0", False),
        ("3.1.1", True),
        ("3.1.10", True),
        ("3.3.2", True),
    ],
)
@pytest.mark.usefixtures("turned_on")
def test_the_setting_has_an_effect_only_where_a_route_knows_its_user(
    monkeypatch: pytest.MonkeyPatch, version: str, is_enabled: bool
) -> None:
    monkeypatch.setattr("airflow_provider_losant.links.report.AIRFLOW_VERSION", version)

    assert report_links_enabled() is is_enabled


@pytest.mark.usefixtures("losant_connection")
@BOTH_MODES
def test_by_default_a_task_offers_no_report(notebook: str, deferrable: bool) -> None:
    assert not {LINK, REFERENCE} & set(run(notebook, deferrable=deferrable))


def test_operators_have_the_link_only_if_it_is_turned_on() -> None:
    code = (
        f"import json, sys; from {PACKAGE}.links.report import report_links_enabled;"
        f"from {PACKAGE}.operators.notebook import LosantNotebookExecuteOperator as execute;"
        f"from {PACKAGE}.sensors.notebook import LosantNotebookExecutionSensor as sensor;"
        "names = [sorted(link.name for link in it.operator_extra_links) for it in (execute, sensor)];"
        "print(json.dumps([report_links_enabled(), *names]))"
    )
    both = ["Open in Losant", "Open report"]

    assert result_of(code, "False") == [False, both[:1], both[:1]]
    is_enabled, *names = result_of(code, "True")
    assert names == ([both, both] if is_enabled else [both[:1], both[:1]])


@pytest.mark.usefixtures("served")
def test_what_is_turned_on_is_the_link_of_operators_and_one_route() -> None:
    plugin = LosantReportPlugin()

    assert [it.name for it in optional_links()] == ["Open report"]
    assert len(plugin.fastapi_apps) + len(plugin.flask_blueprints) == 1


def test_what_is_turned_off_is_the_link_of_operators_and_the_route() -> None:
    plugin = LosantReportPlugin()

    assert (optional_links(), plugin.fastapi_apps, plugin.flask_blueprints) == ((), [], [])


def test_the_plugin_costs_no_import_while_it_is_off() -> None:
    code = (
        "import json, sys; from airflow.providers.common.compat.sdk import AirflowPlugin, conf;"
        "before = set(sys.modules);"
        f"from {PACKAGE}.plugins.report import LosantReportPlugin; plugin = LosantReportPlugin();"
        "parts = [len(plugin.fastapi_apps), len(plugin.flask_blueprints)];"
        "print(json.dumps([parts, sorted(set(sys.modules) - before)]))"
    )

    parts, added = result_of(code, "False")

    assert parts == [0, 0]
    assert set(added) <= {PACKAGE, f"{PACKAGE}.plugins", f"{PACKAGE}.plugins.report"}


@pytest.mark.airflow(before="3.0")
def test_the_plugin_is_a_blueprint_on_airflow_2() -> None:
    code = (
        f"import json; from {PACKAGE}.plugins.report import LosantReportPlugin;"
        "plugin = LosantReportPlugin();"
        "print(json.dumps([plugin.fastapi_apps, [it.url_prefix for it in plugin.flask_blueprints]]))"
    )

    assert result_of(code, "True") == [[], ["/losant"]]


def result_of(code: str, setting: str) -> Any:
    """Run code in a process with the setting, and return the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"AIRFLOW__LOSANT__REPORT_LINKS": setting},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.usefixtures("served")
@BOTH_MODES
def test_a_failed_task_offers_the_error_log_if_there_is_no_report(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    losant.script(notebook, FAILED)
    ti = Ti()

    with pytest.raises(NotebookExecutionFailed):
        run(notebook, ti, deferrable=deferrable)

    assert {LINK, REFERENCE} <= set(ti.pushed)
    response = as_web_server(ti.pushed)
    assert urlsplit(response.headers["Location"]).path.endswith("/outputs/result.error.log")


@pytest.mark.usefixtures("served")
@BOTH_MODES
def test_an_execution_without_a_report_offers_none(losant: Emulator, notebook: str, deferrable: bool) -> None:
    losant.script(notebook, Script(notebook=0.03, files={"out.csv": b"a"}))

    assert not {LINK, REFERENCE} & set(run(notebook, deferrable=deferrable))


@pytest.mark.usefixtures("served")
def test_a_report_whose_name_the_result_has_no_room_for_is_offered(losant: Emulator, notebook: str) -> None:
    many = {f"{number:03}-{'x' * 100}.csv": b"a" for number in range(400)}
    losant.script(notebook, Script(notebook=0.03, files={**many, "result.html": b"<p>"}))

    pushed = run(notebook)

    assert as_web_server(pushed).status == 302


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_a_sensor_offers_the_report_of_the_execution_that_it_has_waited_for(
    notebook: str, deferrable: bool
) -> None:
    execution_id = run(notebook)["execution_id"]
    task = Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="report",
            notebook_id=notebook,
            execution_id=execution_id,
            deferrable=deferrable,
            poke_interval=0.02,
        )
    )

    task.run()

    assert task.ti.pushed[REFERENCE]["execution_id"] == execution_id
    assert as_web_server(task.ti.pushed).status == 302


@pytest.mark.usefixtures("served")
def test_the_iterations_of_a_loop_offer_none(notebook: str) -> None:
    loop = {"loop": object()}

    assert not {LINK, REFERENCE} & set(run(notebook, context=loop))


@pytest.mark.usefixtures("served")
def test_a_link_that_cannot_be_stored_does_not_fail_the_task(notebook: str, task_log: TaskLog) -> None:
    class Forgetful(Ti):
        def xcom_push(self, key: str, value: Any) -> None:
            if key == REFERENCE:
                raise OSError("the storage is away")
            super().xcom_push(key, value)

    pushed = run(notebook, Forgetful())

    assert LINK not in pushed
    assert "The link to the report could not be stored: the storage is away" in task_log()


# -- what the route responds ------------------------------------------------------------------------------


@pytest.mark.usefixtures("served")
def test_a_reader_is_sent_to_a_newly_signed_url_which_no_cache_keeps(losant: Emulator, notebook: str) -> None:
    pushed = run(notebook)

    response = as_web_server(pushed)

    assert response.status == 302
    assert response.headers["Location"].startswith(f"{losant.files_url}/")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.body == ""


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "no JSON",
        "[]",
        "null",
        {},
        [],
        7,
        {"application_id": "a" * 24, "notebook_id": "b" * 24, "execution_id": "c" * 24, "try_number": "1"},
        dict.fromkeys(("application_id", "notebook_id", "execution_id", "losant_conn_id", "try_number"), 1),
    ],
)
@pytest.mark.usefixtures("served")
def test_what_no_task_has_pushed_is_not_found(losant: Emulator, stored: Any) -> None:
    response = as_web_server({REFERENCE: stored})

    assert (response.status, response.body) == (404, as_web_server({}).body)
    assert losant.requests == []


@pytest.mark.parametrize("number", ["", "-2", "00", "1.0", "0x0", "9" * 30, "\u0663", " -1", "-1 ", "x"])
@pytest.mark.parametrize("part", ["map_index", "try_number"])
@pytest.mark.usefixtures("served")
def test_a_number_that_is_none_is_not_found(notebook: str, part: str, number: str) -> None:
    pushed = run(notebook)
    malformed = replace(PLACE, **{part: number})

    assert as_web_server(pushed, malformed).body == as_web_server({}).body


@pytest.mark.parametrize("place", range(3), ids=["dag", "run", "task"])
def test_what_a_database_takes_for_no_text_is_not_found_before_any_database_is_asked(place: int) -> None:
    parts = ["energy", "manual__2026-01-01", "report"]
    parts[place] += "%00"

    status, text = request("/report/{}/{}/{}/-1/1".format(*parts))

    assert (status, text) == (404, report_page.refusal(404).body)


def request(path: str) -> tuple[int, str]:
    """Send a request without a session to the route alone, in this process."""
    if AIRFLOW_3:
        client = import_module("starlette.testclient").TestClient(
            import_module(f"{PACKAGE}.plugins.report_fastapi").make_app()
        )
        response = client.get(path)
        return response.status_code, response.text
    app = import_module("flask").Flask("airflow")
    app.register_blueprint(import_module(f"{PACKAGE}.plugins.report_flask").make_blueprint())
    response = app.test_client().get(f"{URL_PREFIX}{path}")
    return response.status_code, response.text


@pytest.mark.usefixtures("served")
def test_the_link_of_a_try_never_opens_the_report_of_another_one(losant: Emulator, notebook: str) -> None:
    pushed = run(notebook, Ti(try_number=2))
    losant.clear_requests()

    assert as_web_server(pushed).status == 404
    assert losant.requests == []
    assert as_web_server(pushed, replace(PLACE, try_number="2")).status == 302


GONE, UNREACHABLE, UNUSABLE = (
    "no longer has this report",
    "may not be allowed to reach it",
    "cannot use the connection",
)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"password": "wrong"}, "refuses the API token"),
        ({"password": ""}, UNUSABLE),
        ({"conn_type": "http"}, UNUSABLE),
        ({"extra": "no JSON"}, UNUSABLE),
        ({"host": "http://127.0.0.1:9"}, UNREACHABLE),
    ],
    ids=["wrong token", "no token", "other type", "bad extra", "closed port"],
)
def test_a_connection_that_is_no_use_is_named_as_the_reason(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], text: str
) -> None:
    pushed = run(notebook)
    set_connection(monkeypatch, losant, **fields)

    assert_says(as_web_server(pushed), 502, text, losant)


@pytest.mark.usefixtures("served")
def test_a_connection_that_was_deleted_is_named_as_the_reason(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = run(notebook)
    monkeypatch.delenv("AIRFLOW_CONN_LOSANT_DEFAULT")

    assert_says(as_web_server(pushed), 502, UNUSABLE, losant)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("html"), UNREACHABLE),
        (Fault("server_error"), UNREACHABLE),
        (Fault("rate_limited"), "took too long"),
    ],
    ids=["web page", "503", "429"],
)
def test_what_losant_responds_instead_is_said_in_plain_words_after_one_request(
    losant: Emulator, notebook: str, caplog: pytest.LogCaptureFixture, fault: Fault, text: str
) -> None:
    pushed = run(notebook)
    losant.clear_requests()
    losant.inject("*", fault, 9)

    assert_says(as_web_server(pushed), 502, text, losant)
    assert len(losant.requests) == 1
    assert losant.token not in caplog.text
    assert "signature=" not in caplog.text


@pytest.mark.usefixtures("served")
def test_an_output_and_a_notebook_that_are_gone_are_not_found(losant: Emulator, notebook: str) -> None:
    pushed = run(notebook)
    (execution,) = losant.backend.executions(notebook)

    losant.backend.put(replace(execution, outputs={}))
    assert_says(as_web_server(pushed), 404, GONE, losant)
    losant.backend.delete(losant.backend.notebooks[notebook])
    assert_says(as_web_server(pushed), 404, GONE, losant)


def assert_says(response: report_page.Response, status: int, text: str, losant: Emulator) -> None:
    """Check that a page says why there is no report, and nothing that is none of its reader's business."""
    assert (response.status, "Location" in response.headers) == (status, False)
    assert text in response.body
    assert response.headers["Cache-Control"] == "no-store"
    for secret in (losant.token, losant.url, "signature=", "Traceback", "losant_default"):
        assert secret not in response.body


@pytest.mark.usefixtures("served")
def test_a_losant_that_sends_a_dangerous_url_sends_nobody_anywhere(losant: Emulator, notebook: str) -> None:
    pushed = run(notebook)
    losant.backend.files_url = "javascript:alert(1)//"

    response = as_web_server(pushed)

    assert (response.status, "Location" in response.headers) == (502, False)
    assert "alert" not in response.body


@pytest.mark.usefixtures("served")
def test_a_look_up_that_takes_too_long_is_given_up(
    notebook: str, monkeypatch: pytest.MonkeyPatch, losant: Emulator
) -> None:
    pushed = run(notebook)
    monkeypatch.setattr(report_page, "MAX_LOOKUP", -1.0)
    losant.clear_requests()

    response = as_web_server(pushed)

    assert (response.status, losant.requests) == (502, [])
    assert "took too long" in response.body


@pytest.mark.usefixtures("served")
def test_many_look_ups_are_refused_without_a_request(losant: Emulator, notebook: str) -> None:
    pushed = run(notebook)
    while (response := as_web_server(pushed)).status == 302:
        pass
    losant.clear_requests()

    response = as_web_server(pushed)

    assert (response.status, losant.requests) == (429, [])
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("served")
def test_a_database_that_fails_causes_a_page_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def read(_: Place) -> Any:
        raise RuntimeError("postgresql://airflow:secret@db")

    response = open_report(PLACE, "ada", read)

    assert response.status == 502
    assert "secret" not in response.body + caplog.text
