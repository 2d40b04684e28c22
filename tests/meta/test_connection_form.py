# SPDX-License-Identifier: Apache-2.0
"""The connection form that each Airflow makes of the installed provider shows the same fields and words."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.hooks import connection_form
from tests.support.installed import Run, json_in
from tests.support.paths import ROOT

AIRFLOW = Version(version("apache-airflow"))
USUAL = connection_form.provider_info_form()["ui-field-behaviour"]
OWN = connection_form.provider_info_form()["conn-fields"]

# What the web server of Airflow 3 responds when the form is opened.
FORM_OF_3 = """
import json, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    from airflow.providers_manager import ProvidersManager
    (form,) = [it for it in HookMetaService.hook_meta_data() if it.connection_type == "losant"]
    assert ProvidersManager().hooks["losant"].connection_testable
ours = [str(it.message) for it in said if "losant" in str(it.message).lower()]
print(json.dumps([form.model_dump(), ours]))
"""
# What the web server of Airflow 2 shows, and how it stores the fields that a user fills in.
FORM_OF_2 = """
import json, sys
from airflow.hooks.base import BaseHook
from airflow.providers_manager import ProvidersManager
from airflow.www.app import create_app
app = create_app(testing=True)
app.config["WTF_CSRF_ENABLED"] = False
app.config["AUTH_ROLE_PUBLIC"] = "Admin"
client = app.test_client()
page = client.get("/connection/add").get_data(as_text=True)
names = ProvidersManager().connection_form_widgets
empty = {name: "" for name in names if name.startswith("extra__losant__")}
def add(conn_id, **fields):
    given = empty | {"conn_id": conn_id, "conn_type": "losant"} | fields
    return client.post("/connection/add", data=given).status_code == 302
saved = add("losant_form", password="token", **json.loads(sys.argv[1]))
extra = BaseHook.get_connection("losant_form").extra_dejson
print(json.dumps({
    "page": page, "saved": saved, "extra": extra, "behaviour": ProvidersManager().field_behaviours["losant"],
    "bad_id_saved": add("losant_bad", extra__losant__application_id="mine"),
    "other_type_saved": add("other", conn_type="http"),
}))
"""


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 makes its form another way")
@pytest.mark.skipif(
    Version("3.1") > AIRFLOW and not find_spec("flask_appbuilder"),
    reason="Airflow 3.0 makes forms only where Flask-AppBuilder is installed",
)
@pytest.mark.timeout(180)
@pytest.mark.xdist_group("built-wheel")
def test_the_form_of_airflow_3_shows_the_declared_fields_and_labels(airflow: Run) -> None:
    form, warned = json_in(airflow("-c", FORM_OF_3))
    shown, own = form["standard_fields"], form["extra_fields"]

    assert {name: it["schema"]["title"] for name, it in own.items()} == {
        name: it["label"] for name, it in OWN.items()
    }
    assert {name: it["description"] for name, it in own.items()} == {
        name: it["description"] for name, it in OWN.items()
    }
    assert [it["value"] for it in own.values()] == [None] * len(OWN)
    assert shown["password"]["title"] == "API token"
    assert shown["host"]["placeholder"] == "https://api.losant.com"
    assert (shown["login"]["hidden"], shown["url_schema"]["hidden"]) == (True, True)
    assert warned == []


@pytest.mark.skipif(AIRFLOW_3, reason="Airflow 3 makes its form another way")
@pytest.mark.usefixtures("airflow_db")
@pytest.mark.xdist_group("built-wheel")
@pytest.mark.timeout(180)
def test_the_form_of_airflow_2_shows_the_fields_and_stores_them_unprefixed(airflow: Run) -> None:
    filled = '{"extra__losant__application_id": " 575ec8687ae143cd83dc4a97", "extra__losant__timeout": "2.5"}'

    seen = json_in(airflow("-W", "ignore", "-c", FORM_OF_2, filled))

    for name, it in OWN.items():
        assert f'name="extra__losant__{name}"' in seen["page"]
        assert it["label"] in seen["page"]
        assert it["description"] in seen["page"]
    assert seen["behaviour"]["hidden_fields"] == USUAL["hidden-fields"]
    assert seen["behaviour"]["relabeling"] == USUAL["relabeling"]
    assert seen["behaviour"]["placeholders"]["extra__losant__timeout"] == "30"
    assert seen["saved"]
    assert seen["extra"]["application_id"] == "575ec8687ae143cd83dc4a97"
    assert settings(seen["extra"]).timeout == 2.5
    assert not seen["bad_id_saved"]
    assert seen["other_type_saved"]


@pytest.mark.parametrize(
    "text", ["575ec8687ae143cd83dc4a97", "575EC8687AE143CD83DC4A97", "575ec8687ae143cd83dc4a9", "mine", ""]
)
def test_the_form_accepts_the_same_ids_as_the_hook_and_an_empty_field(text: str) -> None:
    pattern = OWN["application_id"]["schema"]["pattern"]

    assert bool(re.match(pattern, text)) == (text == "" or is_id(text))


def test_the_form_offers_exactly_the_fields_that_are_read() -> None:
    read = ROOT / "airflow_provider_losant" / "api" / "settings.py"

    assert set(re.findall(r'extra\.get\("(\w+)"', read.read_text())) == set(OWN)


def test_the_page_about_the_connection_lists_what_the_form_shows() -> None:
    page = (ROOT / "docs" / "get-started" / "connection.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \(([^)]+)\) \|", page, re.MULTILINE)

    labels = {name: it["label"] for name, it in OWN.items()} | USUAL["relabeling"] | {"port": "Port"}
    assert {name: label for name, label in rows if name in labels} == labels


def settings(extra: dict[str, Any]) -> Settings:
    return Settings.from_connection(host=None, port=None, token="token", extra=extra, user_agent="test")


def is_id(text: str) -> bool:
    try:
        return bool(losant_id(text, field="application_id"))
    except InvalidArgument:
        return False
