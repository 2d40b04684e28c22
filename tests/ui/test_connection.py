# SPDX-License-Identifier: Apache-2.0
"""A user makes a connection to Losant in Airflow's form, and tests it with the button next to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.hooks import connection_form
from example_dags.demo.checks import SEED
from tests.support.airflow_connection import connection
from tests.ui.browser import VIEWPORT
from tests.ui.conftest import APPLICATION

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.local_airflow import LocalAirflow
    from tests.ui.browser import Camera

pytestmark = [pytest.mark.airflow(since="3.3"), pytest.mark.xdist_group("other-airflow")]

MADE, WRONG = "losant_sites", "losant_wrong_token"
TALL = ViewportSize(width=VIEWPORT["width"], height=1200)
FLAT = ViewportSize(width=VIEWPORT["width"], height=480)


def test_the_form_has_our_fields_and_stores_them_where_the_hook_reads_them(
    page: Page, airflow: LocalAirflow, losant: Emulator, camera: Camera
) -> None:
    page.set_viewport_size(TALL)
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill(MADE)
    form.get_by_label("Connection Type").fill("Losant")
    page.get_by_role("option", name="Losant", exact=True).click()

    expect(form.get_by_label("API host")).to_have_attribute("placeholder", "https://api.losant.com")
    expect(form.get_by_label("API token")).to_have_attribute("type", "password")
    expect(labels(form)).to_have_text(["Description", "API host", "API token", "Port"])
    form.get_by_label("Description").fill("Notebooks of all sites")
    form.get_by_label("API token").fill(losant.token)
    camera("connection-form", form)
    host, _, port = losant.url.rpartition(":")
    form.get_by_label("API host").fill(host)
    form.get_by_label("Port").fill(port)

    form.get_by_role("button", name="Extra Fields", exact=True).click()
    declared = connection_form.provider_info_form()["conn-fields"]
    expect(labels(form)).to_have_text([it["label"] for it in declared.values()])
    for it in declared.values():
        expect(form.get_by_text(it["description"])).to_be_visible()
    form.locator("#element_application_id").fill(APPLICATION)
    camera("connection-form-extra", form)
    form.locator("#element_app_url").fill("https://losant.example.com/")
    form.get_by_label("Timeout in seconds").fill("12.5")
    form.get_by_label("Retries of a request").fill("2")
    form.get_by_text("Allow plain HTTP").click()
    form.locator("#element_verify").fill("false")
    form.get_by_role("button", name="Save").click()

    expect(page.get_by_role("row").filter(has_text=MADE)).to_be_visible()
    stored = airflow.request("GET", f"/connections/{MADE}")
    assert (stored["conn_type"], stored["login"] or None, stored["schema"] or None) == ("losant", None, None)
    read = Settings.from_connection(
        host=stored["host"],
        port=stored["port"],
        token=losant.token,
        extra=json.loads(stored["extra"]),
        user_agent="test",
    )
    assert read == Settings(
        token=losant.token,
        base_url=losant.url,
        application_id=APPLICATION,
        app_url="https://losant.example.com",
        timeout=12.5,
        max_retries=2,
        verify=False,
        user_agent="test",
    )
    assert json.loads(stored["extra"])["allow_http"] is True


def test_the_test_button_says_that_all_is_well(page: Page, losant: Emulator) -> None:
    page.goto("/connections")

    press_test(page, MADE)

    expect(page.get_by_text("Test Connection Successful")).to_be_visible()
    count = len(json.loads(SEED.read_text())["notebooks"])
    said = f"Connected to Losant: {count} notebooks in application {APPLICATION}"
    expect(page.get_by_text(said)).to_be_visible()
    assert losant.token not in page.content()


def test_the_test_button_says_what_is_wrong_with_a_token_and_never_shows_it(
    page: Page, airflow: LocalAirflow, losant: Emulator, camera: Camera
) -> None:
    host, _, port = losant.url.rpartition(":")
    wrong = connection(losant) | {"host": host, "port": int(port), "password": f"{losant.token}x"}
    airflow.add_connection(WRONG, **wrong)
    page.set_viewport_size(FLAT)
    page.goto("/connections")

    press_test(page, WRONG)

    expect(page.get_by_text("Test Connection Failed")).to_be_visible()
    expect(page.get_by_text("the API token is wrong, expired or revoked")).to_be_visible()
    camera("connection-test", page)
    assert losant.token not in page.content()


def labels(form: Locator) -> Locator:
    """Find the labels of the fields in the expanded part of the form."""
    return form.get_by_role("region").locator("[data-scope=field][data-part=label]")


def press_test(page: Page, conn_id: str) -> None:
    row = page.get_by_role("row").filter(has_text=conn_id)
    row.get_by_role("button", name="Test Connection").click()
