# SPDX-License-Identifier: Apache-2.0
"""The route of the link ``Open report`` in the web server of Airflow 2."""

from __future__ import annotations

from http import HTTPStatus
from importlib import import_module
from typing import Any

from airflow.models.xcom import XCom
from flask import Blueprint, request
from flask import Response as HttpResponse

from airflow_provider_losant.links.report import REPORT_KEY, URL_PREFIX
from airflow_provider_losant.plugins.report_page import Place, Response, open_report, refusal


def make_blueprint() -> Blueprint:
    """Return the blueprint, which Airflow registers without any authentication of its own."""
    blueprint = Blueprint("losant_report", __name__, url_prefix=URL_PREFIX)
    path = "/report/<dag_id>/<run_id>/<task_id>/<map_index>"
    blueprint.add_url_rule(path, view_func=report, provide_automatic_options=False)
    return blueprint


def report(dag_id: str, run_id: str, task_id: str, map_index: str) -> HttpResponse:
    """Redirect a reader of the DAG's XComs to the report."""
    if request.method != "GET":  # Flask adds HEAD by itself
        return _http(refusal(HTTPStatus.METHOD_NOT_ALLOWED))
    # These modules are gone in Airflow 3.
    models = import_module("airflow.auth.managers.models.resource_details")
    manager = import_module("airflow.www.extensions.init_auth_manager").get_auth_manager()
    if not manager.is_authorized_dag(
        method="GET", access_entity=models.DagAccessEntity.XCOM, details=models.DagDetails(id=dag_id)
    ):
        is_known = manager.is_logged_in()
        return _http(refusal(HTTPStatus.FORBIDDEN if is_known else HTTPStatus.UNAUTHORIZED))
    place = Place(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    user = manager.get_user_id() if manager.is_logged_in() else ""
    return _http(open_report(place, str(user), _read_xcom))


def _read_xcom(place: Place, map_index: int) -> Any:
    return XCom.get_one(
        key=REPORT_KEY,
        dag_id=place.dag_id,
        run_id=place.run_id,
        task_id=place.task_id,
        map_index=map_index,
    )


def _http(response: Response) -> HttpResponse:
    return HttpResponse(response.body, status=int(response.status), headers=dict(response.headers))
