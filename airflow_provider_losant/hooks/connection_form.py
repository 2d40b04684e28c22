# SPDX-License-Identifier: Apache-2.0
"""
The connection form, said once for every Airflow, in the words of those that have it declared.

Airflow 3.2 and newer read it in the provider info, older ones ask the hook for widgets. Both load this
module early, so it imports nothing but defaults.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_losant.api import defaults

_NULLABLE_STRING = {"type": ["string", "null"]}


def declared() -> dict[str, Any]:
    """Declare the form, as a connection type of the provider info does."""
    return {"ui-field-behaviour": _usual_fields(), "conn-fields": _own_fields()}


def behaviour() -> dict[str, Any]:
    """Say what becomes of the fields that every connection has, as Airflow before 3.2 asks for it."""
    return {key.replace("-", "_"): value for key, value in _usual_fields().items()}


def widgets() -> dict[str, Any]:
    """Make the fields that only our connections have, as Airflow before 3.2 asks for them."""
    return {name: _widget(**field) for name, field in _own_fields().items()}


def _usual_fields() -> dict[str, Any]:
    return {
        # Extra as well: each thing in it has a field of its own, which would win over it.
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
    # No defaults here: the form would store them in each connection, out of reach of a later release.
    return {
        "application_id": {
            "label": "Application ID",
            "description": "The application used when a task names none: 24 hexadecimal digits.",
            "schema": {"type": ["string", "null"], "pattern": "^([0-9A-Fa-f]{24})?$"},
        },
        "app_url": {
            "label": "Web UI address",
            "description": f"Where the links of a task lead; {defaults.APP_URL} when empty.",
            "schema": _NULLABLE_STRING,
        },
        "timeout": {
            "label": "Timeout in seconds",
            "description": f"How long the host may stay silent within a request; {defaults.TIMEOUT:g} when "
            "empty.",
            "schema": {"type": ["number", "null"], "minimum": 0.1},
        },
        "max_retries": {
            "label": "Retries of a request",
            "description": "How often a request is sent again, where that is safe, before its error counts; "
            f"{defaults.MAX_RETRIES} when empty.",
            "schema": {"type": ["integer", "null"], "minimum": 0},
        },
        "allow_http": {
            "label": "Allow plain HTTP",
            "description": "Send the token unencrypted to a host that is not this machine. Leave it off.",
            "schema": {"type": ["boolean", "null"]},
        },
        "verify": {
            "label": "TLS verification",
            "description": "Path of a CA bundle, or false to trust any certificate. Empty: the usual checks.",
            "schema": _NULLABLE_STRING,
        },
    }


def _widget(*, label: str, description: str, schema: dict[str, Any]) -> Any:
    # Imported only now: not every Airflow has them, and some put stand-ins there before they ask.
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, StringField
    from wtforms.validators import NumberRange, Optional, Regexp

    kind = schema["type"][0]
    if kind == "boolean":
        return BooleanField(label, description=description)
    # Without Optional, an empty field of ours would refuse connections of every other type.
    rules: list[Any] = [Optional()]
    if "pattern" in schema:
        rules.append(Regexp(schema["pattern"]))
    if kind == "integer":
        rules.append(NumberRange(min=schema.get("minimum")))
    # Airflow knows no field for decimals; a text is read as a number later.
    make = IntegerField if kind == "integer" else StringField
    return make(label, validators=rules, description=description, widget=BS3TextFieldWidget())
