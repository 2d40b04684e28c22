# SPDX-License-Identifier: Apache-2.0
"""Notebooks as assets: their URIs and the extras of their events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_losant._compat import AIRFLOW_3, Asset, AssetAlias
from airflow_provider_losant.assets.notebook import (
    convert_asset_to_openlineage,
    create_asset,
    notebook_asset,
    sanitize_uri,
)
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import set_connection
from tests.provider.tasks import Task, Ti, context_of, outlet_events

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

APPLICATION = "575ec8687ae143cd83dc4a97"
NOTEBOOK = "5c782b8d4f3a8e51c1db42e4"
URI = f"losant://api.losant.com/{APPLICATION}/notebooks/{NOTEBOOK}"


# -- names ------------------------------------------------------------------------------------------------


def test_an_asset_of_a_notebook_is_named_by_host_application_and_notebook() -> None:
    assert create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION).uri == URI


def test_an_output_is_an_asset_below_its_notebook() -> None:
    asset = create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION, output="energy per/hour.csv")

    assert asset.uri == f"{URI}/outputs/energy%20per%2Fhour.csv"


def test_an_asset_has_the_name_and_the_group_that_are_given_where_airflow_has_them() -> None:
    ids: dict[str, Any] = {"notebook_id": NOTEBOOK, "application_id": APPLICATION}

    named = create_asset(**ids, name="energy report", group="energy")

    assert named.uri == URI
    if AIRFLOW_3:
        assert (named.name, named.group) == ("energy report", "energy")
        assert create_asset(**ids).name == URI


@pytest.mark.parametrize("host", ["api.eu.example:8443", "https://api.eu.example:8443"])
def test_another_host_is_another_asset(host: str) -> None:
    asset = create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION, host=host)

    assert asset.uri == f"losant://api.eu.example:8443/{APPLICATION}/notebooks/{NOTEBOOK}"


@pytest.mark.parametrize(
    "host",
    [
        "API.Losant.com",
        "api.losant.com:443",
        "api.losant.com.",
        "https://api.losant.com:443/",
        "http://api.losant.com.:80",
    ],
)
def test_each_spelling_of_a_host_is_the_same_asset(host: str) -> None:
    assert create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION, host=host).uri == URI


@pytest.mark.parametrize("host", ["https://", "api.losant.com/v1", "me@api.losant.com", "api losant com"])
def test_an_asset_with_an_invalid_host_is_refused_by_name(host: str) -> None:
    with pytest.raises(ValueError, match=r"^host: "):
        create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION, host=host)


def test_an_asset_with_an_ipv6_address_or_another_script_in_its_host_has_a_valid_uri() -> None:
    uris = [
        create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION, host=host).uri
        for host in ("::1", "https://lösant.example:8443")
    ]

    path = f"{APPLICATION}/notebooks/{NOTEBOOK}"
    assert uris == [f"losant://[::1]/{path}", f"losant://xn--lsant-jua.example:8443/{path}"]


@pytest.mark.parametrize(
    "host", ["API.Losant.com", "api.losant.com:443", "api.losant.com.", "api.losant.com.:443"]
)
def test_all_spellings_of_a_uri_name_the_same_asset(host: str) -> None:
    spelt = f"losant://{host}/{APPLICATION.upper()}/notebooks/{NOTEBOOK.upper()}"

    assert sanitize_uri(urlsplit(spelt)).geturl() == URI
    assert Asset(uri=spelt).uri == URI


@pytest.mark.parametrize(
    ("host", "port"),
    [("https://api.losant.com", 443), ("api.losant.com:443", None), ("API.losant.com.", None), (None, 443)],
)
def test_an_asset_has_the_same_uri_whatever_way_the_connection_spells_the_host(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, host: str | None, port: int | None
) -> None:
    set_connection(monkeypatch, losant, host=host, port=port)

    asset = notebook_asset(NOTEBOOK, application_id=APPLICATION)

    assert asset.uri == create_asset(notebook_id=NOTEBOOK, application_id=APPLICATION).uri


@pytest.mark.parametrize(
    "uri",
    [
        "losant://api.losant.com",
        f"losant:///{APPLICATION}/notebooks/{NOTEBOOK}",
        f"losant://api.losant.com/{APPLICATION}/notebooks/energy",
        f"losant://api.losant.com/{APPLICATION}/devices/{NOTEBOOK}",
        f"{URI}/outputs",
        f"{URI}/outputs/a/b",
        f"{URI}?since=yesterday",
    ],
)
def test_a_uri_that_names_no_notebook_is_refused_with_the_form_it_should_have(uri: str) -> None:
    with pytest.raises(ValueError, match="<API host>/<application id>/notebooks/<notebook id>"):
        sanitize_uri(urlsplit(uri))


def test_an_invalid_id_is_refused() -> None:
    with pytest.raises(ValueError, match="notebook_id: 'energy' is not a Losant id"):
        create_asset(notebook_id="energy", application_id=APPLICATION)


def test_a_connection_gives_an_asset_its_host_and_application(
    losant: Emulator, notebook: str, losant_connection: str
) -> None:
    host = losant.url.removeprefix("http://")

    asset = notebook_asset(notebook)

    assert asset.uri == f"losant://{host}/{losant.application_id}/notebooks/{notebook}"
    assert asset == notebook_asset(notebook, application_id=losant.application_id)


def test_a_connection_without_an_application_id_is_refused(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, extra={"application_id": ""})

    with pytest.raises(LosantConfigError, match="application_id: is missing"):
        notebook_asset(notebook)


def test_openlineage_knows_an_asset_by_the_api_and_the_path() -> None:
    dataset = convert_asset_to_openlineage(Asset(uri=URI), None)

    assert (dataset.namespace, dataset.name) == (
        "losant://api.losant.com",
        f"{APPLICATION}/notebooks/{NOTEBOOK}",
    )


# -- events -----------------------------------------------------------------------------------------------


def run(operator: Any, ti: Ti | None = None) -> tuple[Any, dict[str, Any]]:
    """Execute an operator; returns its result and its context afterwards."""
    context = {**context_of(ti or Ti()), "outlet_events": outlet_events()}
    return operator.execute(context), context


@pytest.mark.usefixtures("losant_connection")
def test_an_outlet_event_names_the_execution_that_caused_it(losant: Emulator, notebook: str) -> None:
    report, archive = notebook_asset(notebook), Asset(uri="s3://reports/energy")
    operator = LosantNotebookExecuteOperator(
        task_id="run",
        notebook_id=notebook,
        relative_to="2026-01-01T00:00:00Z",
        poll_interval=0.02,
        outlets=[report, archive],
    )

    result, context = run(operator)

    extra = context["outlet_events"][report].extra
    assert extra == context["outlet_events"][archive].extra
    assert extra["execution_id"] == result["execution_id"]
    assert extra["relative_to"] == "2026-01-01T00:00:00.000Z"
    assert extra["durations"] == result["durations"]
    assert {name: it["size"] for name, it in extra["outputs"].items()} == {"out.csv": 18, "result.html": 9}
    assert losant.files_url not in json.dumps(extra)


@pytest.mark.usefixtures("losant_connection")
def test_an_outlet_of_another_kind_is_left_alone(notebook: str) -> None:
    report = notebook_asset(notebook)
    operator = LosantNotebookExecuteOperator(
        task_id="run", notebook_id=notebook, poll_interval=0.02, outlets=["reports of energy", report]
    )

    result, context = run(operator)

    assert context["outlet_events"][report].extra["execution_id"] == result["execution_id"]


@pytest.mark.usefixtures("losant_connection")
def test_an_alias_gets_the_asset_of_the_notebook(losant: Emulator, notebook: str) -> None:
    alias = AssetAlias("energy")
    operator = LosantNotebookExecuteOperator(
        task_id="run", notebook_id=notebook, poll_interval=0.02, outlets=[alias]
    )

    result, context = run(operator)

    accessor = context["outlet_events"][alias]
    if AIRFLOW_3:
        (event,) = accessor.asset_alias_events
        named = event.dest_asset_key.uri, event.extra["execution_id"]
    else:
        (event,) = accessor.dataset_alias_events
        named = event["dest_dataset_uri"], event["extra"]["execution_id"]
    assert named == (notebook_asset(notebook).uri, result["execution_id"])


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_alias_gets_the_asset_that_a_dag_is_scheduled_on_whatever_way_the_connection_spells_the_host(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    port = urlsplit(losant.url).port
    set_connection(monkeypatch, losant, host="http://LOCALHOST.", port=port)
    alias, events = AssetAlias("energy"), outlet_events()
    scheduled_on = create_asset(
        notebook_id=notebook, application_id=losant.application_id, host=f"localhost:{port}"
    )

    Task(
        lambda: LosantNotebookExecuteOperator(
            task_id="run",
            notebook_id=notebook,
            poll_interval=0.02,
            deferrable=deferrable,
            outlets=[alias],
        ),
        more={"outlet_events": events},
    ).run()

    assert scheduled_on.uri in str(events[alias])


@pytest.mark.usefixtures("losant_connection")
def test_event_extras_set_by_the_user_are_kept(losant: Emulator, notebook: str) -> None:
    report = notebook_asset(notebook)
    operator = LosantNotebookExecuteOperator(
        task_id="run", notebook_id=notebook, poll_interval=0.02, outlets=[report]
    )
    context: Any = {**context_of(Ti()), "outlet_events": outlet_events()}
    context["outlet_events"][report].extra = {"status": "checked by hand", "by": "the night shift"}

    operator.execute(context)

    extra = context["outlet_events"][report].extra
    assert (extra["status"], extra["by"]) == ("checked by hand", "the night shift")
    assert extra["notebook_id"] == notebook


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize("waits", [True, False])
def test_an_event_names_the_execution_with_and_without_waiting(
    losant: Emulator, notebook: str, waits: bool
) -> None:
    report = notebook_asset(notebook)
    operator = LosantNotebookExecuteOperator(
        task_id="run",
        notebook_id=notebook,
        poll_interval=0.02,
        wait_for_completion=waits,
        outlets=[report],
    )

    result, context = run(operator)

    assert context["outlet_events"][report].extra["execution_id"] == result["execution_id"]


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sensor_fills_its_outlet_events_too(losant: Emulator, notebook: str, deferrable: bool) -> None:
    report = notebook_asset(notebook)
    events = outlet_events()
    execution = LosantHook().execute_notebook(notebook)
    task = Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await",
            notebook_id=notebook,
            execution_id=execution,
            poke_interval=0.02,
            deferrable=deferrable,
            outlets=[report],
        ),
        more={"outlet_events": events},
    )
    task.run()

    assert events[report].extra["execution_id"] == execution
