# SPDX-License-Identifier: Apache-2.0
"""One DAG run by Airflow itself in this process: rendering, deferring, resuming, skipping and XComs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.emulator import Emulator, Request, Script
from airflow_provider_losant.hooks.losant import LosantHook
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"
MODES = ("poke", "reschedule", "deferred", "started")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The XComs and states after the DAG run."""

    states: Mapping[str, str]
    results: Mapping[str, Any]
    links: Mapping[str, Any]
    buttons: Mapping[str, Any]
    requests: list[Request]
    url: str
    logical_date: Any
    chosen: str

    def submission_of(self, task_id: str) -> dict[str, Any]:
        """Return the only submission of a task."""
        orders = [it.body for it in self.requests if it.operation == "notebook.execute"]
        (body,) = [it for it in orders if json.loads(it["templateContext"])["airflow"]["task_id"] == task_id]
        return dict(body)


@pytest.fixture(scope="module")
def finished(airflow_db: None) -> Iterator[Finished]:
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        set_connection(patch, losant, "losant_other", extra={"app_url": "https://ui.example"})
        yield run_in_process(losant)


def run_in_process(losant: Emulator) -> Finished:
    from tests.provider.dags.in_process import in_process

    good, bad = losant.add_notebook("Good"), losant.add_notebook("Bad")
    losant.script(good, BRIEF)
    losant.script(bad, Script(notebook=0.01, ending="errored", errors=(("ValueError", "boom"),)))
    failed = LosantHook().execute_notebook(bad)
    mixed, since = losant.add_notebook("Mixed"), datetime.now(UTC)
    wanted = {"site": "north", "nested": {"days": ["2026-03-05"], "count": 2, "more": None}}
    for script, context in [
        (Script(notebook=0.01, ending="errored"), wanted),
        (Script(notebook=0.01), wanted | {"site": "south"}),
        (Script(notebook=0.01), wanted | {"nested": {"count": 2}}),
        (BRIEF, wanted),
    ]:
        losant.script(mixed, script)
        chosen = LosantHook().execute_notebook(mixed, template_context=context)
        time.sleep(0.02)
    losant.clear_requests()
    given = {"notebook": good, "failed_notebook": bad, "failed_execution": failed, "site": "north"}
    given |= {"mixed_notebook": mixed, "since": since.isoformat(), "day": "2026-03-05"}
    run = in_process.test(
        run_conf={**given, "connection": "losant_other", "application": losant.application_id}
    )
    tasks = {ti.task_id: ti for ti in run.get_task_instances()}

    def pulled(key: str) -> dict[str, Any]:
        return {name: ti.xcom_pull(task_ids=name, key=key) for name, ti in tasks.items()}

    return Finished(
        states={name: str(ti.state) for name, ti in tasks.items()},
        results=pulled("return_value"),
        links=pulled("losant_notebook_link"),
        buttons={name: button(ti) for name, ti in tasks.items()},
        requests=losant.requests,
        url=f"https://ui.example/applications/{losant.application_id}/notebooks/{good}",
        logical_date=run.logical_date,
        chosen=chosen,
    )


def button(ti: Any) -> str | None:
    """Return the URL that Airflow's web server has for a task's link."""
    from tests.provider.dags.in_process import in_process

    dag: Any = in_process
    if AIRFLOW_3:
        serialization: Any = import_module("airflow.serialization.serialized_objects")
        kind = getattr(serialization, "DagSerialization", serialization.SerializedDAG)
        dag = kind.from_dict(kind.to_dict(in_process))
    address: str | None = dag.get_task(ti.task_id).get_extra_links(ti, "Open in Losant")
    return address


@pytest.mark.parametrize(
    "task_id", ["run_waiting", "run_deferred", "fire", *(f"await_{mode}" for mode in MODES)]
)
def test_every_way_to_run_and_wait_for_a_notebook_succeeds(finished: Finished, task_id: str) -> None:
    assert finished.states[task_id] == "success"


def test_each_operator_submitted_exactly_once(finished: Finished) -> None:
    orders = [it for it in finished.requests if it.operation == "notebook.execute"]

    assert len(orders) == 3
    assert {it.operation for it in finished.requests} == {"notebook.execute", "notebook.logs"}
    polls = [it.query for it in finished.requests if it not in orders]
    assert all("limit" in it for it in polls)
    # Without since only once in each mode: before a sensor decides that its execution does not exist.
    assert sum("since" not in it for it in polls) == len(MODES)


@pytest.mark.parametrize("task_id", ["run_waiting", "run_deferred"])
def test_templates_reach_losant_rendered(finished: Finished, task_id: str) -> None:
    submission_of = finished.submission_of(task_id)
    context = json.loads(submission_of["templateContext"])
    day = finished.logical_date.strftime("%Y-%m-%d")

    assert context.pop("airflow")["task_id"] == task_id
    assert context == {"site": "north", "nested": {"days": [day]}}
    assert submission_of["relativeTo"] == finished.logical_date.isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )
    assert submission_of["email"] == "north@energy.example"
    assert submission_of["callbackUrl"] == "https://hooks.example/north"


def test_a_waiting_and_a_deferred_task_get_the_same_result(finished: Finished) -> None:
    waiting, deferred = finished.results["run_waiting"], finished.results["run_deferred"]

    assert waiting.keys() == deferred.keys()
    for name in ("status", "notebook_id", "application_id", "relative_to", "inputs", "outputs", "url"):
        assert waiting[name] == deferred[name]
    assert waiting["durations"].keys() == deferred["durations"].keys()
    assert waiting["execution_id"] != deferred["execution_id"]
    assert waiting["url"] == finished.url


def test_a_result_has_the_outputs_of_the_execution_and_no_signed_url(finished: Finished) -> None:
    result = finished.results["run_deferred"]

    assert result["status"] == "completed"
    assert result["outputs"]["result.html"]["size"] == len(BRIEF.files["result.html"])
    assert "signature" not in json.dumps(finished.results).lower()
    assert "127.0.0.1" not in json.dumps(finished.results)


def test_every_task_has_its_link(finished: Finished) -> None:
    assert finished.links["run_waiting"] == finished.links["run_deferred"] == finished.url
    assert all(address.startswith("https://") for address in finished.links.values())
    assert finished.buttons == finished.links


def test_all_sensors_return_the_result_of_the_started_execution(finished: Finished) -> None:
    fired = finished.results["fire"]
    seen = [finished.results[f"await_{mode}"] for mode in MODES]

    assert seen == [seen[0]] * len(MODES)
    assert seen[0]["execution_id"] == fired["execution_id"]
    assert (fired["status"], seen[0]["status"]) == ("queued", "completed")
    assert seen[0].keys() == fired.keys()


def test_a_task_that_does_not_wait_never_defers_or_polls(finished: Finished) -> None:
    first = [it.operation for it in finished.requests if "fire" in json.dumps(it.body)]

    assert first == ["notebook.execute"]


@pytest.mark.parametrize("mode", MODES)
def test_a_soft_fail_sensor_is_skipped_when_the_execution_failed(finished: Finished, mode: str) -> None:
    assert finished.states[f"skip_{mode}"] == "skipped"


@pytest.mark.parametrize("mode", MODES)
def test_a_sensor_chooses_by_status_and_template_context(finished: Finished, mode: str) -> None:
    assert finished.states[f"choose_{mode}"] == "success"
    assert finished.results[f"choose_{mode}"]["execution_id"] == finished.chosen


@pytest.mark.parametrize("mode", MODES)
def test_a_sensor_fails_at_once_if_its_execution_does_not_exist(finished: Finished, mode: str) -> None:
    assert finished.states[f"unknown_{mode}"] == "failed"
