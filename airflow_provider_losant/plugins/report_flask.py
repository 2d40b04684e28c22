# SPDX-License-Identifier: Apache-2.0
"""The route of the link ``Open report`` in the web server of Airflow 2, which alone imports its framework."""

from __future__ import annotations

from http import HTTPStatus
from importlib import import_module
from typing import Any

from airflow_provider_losant.links.report import REPORT_KEY, URL_PREFIX
from airflow_provider_losant.plugins.report_page import Place, Response, open_report, refusal


def make_blueprint() -> Any:
    """Return the blueprint, which Airflow registers without any authentication of its own."""
    from flask import Blueprint

    blueprint = Blueprint("losant_report", __name__, url_prefix=URL_PREFIX)
    blueprint.add_url_rule(Place.path("<%s>"), view_func=report, provide_automatic_options=False)
    return blueprint


def report(**parts: str) -> Any:
    """Redirect a reader of the DAG's XComs to the report."""
    from flask import request

    if request.method != "GET":  # Flask adds HEAD by itself
        return _http(refusal(HTTPStatus.METHOD_NOT_ALLOWED))
    place = Place(**parts)
    if not place.is_possible:
        return _http(refusal(HTTPStatus.NOT_FOUND))
    # These modules are gone in Airflow 3.
    models = import_module("airflow.auth.managers.models.resource_details")
    manager = import_module("airflow.www.extensions.init_auth_manager").get_auth_manager()
    is_known = manager.is_logged_in()
    if not manager.is_authorized_dag(
        method="GET", access_entity=models.DagAccessEntity.XCOM, details=models.DagDetails(id=place.dag_id)
    ):
        return _http(refusal(HTTPStatus.FORBIDDEN if is_known else HTTPStatus.UNAUTHORIZED))
    return _http(open_report(place, str(manager.get_user_id()) if is_known else "", _read_xcom))


def _read_xcom(place: Place) -> Any:
    from airflow.models.xcom import XCom

    return XCom.get_one(
        key=REPORT_KEY,
        dag_id=place.dag_id,
        run_id=place.run_id,
        task_id=place.task_id,
        map_index=int(place.map_index),
    )


def _http(response: Response) -> Any:
    from flask import Response as HttpResponse

    return HttpResponse(response.body, status=int(response.status), headers=dict(response.headers))
