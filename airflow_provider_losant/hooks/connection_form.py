# SPDX-License-Identifier: Apache-2.0
"""
The form of a connection, defined once in the format of Airflow's provider info.

Airflow 3.2 and later read it from the provider info, earlier versions call methods of the hook. Both import
this module early, so it imports only the defaults.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_losant.api import defaults

_NULLABLE_STRING = {"type": ["string", "null"]}


def provider_info_form() -> dict[str, Any]:
    """Return the form in the format of a connection type in the provider info."""
    return {"ui-field-behaviour": _usual_fields(), "conn-fields": _own_fields()}


def behaviour() -> dict[str, Any]:  # before Airflow 3.2
    """Return which standard fields are hidden or renamed, in the format of Airflow before 3.2."""
    return {key.replace("-", "_"): value for key, value in _usual_fields().items()}


def widgets() -> dict[str, Any]:  # before Airflow 3.2
    """Return the fields of a Losant connection as widgets, for Airflow before 3.2."""
    return {name: _widget(**field) for name, field in _own_fields().items()}


def _usual_fields() -> dict[str, Any]:
    return {
        # "extra" too: each of its keys has a field of its own, which would overwrite it.
        "hidden-fields": ["login", "schema", "extra"],
        "relabeling": {"host": "API host", "password": "API token"},
        "placeholders": {
            "host": defaults.URL,
            "password": "an application API token",
            "application_id": "575ec8687ae143cd83dc4a97",
            "app_url": defaults.APP_URL,
            "timeout": f"{defaults.TIMEOUT:g}",
            "max_retries": f"{defaults.MAX_RETRIES}",
            "verify": "true",
        },
    }


def _own_fields() -> dict[str, Any]:
    # No defaults here: the form would store them in each connection, and no later release could change them.
    return {
        "application_id": {
            "label": "Application ID",
            "description": "Application of tasks that do not set application_id: 24 hexadecimal digits.",
            "schema": {"type": ["string", "null"], "pattern": "^([0-9A-Fa-f]{24})?$"},
        },
        "app_url": {
            "label": "Web UI address",
            "description": f"Address of the Losant web UI, for links of tasks. Default: {defaults.APP_URL}",
            "schema": _NULLABLE_STRING,
        },
        "timeout": {
            "label": "Timeout in seconds",
            "description": f"How long one request waits for a response. Default: {defaults.TIMEOUT:g}",
            "schema": {"type": ["number", "null"], "minimum": 0.1},
        },
        "max_retries": {
            "label": "Retries of a request",
            "description": "How often a failed request is sent again, where that is safe. Default: "
            f"{defaults.MAX_RETRIES}",
            "schema": {"type": ["integer", "null"], "minimum": 0},
        },
        "allow_http": {
            "label": "Allow plain HTTP",
            "description": "Allow http to a host other than this machine, which sends the token unencrypted.",
            "schema": {"type": ["boolean", "null"]},
        },
        "verify": {
            "label": "TLS verification",
            "description": "Path of a CA bundle, or false to accept any certificate. Default: true",
            "schema": _NULLABLE_STRING,
        },
    }


def _widget(*, label: str, description: str, schema: dict[str, Any]) -> Any:  # before Airflow 3.2
    # Imported late: not every Airflow has these modules, and some replace them before they call this.
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, StringField
    from wtforms.validators import NumberRange, Optional, Regexp

    kind = schema["type"][0]
    if kind == "boolean":
        return BooleanField(label, description=description)
    # Without Optional, an empty field would make connections of every other type invalid.
    rules: list[Any] = [Optional()]
    if "pattern" in schema:
        rules.append(Regexp(schema["pattern"]))
    if kind == "integer":
        rules.append(NumberRange(min=schema.get("minimum")))
    # Airflow has no field for decimals; the text is parsed as a number later.
    make = IntegerField if kind == "integer" else StringField
    return make(label, validators=rules, description=description, widget=BS3TextFieldWidget())
